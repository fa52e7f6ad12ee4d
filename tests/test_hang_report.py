"""A test that hangs ends the run, and shows its name and where its tasks wait."""

import pytest

HANGING = """
import trio

async def wait_for_nothing() -> None:
    await trio.sleep_forever()

async def test_hang(autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_nothing)
"""


def test_a_hanging_test_ends_the_run_with_the_stacks_of_its_tasks(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_hanging=HANGING)
    pytester.makeini(
        """
        [pytest]
        trio_mode = true
        faulthandler_timeout = 4
        faulthandler_exit_on_timeout = true
        """
    )
    ended = pytester.runpytest_subprocess("-p", "tests.hang_report")
    assert ended.ret != 0, "1, or that of a crash: faulthandler reads stacks while they change"
    ended.stderr.fnmatch_lines(["test_hanging.py::test_hang hangs", "*task *wait_for_nothing", "*Timeout*"])


def test_a_test_that_ends_in_time_writes_no_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(): pass")
    pytester.makeini("[pytest]\nfaulthandler_timeout = 60")
    ended = pytester.runpytest_subprocess("-p", "tests.hang_report")
    assert ended.ret == 0
    ended.stderr.no_fnmatch_line("*hangs*")
