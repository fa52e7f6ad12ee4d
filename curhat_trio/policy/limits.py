"""How much one client may say: token buckets for messages and for bytes."""

import attrs


@attrs.define
class TokenBucket:
    """An allowance that refills steadily up to a burst.

    Args:
        rate: Tokens that come back in a second.
        burst: The most that can be saved up, and the level at the start.
    """

    rate: float
    burst: float
    _level: float = attrs.field(init=False)
    _at: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._level = self.burst

    def missing(self, amount: float, now: float) -> float:
        """Seconds until `amount` tokens will be there; 0 if they are there now."""
        self._refill(now)
        return max(0.0, (amount - self._level) / self.rate)

    def take(self, amount: float) -> None:
        """Use tokens that `missing` said are there."""
        self._level -= amount

    def _refill(self, now: float) -> None:
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now


@attrs.define
class Allowance:
    """What one client may still say, in messages and in bytes."""

    messages: TokenBucket
    bytes: TokenBucket

    def spend(self, size: int, now: float) -> float:
        """Take one message of `size` bytes.

        Returns:
            0 if it was within the allowance; else the seconds after which it would be, and nothing was taken.
        """
        missing = max(self.messages.missing(1, now), self.bytes.missing(size, now))
        if missing == 0:
            self.messages.take(1)
            self.bytes.take(size)
        return missing
