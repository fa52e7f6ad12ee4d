"""What a client may have missed: the last messages to it, in order, within bounds."""

from collections import deque

MESSAGES = 128
BYTES = 1 << 18


class Replay:
    """Keeps what was said last. Messages are numbered 1, 2, 3, ... as they are kept.

    Args:
        max_messages: How many are kept at the most.
        max_bytes: How much they may hold together; older ones are forgotten first.
    """

    def __init__(self, max_messages: int = MESSAGES, max_bytes: int = BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._kept: deque[bytes] = deque()
        self._bytes = 0
        self.last = 0
        """The number of the newest message; 0: nothing was said yet."""

    def keep(self, message: bytes) -> None:
        """Remember one more, and forget what no longer fits."""
        self.last += 1
        self._kept.append(message)
        self._bytes += len(message)
        while len(self._kept) > self._max_messages or self._bytes > self._max_bytes:
            self._bytes -= len(self._kept.popleft())

    def since(self, number: int) -> list[bytes] | None:
        """All that was said after message `number`; None: some of it is forgotten, or was never said."""
        missed = self.last - number
        if not 0 <= missed <= len(self._kept):
            return None
        return [self._kept[place] for place in range(len(self._kept) - missed, len(self._kept))]
