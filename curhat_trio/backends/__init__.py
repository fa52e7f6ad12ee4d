"""The interface between the dispatcher and the matchmaker. `memory` is the implementation within one process."""

from typing import Protocol

from curhat_trio.policy.matching import Pair
from curhat_trio.protocol.effects import Request


class Rendezvous(Protocol):
    """The connection to the matchmaker that the dispatcher uses. No method blocks."""

    deadline: float
    """When `next_pair` may next return a pair without a new request, in seconds of Trio's clock, or infinity."""

    @property
    def has_requests(self) -> bool:
        """Whether `next_pair` is to be called because of requests: they are served by the time it returns None."""

    def submit(self, request: Request) -> None:
        """Send a request to the matchmaker. Requests are served in order.

        A ticket may still be matched while it is being withdrawn or suspended. A match for a withdrawn ticket must
        be declined.
        """

    def next_pair(self) -> Pair | None:
        """Return the next pair to introduce, or None. Pairs come in the order in which they left the pool."""
