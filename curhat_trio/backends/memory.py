"""Sessions of one process: two bounded memory channels, to the matchmaker and back.

Requests come from code that must not wait. What does not fit into the channel waits here, in order, and whoever
caused it waits before it reads more of its client (`requests_taken`): so one client can cause no more than what
arrived from it together.
"""

from collections import deque
from contextlib import suppress

import trio

from curhat_trio.policy.matching import Pair
from curhat_trio.protocol.effects import Request


class MemoryRendezvous:
    """A `Rendezvous` within one process. One task has to run `feed`.

    Args:
        capacity: How many requests, and how many pairs, may wait in each channel.
    """

    def __init__(self, capacity: int = 256) -> None:
        self._send, self.requests = trio.open_memory_channel[Request](capacity)
        self.introductions, self.introduced = trio.open_memory_channel[Pair](capacity)
        self._backlog: deque[Request] = deque()
        self._backed_up = trio.Event()
        self._taken = trio.Event()

    @property
    def is_backed_up(self) -> bool:
        """Some requests have found no room in the channel yet."""
        return bool(self._backlog)

    def ask(self, request: Request) -> None:
        """Ask something of the matchmaker, without waiting."""
        if not self._backlog:
            try:
                return self._send.send_nowait(request)
            except trio.BrokenResourceError:
                return None  # the server ends, and nobody is matched any more
            except trio.WouldBlock:
                self._taken = trio.Event()
                self._backed_up.set()
        self._backlog.append(request)
        return None

    async def requests_taken(self) -> None:
        """Wait until every request is in the channel."""
        if self._backlog:
            await self._taken.wait()

    async def feed(self) -> None:
        """Pass on what found no room, until cancelled or the matchmaker is gone."""
        while True:
            await self._backed_up.wait()
            with suppress(trio.BrokenResourceError):
                while self._backlog:
                    await self._send.send(self._backlog[0])
                    self._backlog.popleft()
            self._backlog.clear()
            self._backed_up = trio.Event()
            self._taken.set()
