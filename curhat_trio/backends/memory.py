"""Sessions of one process: a bounded memory channel to the matchmaker, and one back.

The matchmaker serves a request when the dispatcher, at the end of its turn, receives pairs. So no task waits at
either channel, and whoever joins is introduced in the turn in which the join was read.
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
        pool: The matchmaker's from now on.
        observer: Told of each outcome before its pair can be received.
        capacity: How many requests fit into the channel. More, as when thousands of sessions end in one turn, wait
            here, in order.
    """

    def __init__(self, pool: Pool, observer: Observer, capacity: int = 256) -> None:
        self._requests, requests = trio.open_memory_channel[Request](capacity)
        introductions, self._introductions = trio.open_memory_channel[Pair](1)
        self._matchmaker = Matchmaker(requests, introductions, pool, observer)
        self._backlog: deque[Request] = deque()
        self._has_asked = False
        self._failure: Exception | None = None
        self._has_failed = trio.Event()
        self.deadline = self._matchmaker.deadline

    def ask(self, request: Request) -> None:
        """Send a request to the matchmaker."""
        self._has_asked = self._failure is None
        if self._backlog:
            self._backlog.append(request)
            return
        try:
            self._requests.send_nowait(request)
        except trio.WouldBlock:
            self._backlog.append(request)

    def next_pair(self) -> Pair | None:
        """Let the matchmaker serve until it has found a pair, or has nothing left to do.

        If a bug breaks it, nobody is paired any more, and `watch` raises.
        """
        if not self._has_asked and self.deadline > trio.current_time():
            return None
        try:
            return self._serve()
        except Exception as error:  # of no session: it must not look like a fault of whoever has its turn
            self._failure, self._has_asked, self.deadline = error, False, inf
            self._has_failed.set()
            return None

    async def watch(self) -> None:
        """Wait for as long as the matchmaker works.

        Raises:
            Exception: What broke it.
        """
        await self._has_failed.wait()
        assert self._failure is not None
        raise self._failure

    def _serve(self) -> Pair | None:
        while not self._matchmaker.serve():
            if not self._backlog:
                self._has_asked, self.deadline = False, self._matchmaker.deadline
                return None
            self._pass_on()
        return self._introductions.receive_nowait()

    def _pass_on(self) -> None:
        with suppress(trio.WouldBlock):
            while self._backlog:
                self._requests.send_nowait(self._backlog[0])
                self._backlog.popleft()
