"""The messages that a client has sent and that its server is not known to have received."""

from collections import deque

import attrs
import trio


@attrs.define
class SendBuffer:
    """Messages that may have to be sent again after a resume, numbered from 1 in each session, as the server does.

    The server counts them in `resumed.heard` (P-13.4), so only what really is sent may be added.
    """

    messages: deque[str] = attrs.Factory(deque)
    received: int = 0
    """How many the server has received; they are no longer in the buffer."""
    sent: int = 0
    """How many were sent over the present connection, or received before it."""
    changed: trio.Event = attrs.Factory(trio.Event)
    """Set, and replaced by another one, at every change."""

    @property
    def count(self) -> int:
        """How many were added in this session."""
        return self.received + len(self.messages)

    def append(self, text: str) -> None:
        """Add a message that is to be sent."""
        self.messages.append(text)
        self._change()

    def next(self) -> str | None:
        """The next message to send, which counts as sent from now on; None if all are."""
        if self.sent >= self.count:
            return None
        self.sent += 1
        return self.messages[self.sent - self.received - 1]

    def acknowledge(self, count: int) -> None:
        """Drop the first `count` messages of the session: the server has received them."""
        for _ in range(min(count, self.count) - self.received):
            self.messages.popleft()
            self.received += 1
        self._change()

    def resume(self, received: int) -> None:
        """Start again after the first `received` messages: the session has another connection."""
        self.acknowledge(received)
        self.sent = max(received, self.received)

    def clear(self) -> None:
        """Drop everything and count from 1: the session is lost."""
        self.messages.clear()
        self.received = self.sent = 0
        self._change()

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
