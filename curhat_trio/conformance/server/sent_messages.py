"""What one client has sent, as the kit counts it: an answer must repeat the `id` of its message [P-3.19], and
`heard` must count right [P-13.15].
"""

import json
import re
from collections.abc import Sequence

import attrs

from curhat_trio.conformance.wire import ANSWERED_BY, Message, RuleViolation

_LONGEST_ID = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


@attrs.frozen
class SentMessage:
    """One text message of the client."""

    type: str | None
    """None if the text has none."""
    id: str | None
    count: int
    """How many messages the session has been sent with this one, but for `resume`."""


@attrs.define
class SentMessages:
    """The text messages that were sent in one session."""

    messages: list[SentMessage] = attrs.Factory(list)
    is_complete: bool = True
    """Whether the kit knows all of them: it does not look into bytes that are sent as they are."""

    @property
    def count(self) -> int:
        """How many there were, but for `resume`."""
        return self.messages[-1].count if self.messages else 0

    def add(self, text: str) -> None:
        """The client sends this."""
        type, id = _identify(text)
        self.messages.append(SentMessage(type, id, self.count + (type != "resume")))

    def resumed(self, heard: int, late: Sequence[SentMessage]) -> "SentMessages":
        """Those of the session after it was resumed: what the server has not received was lost, and what was sent
        `late`, over the new connection after `resume`, follows.

        Raises:
            RuleViolation: The server claims to have received more than was sent.
        """
        if self.is_complete and heard > self.count:
            raise RuleViolation("P-13.15", f"resumed.heard is {heard}, but only {self.count} messages were sent")
        after = SentMessages([each for each in self.messages if each.count <= heard], self.is_complete)
        for message in late:
            after.messages.append(attrs.evolve(message, count=after.count + (message.type != "resume")))
        return after


@attrs.define
class AnswerMonitor:
    """Compares the answers of one session with what was sent."""

    sent: SentMessages = attrs.Factory(SentMessages)
    _answered_pings: int = 0
    _refused_resumes: int = 0
    _heard: int = 0

    def sent_after_resume(self) -> list[SentMessage]:
        """What was sent over this connection after the `resume` that now succeeds."""
        resumes = [number for number, each in enumerate(self.sent.messages) if each.type == "resume"]
        return (
            self.sent.messages[resumes[self._refused_resumes] + 1 :]
            if self._refused_resumes < len(resumes)
            else []
        )

    def receive(self, message: Message, own_id: str | None) -> None:
        """Check one message of the server.

        Raises:
            RuleViolation: Its `id` or its `heard` is wrong.
        """
        kind = message.get("type")
        if kind == "pong":
            self._check_pong(message)
        elif kind == "error" and isinstance(message.get("ref"), str):
            if message["ref"] == "resume" and message.get("code") in ("bad_message", "unsupported"):
                self.sent.is_complete = False  # a server may count a `resume` that it can't read
            self._answered_pings += message["ref"] == "ping"
            self._refused_resumes += message["ref"] == "resume"
            self._check_id(message, (message["ref"],))
        elif kind == "leave" and message.get("from") != own_id:
            self._check_no_id(message)
        elif kind in ANSWERED_BY:
            self._check_id(message, ANSWERED_BY[str(kind)])

    def _check_pong(self, message: Message) -> None:
        heard = message.get("heard")
        if not isinstance(heard, int) or heard < self._heard:
            raise RuleViolation("P-13.15", f"pong.heard is {heard!r} after {self._heard}; it never decreases")
        self._heard = heard
        pings = [each for each in self.sent.messages if each.type == "ping"]
        number, self._answered_pings = self._answered_pings, self._answered_pings + 1
        if not self.sent.is_complete:
            return
        if number >= len(pings):
            raise RuleViolation("P-3.8", f"pong number {number + 1}, but only {len(pings)} pings were sent")
        if heard != pings[number].count:
            raise RuleViolation("P-13.15", f"expected pong.heard {pings[number].count}, not {heard}")
        if message.get("id") != pings[number].id:
            raise RuleViolation("P-3.19", f"expected pong.id {pings[number].id!r}, not {message.get('id')!r}")

    def _check_id(self, message: Message, answered: tuple[str, ...]) -> None:
        """Its id is that of a message of one of these types; only `ready` may answer none."""
        ids = {each.id for each in self.sent.messages if each.type in answered}
        if message["type"] == "ready":
            ids.add(None)
        if self.sent.is_complete and ids and message.get("id") not in ids:
            raise RuleViolation("P-3.19", f"{message['type']} has an id that no {' or '.join(answered)} had")

    def _check_no_id(self, message: Message) -> None:
        if message.get("id") is not None:
            raise RuleViolation("P-3.19", f"{message['type']} has an id, but it is no answer")


def _identify(text: str) -> tuple[str | None, str | None]:
    """The `type` and `id` of a message, as far as a server can read them."""
    try:
        value = json.loads(text)
    except ValueError:
        return None, None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return None, None
    id = value.get("id")
    if not isinstance(id, str) or len(id) > _LONGEST_ID:
        return value["type"], None
    return value["type"], _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", id)
