"""The messages of a client that its server has to answer, and by when."""

import attrs

from curhat_trio.client.send_buffer import Outgoing
from curhat_trio.protocol import messages

ANSWER_SECONDS = 20.0
"""A server that does not answer for so long is taken for lost."""

_ANSWERS = {"join": "ready", "leave": "leave", "next": "leave", "ice": "ice", "ping": "pong", "resume": "resumed"}
"""Type of a message -> type of its answer (P-3.19)."""


@attrs.define
class PendingRequests:
    """The messages that were sent and not answered yet, in the order sent.

    Each has a deadline of its own, which neither another message nor any other data moves: a server that sends,
    but does not answer, is noticed as well as one that is gone.
    """

    _sent: dict[str, tuple[Outgoing, float]] = attrs.Factory(dict)
    """id -> the message, and the time from which its answer is awaited."""

    def add(self, outgoing: Outgoing, now: float) -> None:
        """Await the answer of a message that was sent, if it has one."""
        if outgoing.message.type in _ANSWERS:
            self._sent[outgoing.id] = outgoing, now

    def answer(self, message: messages.ServerMessage, session_id: str) -> Outgoing | None:
        """The message that this one answers; it is pending no longer. None if it answers none.

        Without an `id` it answers the oldest message whose answer has this type.
        """
        id = getattr(message, "id", None)
        if id is None:
            id = next((id for id, (sent, _) in self._sent.items() if _may_answer(message, sent, session_id)), "")
        sent, _ = self._sent.pop(id, (None, 0.0))
        return sent

    def restart(self, now: float, unsent: list[Outgoing]) -> None:
        """Await the answers from now on: nothing could be received until now. `unsent` has to be sent again."""
        for outgoing in unsent:
            self._sent.pop(outgoing.id, None)
        self._sent = {id: (outgoing, now) for id, (outgoing, _) in self._sent.items()}

    def clear(self) -> None:
        """Await nothing more: the session is lost."""
        self._sent.clear()

    @property
    def oldest(self) -> tuple[Outgoing, float] | None:
        """The message whose answer is awaited for the longest time, and since when."""
        return next(iter(self._sent.values()), None)


def _may_answer(message: messages.ServerMessage, sent: Outgoing, session_id: str) -> bool:
    if isinstance(message, messages.ErrorMessage):
        return message.ref == sent.message.type
    if isinstance(message, messages.Left) and message.from_ != session_id:
        return False
    return message.type == _ANSWERS[sent.message.type]
