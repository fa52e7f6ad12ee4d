"""Shows where a test hangs: its name and the stacks of all Trio tasks, shortly before pytest ends the run.

pytest's `faulthandler_timeout` (pyproject.toml) ends the run, but shows only the stacks of threads, which in the
case of Trio is the event loop.
"""

import signal
import sys
import traceback
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import trio

_MARGIN = 10.0
"""Seconds before the timeout at which the report is written; of a short timeout, half of it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Write the report if the test is still running when the timeout is nearly over."""
    timeout = float(item.config.getini("faulthandler_timeout") or 0)
    capture: Any = item.config.pluginmanager.getplugin("capturemanager")

    def report(_number: int, _frame: object) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{item.nodeid} hangs", *task_stacks(), sep="\n", file=sys.stderr, flush=True)

    previous = signal.signal(signal.SIGALRM, report)
    signal.setitimer(signal.ITIMER_REAL, max(timeout - _MARGIN, timeout / 2))  # 0: never
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def task_stacks() -> Iterator[str]:
    """The Trio tasks of this thread, outermost first, each with the calls in which it waits."""
    try:
        root = trio.lowlevel.current_root_task()
    except RuntimeError:  # Trio is not running
        return
    yield from _stacks_below(root, "")


def _stacks_below(task: trio.lowlevel.Task | None, indent: str) -> Iterator[str]:
    if task is None:
        return
    yield f"{indent}task {task.name}"
    for line in traceback.StackSummary.extract(task.iter_await_frames()).format():
        yield from (f"{indent}{part}" for part in line.splitlines())
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _stacks_below(child, f"{indent}    ")
