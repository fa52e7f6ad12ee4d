"""One task that keeps all deadlines, on a clock that the test moves, and against a plain sorted list."""

from collections.abc import Callable
from math import inf

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from curhat_trio.deadlines import Deadlines


class Alarm:
    """Has a deadline, and records when it was called."""

    def __init__(self, deadline: float = inf, then: Callable[["Alarm", float], None] | None = None) -> None:
        self.armed = inf
        self.deadline = deadline
        self.called: list[float] = []
        self._then = then

    def on_deadline(self, now: float) -> None:
        assert now >= self.deadline
        self.called.append(now)
        self.deadline = inf
        if self._then is not None:
            self._then(self, now)


@pytest.fixture
async def deadlines(nursery: trio.Nursery) -> Deadlines:
    deadlines = Deadlines()
    nursery.start_soon(deadlines.run)
    await wait_all_tasks_blocked()
    return deadlines


def kept(deadlines: Deadlines, *alarms: Alarm) -> tuple[Alarm, ...]:
    for alarm in alarms:
        deadlines.update(alarm)
    return alarms


async def test_each_deadline_is_called_at_its_time(deadlines: Deadlines, autojump_clock: MockClock) -> None:
    alarms = kept(deadlines, Alarm(3), Alarm(1), Alarm(2), Alarm(1))
    assert len(deadlines) == 4
    await trio.sleep(10)
    assert [alarm.called for alarm in alarms] == [[3], [1], [2], [1]]
    assert len(deadlines) == 0


async def test_infinity_means_never_and_is_not_stored(deadlines: Deadlines, autojump_clock: MockClock) -> None:
    (alarm,) = kept(deadlines, Alarm())
    assert len(deadlines) == 0
    await trio.sleep(10_000)
    assert alarm.called == []


async def test_a_deadline_can_be_moved_earlier(deadlines: Deadlines, autojump_clock: MockClock) -> None:
    (alarm,) = kept(deadlines, Alarm(100))
    await trio.sleep(1)
    alarm.deadline = 5
    deadlines.update(alarm)
    assert len(deadlines) == 1
    await trio.sleep(1000)
    assert alarm.called == [5]


async def test_a_deadline_can_be_moved_later_without_an_update(
    deadlines: Deadlines, autojump_clock: MockClock
) -> None:
    (alarm,) = kept(deadlines, Alarm(5))
    alarm.deadline = 50
    await trio.sleep(49)
    assert alarm.called == []
    await trio.sleep(2)
    assert alarm.called == [50]


async def test_postponing_a_deadline_adds_no_heap_entry(deadlines: Deadlines, autojump_clock: MockClock) -> None:
    (alarm,) = kept(deadlines, Alarm(5))
    for number in range(10_000):
        alarm.deadline = 5 + number
        deadlines.update(alarm)
    assert len(deadlines._heap) == 1


async def test_a_deadline_can_be_removed(deadlines: Deadlines, autojump_clock: MockClock) -> None:
    (alarm,) = kept(deadlines, Alarm(5))
    alarm.deadline = inf
    await trio.sleep(100)
    assert alarm.called == []
    assert len(deadlines) == 0


async def test_a_deadline_can_be_set_again_after_it_has_expired(
    deadlines: Deadlines, autojump_clock: MockClock
) -> None:
    def again(alarm: Alarm, now: float) -> None:
        alarm.deadline = now + 2 if now < 9 else inf

    (alarm,) = kept(deadlines, Alarm(1, again))
    await trio.sleep(100)
    assert alarm.called == [1, 3, 5, 7, 9]


async def test_a_cancelled_object_is_not_called_and_not_stored_again(
    deadlines: Deadlines, autojump_clock: MockClock
) -> None:
    (alarm,) = kept(deadlines, Alarm(5))
    deadlines.cancel(alarm)
    deadlines.cancel(alarm)
    assert len(deadlines) == 0
    deadlines.update(alarm)
    await trio.sleep(100)
    assert alarm.called == []


async def test_an_expired_deadline_may_cancel_or_move_another_expired_one(
    deadlines: Deadlines, autojump_clock: MockClock
) -> None:
    first, cancelled, moved = Alarm(5), Alarm(5), Alarm(5)

    def interfere(_alarm: Alarm, now: float) -> None:
        deadlines.cancel(cancelled)
        moved.deadline = now + 3
        deadlines.update(moved)

    first._then = interfere
    kept(deadlines, first, cancelled, moved)
    await trio.sleep(100)
    assert (first.called, cancelled.called, moved.called) == ([5], [], [8])
    assert len(deadlines) == 0


async def test_a_deadline_in_the_past_is_called_at_once(deadlines: Deadlines, autojump_clock: MockClock) -> None:
    await trio.sleep(10)
    (alarm,) = kept(deadlines, Alarm(3))
    await wait_all_tasks_blocked()
    assert alarm.called == [10]


async def test_repeatedly_expired_deadlines_do_not_starve_other_tasks(
    deadlines: Deadlines, autojump_clock: MockClock
) -> None:
    """A task that the first call has woken runs before the second call."""
    story: list[str] = []
    woken = trio.Event()

    async def other() -> None:
        await woken.wait()
        story.append("other")

    def once_more(alarm: Alarm, now: float) -> None:
        story.append("called")
        woken.set()
        alarm.deadline = now if len(alarm.called) == 1 else inf

    for seed in range(10):
        trio._core._run._r.seed(seed)
        story.clear()
        woken = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await wait_all_tasks_blocked()
            kept(deadlines, Alarm(trio.current_time(), once_more))
        await wait_all_tasks_blocked()
        assert story == ["called", "other", "called"]


async def test_cancelled_entries_are_released(deadlines: Deadlines, autojump_clock: MockClock) -> None:
    """Connections come and go all day with deadlines far away."""
    for _ in range(10_000):
        (alarm,) = kept(deadlines, Alarm(1e6))
        deadlines.cancel(alarm)
        assert len(deadlines._heap) < 200
    (alarm,) = kept(deadlines, Alarm(1e6))
    for number in range(10_000):
        alarm.deadline = 1e6 - number
        deadlines.update(alarm)
        assert len(deadlines._heap) < 200


async def test_setting_a_deadline_switches_no_task(deadlines: Deadlines, autojump_clock: MockClock) -> None:
    """Only an earlier one than all others moves the sleeping task's own deadline, which wakes no other task."""
    steps = []

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            steps.append(task.name)

    kept(deadlines, Alarm(1000))
    await wait_all_tasks_blocked()
    trio.lowlevel.add_instrument(instrument := Steps())
    alarms = kept(deadlines, *(Alarm(900 - number) for number in range(100)))
    for alarm in alarms:
        deadlines.cancel(alarm)
    await wait_all_tasks_blocked()
    trio.lowlevel.remove_instrument(instrument)
    assert not [name for name in steps if name.endswith("Deadlines.run")]


TIMES = st.integers(0, 20).map(float)
MOVES = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["set", "set", "move without telling", "cancel"]), TIMES),
    max_size=30,
)


@given(MOVES, st.integers(0, 20))
def test_any_sequence_of_operations(moves: list[tuple[int, str, float]], pause: int) -> None:
    """Half of the moves at the beginning, half later. Only moves to later times need no update."""
    alarms = [Alarm() for _ in range(6)]
    cancelled: set[int] = set()

    def move(deadlines: Deadlines, moves: list[tuple[int, str, float]], now: float) -> None:
        for number, how, at in moves:
            alarm = alarms[number]
            if number in cancelled:
                continue
            if how == "cancel":
                deadlines.cancel(alarm)
                cancelled.add(number)
            elif how == "set":
                alarm.deadline = now + at
                deadlines.update(alarm)
            elif alarm.deadline < inf:
                alarm.deadline += at

    async def play() -> None:
        deadlines = Deadlines()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deadlines.run)
            half = len(moves) // 2
            move(deadlines, moves[:half], 0.0)
            expected = [
                [alarm.deadline] if alarm.deadline <= pause and number not in cancelled else []
                for number, alarm in enumerate(alarms)
            ]
            await trio.sleep_until(pause + 0.5)
            assert [alarm.called for alarm in alarms] == expected
            now = trio.current_time()
            move(deadlines, moves[half:], now)
            for number, alarm in enumerate(alarms):
                if alarm.deadline < inf and number not in cancelled:
                    expected[number].append(max(alarm.deadline, now))
            await trio.sleep_until(1000)
            assert [alarm.called for alarm in alarms] == expected
            assert len(deadlines) == 0
            nursery.cancel_scope.cancel()

    trio.run(play, clock=MockClock(autojump_threshold=0))
