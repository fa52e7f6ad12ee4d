"""How much one client may send: a token bucket for messages and one for bytes, drawn from together.

A bucket refills steadily up to its burst, which is also its level at the start. A message is either within both
allowances, and takes from both, or it is refused and takes from neither.
"""

from math import inf

import attrs


@attrs.frozen
class Allowance:
    """What a client may send: in the long run, and at once."""

    messages_per_second: float
    message_burst: float
    bytes_per_second: float = inf
    byte_burst: float = inf


class RateLimit:
    """What one client has left of its allowance. Times are seconds of one monotonic clock."""

    __slots__ = ("_allowance", "_at", "_bytes", "_messages")

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._messages = allowance.message_burst
        self._bytes = allowance.byte_burst
        self._at = 0.0

    def spend(self, size: int, now: float) -> float:
        """Take one message of `size` bytes.

        Returns:
            0 if it was within the allowance; else the seconds after which it would be, and nothing was taken.
        """
        allowance = self._allowance
        elapsed, self._at = now - self._at, now
        messages = self._messages + elapsed * allowance.messages_per_second
        if messages > allowance.message_burst:
            messages = allowance.message_burst
        level = self._bytes + elapsed * allowance.bytes_per_second if elapsed else self._bytes
        if level > allowance.byte_burst:
            level = allowance.byte_burst
        if messages >= 1 and level >= size:
            self._messages, self._bytes = messages - 1, level - size
            return 0.0
        self._messages, self._bytes = messages, level
        waits_for_bytes = (size - level) / allowance.bytes_per_second if size > level else 0.0
        return max((1 - messages) / allowance.messages_per_second, waits_for_bytes)
