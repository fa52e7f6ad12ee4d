"""Runs of a load for tests, on a real-time clock that skips the wait for timeouts."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
import trio.testing

from curhat_trio.load.checker import Fault
from curhat_trio.load.plan import Plan
from curhat_trio.load.report import summarize
from curhat_trio.load.run import Run
from curhat_trio.load.target import find_target

QUIET_SECONDS = 0.1
"""Seconds of real time without any event, including I/O, after which the clock jumps to the next timeout."""


def run_load(
    server: AbstractAsyncContextManager[int], plan: Plan, scope: trio.CancelScope | None = None
) -> dict[str, Any]:
    """Perform one run against a server on a port of 127.0.0.1, and return the summary.

    Args:
        scope: Cancelling it interrupts the run.
    """

    async def run() -> dict[str, Any]:
        async with server as port:
            url = f"ws://127.0.0.1:{port}/ws"
            run = Run(plan, await find_target(url), "run")
            with scope or trio.CancelScope() as interruption:
                await run.perform()
        return summarize(run, url, interrupted=interruption.cancelled_caught)

    return trio.run(run, clock=trio.testing.MockClock(rate=1.0, autojump_threshold=QUIET_SECONDS))


def faults(summary: Mapping[str, Any]) -> dict[Fault, int]:
    """The faults that were counted."""
    return {Fault(name): count for name, count in summary["faults"].items() if count}
