"""What a run does, as a value, and whose turn it is in a conversation.

A conversation of K messages goes back and forth between the initiator (position 0 is its offer) and the other one.
With burst 1 it alternates; with burst B offer and answer are turns of one message each, all later turns have B:

    position   0      1       2 .. 1+B    2+B .. 1+2B    ...
    speaker    init   other   initiator   other          ...

All after the answer are candidates, unless a candidate could not be as long as is asked for: then offer and answer
alternate to the end, which the protocol calls renegotiation.
"""

from typing import Literal

import attrs

from curhat_trio.protocol.messages import CANDIDATE_CHARACTERS

Profile = Literal["v1", "legacy"]
SUBPROTOCOL = "curhat.v1"
Kind = Literal["offer", "answer", "candidate"]

LIFTED = {
    "CURHAT_MESSAGES_PER_SECOND": "1000000",
    "CURHAT_MESSAGE_BURST": "500",
    "CURHAT_BYTES_PER_SECOND": "1000000000",
    "CURHAT_BYTE_BURST": "1000000",
    "CURHAT_MAX_CONNECTIONS": "20000",
    "CURHAT_FIRST_MESSAGE_SECONDS": "900",
}
"""What a load must not meet, and a value that it does not meet: settings of a curhat_trio server."""


@attrs.frozen
class Plan:
    """The options of one run; `command.py` has seen to their bounds.

    Args:
        messages: Of a whole conversation, by both sides together.
        size: Bytes of JSON of one message; one whose label alone is longer is longer.
        idle: Connections held open that never join.
        hold: Seconds that the idle connections are only held, before anybody joins.
        churn: Seconds for which every client goes on with a new connection after each conversation; 0: one each.
        storm: All join at once; otherwise each once the one before it was told something.
        timeout: Seconds that any one wait may take.
    """

    pairs: int = 10
    messages: int = 20
    size: int = 300
    burst: int = 1
    idle: int = 0
    hold: float = 0.0
    churn: float = 0.0
    storm: bool = False
    profile: Profile = "v1"
    connect_parallel: int = 20
    server_pid: int | None = None
    timeout: float = 5.0

    @property
    def renegotiates(self) -> bool:
        """Offers and answers all along: no candidate is so long. Its JSON is longer than what is limited in it."""
        return self.size > CANDIDATE_CHARACTERS

    def kind(self, position: int) -> Kind:
        """What the message at this position of a conversation is."""
        if position > 1 and not self.renegotiates:
            return "candidate"
        return "answer" if position % 2 else "offer"

    def is_initiators(self, position: int) -> bool:
        """Whose turn it is."""
        turn = position if position < 2 else (position - 2) // self.burst
        return turn % 2 == 0

    def end_of_turn(self, position: int) -> int:
        """The first position that is no more of this turn."""
        if position < 2:
            return position + 1
        return min(self.messages, position + self.burst - (position - 2) % self.burst)
