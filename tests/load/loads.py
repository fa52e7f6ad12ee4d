"""Runs of a load for tests, on a clock that runs as on the wall, but never waits for what nothing can prevent."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
import trio.testing

from curhat_trio.load.checker import Fault
from curhat_trio.load.plan import Plan
from curhat_trio.load.report import summarize
from curhat_trio.load.scenario import Run
from curhat_trio.load.site import find_site

QUIET_SECONDS = 0.1
"""Real time without any event, on sockets neither, after which the clock jumps to the next timeout."""


def run_load(
    server: AbstractAsyncContextManager[int], plan: Plan, scope: trio.CancelScope | None = None
) -> dict[str, Any]:
    """The summary of one run against this server, which is at a port of 127.0.0.1.

    Args:
        scope: What to cancel to interrupt it.
    """

    async def run() -> dict[str, Any]:
        async with server as port:
            url = f"ws://127.0.0.1:{port}/ws"
            run = Run(plan, await find_site(url), "run")
            with scope or trio.CancelScope() as interruption:
                await run.perform()
        return summarize(run, url, interrupted=interruption.cancelled_caught)

    return trio.run(run, clock=trio.testing.MockClock(rate=1.0, autojump_threshold=QUIET_SECONDS))


def faults(summary: Mapping[str, Any]) -> dict[Fault, int]:
    """Those that there were."""
    return {Fault(name): count for name, count in summary["faults"].items() if count}
