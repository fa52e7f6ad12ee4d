"""The options of a run as a value, and whose turn it is in a conversation.

A conversation of K messages goes back and forth between the initiator, which sends the offer at position 0, and
the other client. With burst 1 it alternates; with burst B offer and answer are turns of one message each, and all
later turns have B:

    position   0      1       2 .. 1+B    2+B .. 1+2B    ...
    sender     init   other   initiator   other          ...

All messages after the answer are candidates, unless the requested size exceeds the limit for candidates: then
offers and answers alternate to the end (renegotiation).
"""

from typing import Literal

import attrs

from curhat_trio.protocol.messages import CANDIDATE_CHARACTERS

Profile = Literal["v1", "legacy"]
SUBPROTOCOL = "curhat.v1"
Kind = Literal["offer", "answer", "candidate"]

LIFTED_LIMITS = {
    "CURHAT_MESSAGES_PER_SECOND": "1000000",
    "CURHAT_MESSAGE_BURST": "500",
    "CURHAT_BYTES_PER_SECOND": "1000000000",
    "CURHAT_BYTE_BURST": "1000000",
    "CURHAT_MAX_CONNECTIONS": "20000",
    "CURHAT_FIRST_MESSAGE_SECONDS": "900",
}
"""Settings of a curhat_trio server whose limits a load must not hit, and values that it doesn't."""


@attrs.frozen
class Plan:
    """The options of one run; `command.py` checks their ranges.

    Args:
        messages: Number in a whole conversation, both directions together.
        size: Bytes of one message as JSON, unless its label needs more.
        idle: Number of connections that never join.
        hold: Seconds to hold the idle connections before the first client joins.
        churn: Seconds for which every client starts over after each conversation; 0: one conversation each.
        storm: All clients join at once, rather than each after the previous one has an answer.
        timeout: Seconds to wait for any one message.
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
        """Whether there are only offers and answers, because the size exceeds the limit for candidates."""
        return self.size > CANDIDATE_CHARACTERS

    def kind(self, position: int) -> Kind:
        """The type of the message at this position of a conversation."""
        if position > 1 and not self.renegotiates:
            return "candidate"
        return "answer" if position % 2 else "offer"

    def is_initiators(self, position: int) -> bool:
        """Whether the initiator sends the message at this position."""
        turn = position if position < 2 else (position - 2) // self.burst
        return turn % 2 == 0

    def end_of_turn(self, position: int) -> int:
        """The first position after the turn of this position."""
        if position < 2:
            return position + 1
        return min(self.messages, position + self.burst - (position - 2) % self.burst)
