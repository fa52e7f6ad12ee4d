"""All deadlines of a server, kept by one task.

Setting, moving or clearing a deadline is a comparison and at most a push onto a heap: no task switch, no system
call, no cancel scope of its own. A deadline that has moved to later is noticed when the earlier time comes, so
postponing a deadline with every message costs nothing.
"""

import heapq
from itertools import count
from math import inf
from typing import Protocol

import trio

_CANCELLED = -inf
_FEW = 64
"""Up to this many entries a heap is not worth cleaning."""


class Timed(Protocol):
    """Something with a deadline, in seconds of Trio's clock."""

    armed: float
    """Set by `Deadlines`; infinity initially."""

    @property
    def deadline(self) -> float:
        """When `on_deadline` has to be called next; infinity if never."""

    def on_deadline(self, now: float) -> None:
        """Handle the deadline, and move it. Never awaits, never raises."""


class Deadlines:
    """Calls each `Timed` when its deadline has passed. One task has to `run` it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._numbers = count()
        self._sleep: trio.CancelScope | None = None
        self._kept = 0

    def __len__(self) -> int:
        """How many deadlines are set. The heap may have up to twice as many entries, and a few."""
        return self._kept

    def update(self, timed: Timed) -> None:
        """Take note of a deadline that may have moved."""
        at = timed.deadline
        if at >= timed.armed or timed.armed == _CANCELLED:
            return
        self._kept += timed.armed == inf
        timed.armed = at
        self._push(at, timed)

    def cancel(self, timed: Timed) -> None:
        """Remove an object for good."""
        if timed.armed not in (inf, _CANCELLED):
            self._kept -= 1
        timed.armed = _CANCELLED
        self._clean()

    async def run(self) -> None:
        """Call deadlines as they pass, until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else inf) as self._sleep:
                await trio.sleep_forever()
            now = trio.current_time()
            self._serve(now)
            if self._heap and self._heap[0][0] <= now:
                await trio.lowlevel.checkpoint()  # let other tasks run that have become runnable meanwhile

    def _push(self, at: float, timed: Timed) -> None:
        heapq.heappush(self._heap, (at, next(self._numbers), timed))
        if self._sleep is not None and at < self._sleep.deadline:
            self._sleep.deadline = at
        self._clean()

    def _clean(self) -> None:
        """Remove obsolete entries once they are the majority, so that removed objects are not kept alive."""
        if len(self._heap) > 2 * self._kept + _FEW:
            self._heap = [entry for entry in self._heap if entry[0] == entry[2].armed]
            heapq.heapify(self._heap)

    def _serve(self, now: float) -> None:
        """Call those whose deadlines have passed; one that is due again at once waits for other tasks."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            at, _, timed = heapq.heappop(self._heap)
            if timed.armed == at:  # or it was cancelled, or an earlier one was set after this
                timed.armed = inf
                self._kept -= 1
                due.append(timed)
        for timed in due:
            if timed.armed == inf and timed.deadline <= now:
                timed.on_deadline(now)
            self.update(timed)
