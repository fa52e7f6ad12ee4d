"""The matchmaker within one process: a bounded memory channel for requests, and one for pairs.

The matchmaker serves requests when the dispatcher receives pairs, at the end of its turn. So no task waits at
either channel, and a client that can be paired when it joins is paired in the turn in which its `join` was read.
"""

from collections import deque
from contextlib import suppress
from math import inf

import trio

from curhat_trio.matchmaker import Matchmaker
from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Pair, Pool
from curhat_trio.protocol.effects import Request


class MemoryRendezvous:
    """A `Rendezvous` within one process.

    Args:
        pool: Owned by the matchmaker from now on.
        observer: Notified of each outcome before its pair can be received.
        capacity: The number of requests that fit into the channel. Further requests, as when thousands of sessions
            end in one turn, wait in a backlog, in order.
    """

    def __init__(self, pool: Pool, observer: Observer, capacity: int = 256) -> None:
        self._requests, requests = trio.open_memory_channel[Request](capacity)
        pairs, self._pairs = trio.open_memory_channel[Pair](1)
        self._matchmaker = Matchmaker(requests, pairs, pool, observer)
        self._backlog: deque[Request] = deque()
        self.has_requests = False
        self._failure: Exception | None = None
        self._has_failed = trio.Event()
        self.deadline = self._matchmaker.deadline

    def submit(self, request: Request) -> None:
        """Send a request to the matchmaker."""
        self.has_requests = self._failure is None
        self._backlog.append(request)
        self._send_backlog()

    def next_pair(self) -> Pair | None:
        """Let the matchmaker serve until it has found a pair, or has nothing left to do.

        If it fails because of a bug, it finds no more pairs, and `wait_for_failure` raises.
        """
        if not self.has_requests and self.deadline > trio.current_time():
            return None
        try:
            return self._serve()
        except Exception as error:  # must not end the session whose turn it is
            self._failure, self.has_requests, self.deadline = error, False, inf
            self._has_failed.set()
            return None

    async def wait_for_failure(self) -> None:
        """Wait until the matchmaker fails, which only a bug can cause.

        Raises:
            Exception: The exception that the matchmaker raised.
        """
        await self._has_failed.wait()
        assert self._failure is not None
        raise self._failure

    def _serve(self) -> Pair | None:
        while not self._matchmaker.serve():
            if not self._backlog:
                self.has_requests, self.deadline = False, self._matchmaker.deadline
                return None
            self._send_backlog()
        return self._pairs.receive_nowait()

    def _send_backlog(self) -> None:
        with suppress(trio.WouldBlock):
            while self._backlog:
                self._requests.send_nowait(self._backlog[0])
                self._backlog.popleft()
