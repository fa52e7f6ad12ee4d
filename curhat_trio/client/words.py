"""What a client has said and its server may not have heard."""

from collections import deque

import attrs
import trio


@attrs.define
class Words:
    """What was said and may not have been heard, numbered as the server counts it."""

    kept: deque[str] = attrs.Factory(deque)
    first: int = 0
    """How many were said before those that are kept."""
    sent: int = 0
    """How many were sent over the present connection, or heard before it."""
    changed: trio.Event = attrs.Factory(trio.Event)

    @property
    def count(self) -> int:
        """How many were said in this session."""
        return self.first + len(self.kept)

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def add(self, text: str) -> None:
        self.kept.append(text)
        self._change()

    def next(self) -> str | None:
        """The next one to send, which counts as sent."""
        if self.sent >= self.count:
            return None
        self.sent += 1
        return self.kept[self.sent - self.first - 1]

    def are_heard(self, count: int) -> None:
        """The server has read so many."""
        for _ in range(min(count, self.count) - self.first):
            self.kept.popleft()
            self.first += 1
        self._change()

    def begin_again(self, heard: int) -> None:
        """On another connection, with what comes after those."""
        self.are_heard(heard)
        self.sent = max(heard, self.first)

    def forget(self) -> None:
        """The session is lost."""
        self.kept.clear()
        self.first = self.sent = 0
        self._change()
