"""The replay buffer: the messages last sent to a client, which it may have missed when its connection is lost."""

from collections.abc import Sequence

MESSAGES = 128
BYTES = 1 << 18


class ReplayBuffer:
    """Keeps the latest messages. They are numbered 1, 2, 3, ... as they are appended.

    Args:
        max_messages: The maximum number of messages; the oldest are discarded first.
        max_bytes: Their maximum total size.
    """

    __slots__ = ("_bytes", "_first", "_max_bytes", "_max_messages", "_messages", "last")

    def __init__(self, max_messages: int = MESSAGES, max_bytes: int = BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: list[bytes] = []
        self._first = 0
        """Index of the oldest message that is kept. Earlier ones are blank, and removed from the list in bulk."""
        self._bytes = 0
        self.last = 0
        """The number of the latest message; 0 before the first."""

    def append(self, message: bytes) -> None:
        """Add a message, and discard the oldest ones that exceed the limits."""
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
        """All messages after `number`; None if some of them are discarded, or `number` was not sent yet."""
        missed = self.last - number
        if not 0 <= missed <= len(self._messages) - self._first:
            return None
        return self._messages[len(self._messages) - missed :]
