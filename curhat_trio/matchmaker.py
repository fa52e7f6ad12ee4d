"""What owns the pool: requests come in by one bounded channel, pairs go out by another.

It knows no client, and waits for nobody: `serve` is called by whoever has something to ask, and when time alone
brings two together.
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
        requests: What is asked.
        introductions: Whom to introduce to each other, in the order in which they left the pool. It must have
            room for one pair whenever `serve` is called.
        pool: Nobody else's from now on.
        observer: Told of each outcome before its pair is sent.
    """

    def __init__(
        self,
        requests: trio.MemoryReceiveChannel[Request],
        introductions: trio.MemorySendChannel[Pair],
        pool: Pool,
        observer: Observer,
    ) -> None:
        self._requests = requests
        self._introductions = introductions
        self._pool = pool
        self._observer = observer
        self._outcomes: deque[Outcome] = deque()
        """What the pool has done and was not observed yet: one request may widen waits that are due, too."""

    @property
    def deadline(self) -> float:
        """When time alone gives `serve` something to do, in seconds of Trio's clock; infinity: never."""
        due = self._pool.next_widening()
        return inf if due is None else due

    def serve(self) -> bool:
        """Serve requests, and waits whose time has come, until a pair is in the channel (True) or nothing is left
        to do (False)."""
        while self._outcomes or self._serve_next():
            outcome = self._outcomes.popleft()
            self._observe(outcome)
            if outcome.pair is not None:
                self._introductions.send_nowait(outcome.pair)
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
