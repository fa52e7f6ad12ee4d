"""What a client has sent and its server is not known to have received."""

from collections import deque

import attrs
import trio


@attrs.define
class SendBuffer:
    """The messages that may not have been received, numbered from 1 in each session, as the server counts them."""

    messages: deque[str] = attrs.Factory(deque)
    received: int = 0
    """How many the server has received; they are no longer in the buffer."""
    sent: int = 0
    """How many were sent over the present connection, or received before it."""
    changed: trio.Event = attrs.Factory(trio.Event)
    """Set, and replaced by another one, at every change."""

    @property
    def count(self) -> int:
        """How many there were in this session."""
        return self.received + len(self.messages)

    def append(self, text: str) -> None:
        """Add one that is to be sent."""
        self.messages.append(text)
        self._change()

    def next(self) -> str | None:
        """The next one to send, which counts as sent; None: all are."""
        if self.sent >= self.count:
            return None
        self.sent += 1
        return self.messages[self.sent - self.received - 1]

    def acknowledge(self, count: int) -> None:
        """The server has received so many."""
        for _ in range(min(count, self.count) - self.received):
            self.messages.popleft()
            self.received += 1
        self._change()

    def resume(self, received: int) -> None:
        """Go on over another connection, with what comes after those."""
        self.acknowledge(received)
        self.sent = max(received, self.received)

    def clear(self) -> None:
        """The session is lost."""
        self.messages.clear()
        self.received = self.sent = 0
        self._change()

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
