"""How sessions find each other. One interface; `memory` is the reference."""

from typing import Protocol

from curhat_trio.policy.matching import Pair
from curhat_trio.protocol.effects import Request


class Rendezvous(Protocol):
    """The way to the matchmaker, as the dispatcher sees it. Nothing of it blocks."""

    deadline: float
    """When `next_pair` may have something new for no other reason than time, in seconds of Trio's clock; infinity:
    never, as things are."""

    def ask(self, request: Request) -> None:
        """Send a request to the matchmaker. Requests are served in order. A match for a ticket that is being
        withdrawn or suspended may still come; after a withdrawal it must be declined."""

    def next_pair(self) -> Pair | None:
        """Receive a pair that is to be introduced, in the order in which they left the pool; None: there is none
        now."""
