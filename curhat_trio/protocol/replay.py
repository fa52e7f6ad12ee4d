"""What a client may have missed: the last messages sent to it, in order, within bounds."""

from collections.abc import Sequence

MESSAGES = 128
BYTES = 1 << 18


class ReplayBuffer:
    """Keeps the messages sent last. They are numbered 1, 2, 3, ... as they are appended.

    Args:
        max_messages: How many are kept at the most.
        max_bytes: How much they may hold together; older ones are forgotten first.
    """

    __slots__ = ("_bytes", "_first", "_max_bytes", "_max_messages", "_messages", "last")

    def __init__(self, max_messages: int = MESSAGES, max_bytes: int = BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: list[bytes] = []
        self._first = 0
        """Where the kept messages begin in the list; what is before is forgotten, and removed now and then."""
        self._bytes = 0
        self.last = 0
        """The number of the newest message; 0: nothing was sent yet."""

    def append(self, message: bytes) -> None:
        """Keep one more, and forget what no longer fits."""
        self.last += 1
        messages = self._messages
        messages.append(message)
        self._bytes += len(message)
        while len(messages) - self._first > self._max_messages or self._bytes > self._max_bytes:
            self._bytes -= len(messages[self._first])
            messages[self._first] = b""
            self._first += 1
        if self._first > self._max_messages:
            del messages[: self._first]
            self._first = 0

    def after(self, number: int) -> Sequence[bytes] | None:
        """All that was sent after message `number`; None: some of it is forgotten, or was never sent."""
        missed = self.last - number
        if not 0 <= missed <= len(self._messages) - self._first:
            return None
        return self._messages[len(self._messages) - missed :]
