"""The messages that a client has sent and that may have to be sent again."""

from collections import deque

import attrs
import trio

from curhat_trio.protocol import messages

_END_OF_PAIRING = (messages.Leave, messages.Next, messages.Join)
_FOR_PAIRING = (*messages.RELAYED.values(), messages.Status)


@attrs.frozen
class Outgoing:
    """A message of the client as it is sent."""

    id: str
    """The server's answer, and its errors, have the same `id` (P-3.19)."""
    message: messages.ClientMessage
    text: str
    is_own: bool = False
    """The library sends it for itself; the user does not know of it."""
    first_number: int | None = None
    """If the server has dropped it before (P-7.7): its number when it was sent first."""


@attrs.define
class SendBuffer:
    """Messages numbered from 1 in each session, as the server counts them in `heard` (P-13.4).

    So only what really is sent may be added. A message is kept until a `pong` counts it, because only then it is
    certain that no error about it is still to come: `resumed` counts also what was dropped (P-7.4).
    """

    messages: deque[Outgoing] = attrs.Factory(deque)
    forgotten: int = 0
    """How many messages of the session are no longer in the buffer."""
    sent: int = 0
    """How many were sent over the present connection, or received before it."""
    changed: trio.Event = attrs.Factory(trio.Event)
    """Set, and replaced by another one, at every change."""

    @property
    def count(self) -> int:
        """How many were added in this session."""
        return self.forgotten + len(self.messages)

    def append(self, outgoing: Outgoing) -> None:
        """Add a message that is to be sent."""
        self.messages.append(outgoing)
        self._change()

    @property
    def next(self) -> Outgoing | None:
        """The next message to send; None if all are sent."""
        return None if self.sent >= self.count else self.messages[self.sent - self.forgotten]

    def mark_sent(self) -> None:
        """Count `next` as sent."""
        self.sent += 1

    def acknowledge(self, count: int) -> None:
        """Drop the first `count` messages of the session: the server has dealt with them."""
        for _ in range(min(count, self.sent) - self.forgotten):
            self.messages.popleft()
            self.forgotten += 1
        self._change()

    def resume(self, received: int) -> list[Outgoing]:
        """Go on after the first `received` messages: the session has another connection.

        Returns:
            The messages that were lost with the old connection, or not sent over it.
        """
        self.sent = min(max(received, self.forgotten), self.count)
        self._change()
        return list(self.messages)[self.sent - self.forgotten :]

    def send_again(self, id: str) -> bool:
        """Send a message again that the server has dropped, before all that was first sent after it (P-7.7).

        Returns:
            False if there is none with this id, or if its pairing is over: it must not reach another partner.
        """
        place = self._find(id)
        if place is None or not self._is_still_meant(place):
            return False
        number = self._first_number(place)
        again = self.sent - self.forgotten
        while again < len(self.messages) and (self.messages[again].first_number or number) < number:
            again += 1
        self.messages.insert(again, attrs.evolve(self.messages[place], first_number=number))
        self._change()
        return True

    def has_overtaken(self, id: str) -> bool:
        """Whether a message was sent after one that the server has dropped, and before that was sent again."""
        place = self._find(id)
        if place is None:
            return False
        number = self._first_number(place)
        return any((later.first_number or number) < number for later in list(self.messages)[place + 1 :])

    def is_forgotten(self, id: str) -> bool:
        """Whether a message that was sent is no longer in the buffer: the server has dealt with it."""
        return all(outgoing.id != id for outgoing in self.messages)

    def clear(self) -> None:
        """Drop everything and count from 1: the session is lost."""
        self.messages.clear()
        self.forgotten = self.sent = 0
        self._change()

    def _find(self, id: str) -> int | None:
        """The place of the message with this id that was sent last."""
        places = range(self.sent - self.forgotten)
        return next((place for place in reversed(places) if self.messages[place].id == id), None)

    def _first_number(self, place: int) -> int:
        return self.messages[place].first_number or self.forgotten + place + 1

    def _is_still_meant(self, place: int) -> bool:
        if not isinstance(self.messages[place].message, _FOR_PAIRING):
            return True
        sent_later = list(self.messages)[place + 1 : self.sent - self.forgotten]
        return not any(isinstance(later.message, _END_OF_PAIRING) for later in sent_later)

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
