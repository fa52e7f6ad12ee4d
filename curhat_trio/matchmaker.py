"""The owner of the pool: it receives requests from one bounded channel, and sends pairs into another.

It knows no connections and never waits. `serve` is called when there are requests, and at `deadline`.
"""

from collections import deque
from math import inf

import trio

from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Outcome, Pair, Pool, Widened
from curhat_trio.protocol.effects import Request


class Matchmaker:
    """Serves requests in order.

    Args:
        requests: The requests of sessions.
        pairs: Takes the pairs, in the order in which they left the pool. It must have room for one pair whenever
            `serve` is called.
        pool: Owned by the matchmaker from now on.
        observer: Notified of each outcome before its pair is sent.
    """

    def __init__(
        self,
        requests: trio.MemoryReceiveChannel[Request],
        pairs: trio.MemorySendChannel[Pair],
        pool: Pool,
        observer: Observer,
    ) -> None:
        self._requests = requests
        self._pairs = pairs
        self._pool = pool
        self._observer = observer
        self._outcomes: deque[Outcome] = deque()
        """Outcomes that are not observed yet: serving one request also widens the tickets that are due."""

    @property
    def deadline(self) -> float:
        """When the next ticket is to be widened, in seconds of Trio's clock, or infinity."""
        due = self._pool.next_widening()
        return inf if due is None else due

    def serve(self) -> bool:
        """Serve requests, and widen tickets that are due, until a pair was sent; False if nothing is left."""
        while self._outcomes or self._serve_next():
            outcome = self._outcomes.popleft()
            self._observe(outcome)
            if outcome.pair is not None:
                self._pairs.send_nowait(outcome.pair)
                return True
        return False

    def _serve_next(self) -> bool:
        now = trio.current_time()
        try:
            request = self._requests.receive_nowait()
        except trio.WouldBlock:
            if self.deadline > now:
                return False
            request = None
        self._outcomes += self._pool.serve(request, now)
        return True

    def _observe(self, outcome: Outcome) -> None:
        if isinstance(outcome.cause, Widened):
            self._observer.widened(outcome.cause.ticket, outcome.pair, outcome.waiting)
        else:
            self._observer.served(outcome.cause, outcome.pair, outcome.waiting)
