"""What must always hold of the messages that a server sends to one client: spec/vectors/README.md, "What is
checked at all times".

A `SessionMonitor` gets every message of one session, and raises the rule that one breaks.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import orjson

from curhat_trio.conformance.server.sent_messages import AnswerMonitor, SentMessage, SentMessages
from curhat_trio.conformance.server.vectors import Profile
from curhat_trio.conformance.wire import Message, RuleViolation
from curhat_trio.protocol.codec import decode_server
from curhat_trio.protocol.errors import ErrorCode, Fault
from curhat_trio.protocol.messages import LEGACY_FROM_SERVER, RELAYED


@attrs.define
class SessionMonitor:
    """One session from its first message to its last, over however many connections.

    Args:
        profile: What the client has offered to be.
    """

    profile: Profile
    _messages: list[Message] = attrs.Factory(list)
    _own_id: Any = None
    _ready: Any = None
    """The room of the last `ready`."""
    _partner: Message | None = None
    """The `join` of the present pairing."""
    _rooms: set[Any] = attrs.Factory(set)
    """Of every `join` so far."""
    _left: set[Any] = attrs.Factory(set)
    """Of every `leave` so far."""
    _away: bool = False
    """The partner is away."""
    _answers: AnswerMonitor = attrs.Factory(AnswerMonitor)

    @property
    def sent(self) -> SentMessages:
        """What the client has sent in this session."""
        return self._answers.sent

    def receive(self, message: Message) -> None:
        """Check one message.

        Raises:
            RuleViolation: The server should not have sent it, or not like this.
        """
        self._messages.append(message)
        self._check_shape(message)
        if self.profile == "legacy":
            self._check_legacy(message)
        else:
            self._check_v1(message)
            self._answers.receive(message, self._own_id)
        kind = message.get("type")
        if kind == "ready":
            self._ready = message.get("roomId")
        elif kind == "join":
            self._check_join(message)
        elif kind in RELAYED:
            self._check_relayed(message)
        elif kind == "leave":
            self._check_leave(message)
        elif kind == "peer":
            self._check_presence(message)

    def sent_after_resume(self) -> list[SentMessage]:
        """What the client has sent over this connection after the `resume` that now succeeds."""
        return self._answers.sent_after_resume()

    def rewound_to(self, last_seq: int, heard: int, late: Sequence[SentMessage]) -> "SessionMonitor":
        """The same session as it was after so many messages: it is resumed there.

        Args:
            last_seq: The number of the last message that the client has.
            heard: How many messages of the client the server has received.
            late: What the client has sent over the new connection after `resume`.

        Raises:
            RuleViolation: It has not had so many.
        """
        if not 0 < last_seq <= len(self._messages):
            raise RuleViolation("P-13.3", f"resumed after message {last_seq}, which this session has never had")
        monitor = SessionMonitor(self.profile, answers=AnswerMonitor(self.sent.resumed(heard, late)))
        for message in self._messages[:last_seq]:
            monitor.receive(message)
        return monitor

    def _check_shape(self, message: Message) -> None:
        fault = decode_server(orjson.dumps(message))
        if isinstance(fault, Fault) and fault.code is not ErrorCode.UNKNOWN_TYPE:
            raise RuleViolation("", f"not valid by spec/generated/schemas: {fault.message}")

    def _check_v1(self, message: Message) -> None:
        count = len(self._messages)
        if message.get("seq") != count:
            raise RuleViolation("P-3.9", f"expected seq {count}, not {message.get('seq')!r}")
        if (message.get("type") == "welcome") != (count == 1):
            raise RuleViolation("P-2.6", "expected welcome as the first message, and only once")
        if count == 1:
            self._own_id = message.get("sessionId")

    def _check_legacy(self, message: Message) -> None:
        if message.get("type") not in LEGACY_FROM_SERVER:
            raise RuleViolation("P-10.1", f"a legacy client does not know {message.get('type')!r}")
        if "seq" in message:
            raise RuleViolation("P-10.1", "expected no seq in a message to a legacy client")

    def _check_join(self, message: Message) -> None:
        room = message.get("roomId")
        if room in self._rooms:
            raise RuleViolation("P-3.12", "the roomId of this join was used before")
        if room != self._ready:
            raise RuleViolation("P-3.11", "expected join in the room of the last ready")
        if self._partner is not None and self.profile == "v1":
            raise RuleViolation("P-4.5", "a second join, but no leave since the first")
        if message.get("polite") != (message.get("role") == "answerer"):
            raise RuleViolation("P-5.1", "expected the answerer to be polite, and the offerer not")
        topics = message["topics"]
        if topics != sorted({topic.strip().casefold() for topic in topics}):
            raise RuleViolation("P-3.22", "expected topics trimmed, case-folded, each once and in order")
        self._rooms.add(room)
        self._partner, self._away = message, False

    def _check_presence(self, message: Message) -> None:
        away = message.get("state") == "away"
        if self._partner is None:
            raise RuleViolation("P-13.2", "peer outside any pairing")
        if (message.get("from"), message.get("roomId")) != (self._partner["from"], self._partner["roomId"]):
            raise RuleViolation("P-13.2", "peer has another from or roomId than the last join")
        if away == self._away:
            raise RuleViolation("P-13.2", f"the partner was {message.get('state')} already")
        self._away = away

    def _check_relayed(self, message: Message) -> None:
        partner, kind = self._partner, message.get("type")
        if partner is None:
            raise RuleViolation("P-3.13", f"{kind} outside any pairing")
        if message.get("roomId") != partner.get("roomId") or message.get("from") != partner.get("from"):
            raise RuleViolation("P-3.10", f"{kind} has another from or roomId than the last join")
        if message.get("username") != partner.get("username"):
            raise RuleViolation("P-3.10", f"{kind} has another username than the last join")
        if self._own_id is None:
            self._own_id = message.get("to")
        if message.get("to") != self._own_id:
            raise RuleViolation("P-3.10", f"{kind}: to is not this client")

    def _check_leave(self, message: Message) -> None:
        room = message.get("roomId")
        if room in self._left:
            raise RuleViolation("P-4.5", "a second leave for the same room")
        self._left.add(room)
        if self._partner is not None and room == self._partner.get("roomId"):
            if message.get("from") not in (self._partner.get("from"), self._own_id):
                raise RuleViolation("P-4.5", "a leave from a client outside this pairing")
            self._partner = None
        elif self.profile == "v1" and (room != self._ready or message.get("from") != self._own_id):
            raise RuleViolation("P-4.5", "a leave that belongs to no wait and no pairing of this client")
