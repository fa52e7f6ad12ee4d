"""What is true of everything that a server tells one client, whatever the conversation: spec/vectors/README.md,
Always. A `Witness` hears one session and objects with the rule that was broken.
"""

from typing import Any

import attrs
import orjson

from curhat_trio.conformance.server.vectors import Profile
from curhat_trio.conformance.wire import Breach, Message
from curhat_trio.protocol.codec import decode_server
from curhat_trio.protocol.errors import ErrorCode, Fault
from curhat_trio.protocol.messages import LEGACY_FROM_SERVER

_RELAYED = frozenset({"offer", "answer", "candidate", "chat", "typing"})


@attrs.define
class Witness:
    """One session from its first message to its last, over however many connections.

    Args:
        profile: What the client has offered to be.
    """

    profile: Profile
    _heard: list[Message] = attrs.Factory(list)
    _own_id: Any = None
    _ready: Any = None
    """The room of the last `ready`."""
    _partner: Message | None = None
    """The `join` of the pairing that is not over yet."""
    _rooms: set[Any] = attrs.Factory(set)
    """Of every `join` so far."""
    _left: set[Any] = attrs.Factory(set)
    """Of every `leave` so far."""
    _away: bool = False
    """The partner is, and has not been told to be back."""

    def hear(self, message: Message) -> None:
        """One message.

        Raises:
            Breach: It should not have been said, or not like this.
        """
        self._heard.append(message)
        self._check_shape(message)
        if self.profile == "legacy":
            self._check_legacy(message)
        else:
            self._check_v1(message)
        kind = message.get("type")
        if kind == "ready":
            self._ready = message.get("roomId")
        elif kind == "join":
            self._check_join(message)
        elif kind in _RELAYED:
            self._check_relayed(message)
        elif kind == "leave":
            self._check_leave(message)
        elif kind == "peer":
            self._check_presence(message)

    def rewound(self, last_seq: int) -> "Witness":
        """The same session as it was after so many messages: it is resumed there.

        Raises:
            Breach: It has never come so far.
        """
        if not 0 < last_seq <= len(self._heard):
            raise Breach("P-13.3", f"resumed after message {last_seq}, which this session has never said")
        witness = Witness(self.profile)
        for message in self._heard[:last_seq]:
            witness.hear(message)
        return witness

    def _check_shape(self, message: Message) -> None:
        fault = decode_server(orjson.dumps(message))
        if isinstance(fault, Fault) and fault.code is not ErrorCode.UNKNOWN_TYPE:
            raise Breach("", f"not of the shape in spec/generated/schemas: {fault.message}")

    def _check_v1(self, message: Message) -> None:
        count = len(self._heard)
        if message.get("seq") != count:
            raise Breach("P-3.9", f"expected seq {count}, not {message.get('seq')!r}")
        if (message.get("type") == "welcome") != (count == 1):
            raise Breach("P-2.6", "expected welcome as the first message and never again")
        if count == 1:
            self._own_id = message.get("sessionId")

    def _check_legacy(self, message: Message) -> None:
        if message.get("type") not in LEGACY_FROM_SERVER:
            raise Breach("P-10.1", f"a legacy client does not know {message.get('type')!r}")
        if "seq" in message:
            raise Breach("P-10.1", "a legacy client is not told seq")

    def _check_join(self, message: Message) -> None:
        room = message.get("roomId")
        if room in self._rooms:
            raise Breach("P-3.12", "the roomId of this join was used before")
        if room != self._ready:
            raise Breach("P-3.11", "expected join in the room of the last ready")
        if self._partner is not None and self.profile == "v1":
            raise Breach("P-4.5", "a second join, but no leave since the first")
        if message.get("polite") != (message.get("role") == "answerer"):
            raise Breach("P-5.1", "expected the answerer to be polite, and the offerer not")
        self._rooms.add(room)
        self._partner, self._away = message, False

    def _check_presence(self, message: Message) -> None:
        away = message.get("state") == "away"
        if self._partner is None:
            raise Breach("P-13.2", "peer came outside any pairing")
        if away == self._away:
            raise Breach("P-13.2", f"the partner was {message.get('state')} already")
        self._away = away

    def _check_relayed(self, message: Message) -> None:
        partner = self._partner
        if partner is None:
            raise Breach("P-3.13", f"{message.get('type')} came outside any pairing")
        if message.get("roomId") != partner.get("roomId") or message.get("from") != partner.get("from"):
            raise Breach("P-3.10", f"{message.get('type')} tells another from or roomId than the last join")
        if message.get("username") != partner.get("username"):
            raise Breach("P-3.10", f"{message.get('type')} tells another username than the last join")
        if self._own_id is None:
            self._own_id = message.get("to")
        if message.get("to") != self._own_id:
            raise Breach("P-3.10", f"{message.get('type')}: to is not this client")

    def _check_leave(self, message: Message) -> None:
        room = message.get("roomId")
        if room in self._left:
            raise Breach("P-4.5", "a second leave for the same room")
        self._left.add(room)
        if self._partner is not None and room == self._partner.get("roomId"):
            if message.get("from") not in (self._partner.get("from"), self._own_id):
                raise Breach("P-4.5", "a leave from somebody who is not in this pairing")
            self._partner = None
        elif self.profile == "v1" and (room != self._ready or message.get("from") != self._own_id):
            raise Breach("P-4.5", "a leave that belongs to no wait and no pairing of this client")
