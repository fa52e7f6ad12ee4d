"""A client's rate limit: one token bucket for messages and one for bytes.

A bucket refills at a constant rate up to its burst, which is also its initial level. A message that fits into both
buckets takes from both; any other is refused and takes from neither.
"""

from math import inf

import attrs


@attrs.frozen
class Allowance:
    """How much a client may send: sustained rates, and bursts above them."""

    messages_per_second: float
    message_burst: float
    bytes_per_second: float = inf
    byte_burst: float = inf


class RateLimit:
    """The buckets of one client. Times are seconds of one monotonic clock."""

    __slots__ = ("_allowance", "_at", "_bytes", "_messages")

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._messages = allowance.message_burst
        self._bytes = allowance.byte_burst
        self._at = 0.0

    def spend(self, size: int, now: float) -> float:
        """Take one message of `size` bytes.

        Returns:
            0 if it was within the allowance; otherwise the seconds until it would be, and nothing is taken.
        """
        allowance = self._allowance
        elapsed, self._at = now - self._at, now
        messages = self._messages + elapsed * allowance.messages_per_second
        messages = (
            allowance.message_burst if messages > allowance.message_burst else messages
        )  # cheaper than min()
        level = self._bytes + elapsed * allowance.bytes_per_second if elapsed else self._bytes
        level = allowance.byte_burst if level > allowance.byte_burst else level
        if messages >= 1 and level >= size:
            self._messages, self._bytes = messages - 1, level - size
            return 0.0
        self._messages, self._bytes = messages, level
        waits_for_bytes = (size - level) / allowance.bytes_per_second if size > level else 0.0
        return max((1 - messages) / allowance.messages_per_second, waits_for_bytes)
