"""A connection by itself: what it writes when, how it closes, and what time does to it."""

from random import Random

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from curhat_trio.frames import PING_FRAME, close_frame, pong_frame, text_frame
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.rate_limit import Allowance
from tests.peers import BINARY, CLOSE, PING, PONG, TEXT
from tests.shell.connections import Stage, frame, frames_in, stage

WRITER = "_keep_writing"


def close_code(stage: Stage) -> int | None:
    """The code of the close frame that was sent last; None: none was, or it has none."""
    opcode, payload = frames_in(stage.sent)[-1]
    return int.from_bytes(payload[:2], "big") if opcode == CLOSE and payload else None


# ---------------------------------------------------------------- writing


async def test_what_the_network_takes_is_written_at_once_and_by_no_other_task() -> None:
    async with stage() as there:
        assert there.sent == b""
        assert there.connection.send(b"one"), "the first since the last flush"
        assert not there.connection.send(b"two")
        assert there.sent == b"", "what comes together is sent together"
        assert there.connection.flush()
        assert there.sent == text_frame(b"one") + text_frame(b"two")
        assert there.connection.flush()
        assert there.tasks == []


async def test_the_rest_is_written_by_a_task_that_lives_no_longer_than_that() -> None:
    async with stage() as there:
        there.transport.room = 2
        assert there.send(b"hello", b"there")
        assert there.sent == text_frame(b"hello")[:2]
        await wait_all_tasks_blocked()
        assert there.send(b"behind")
        there.transport.make_room(3)
        await wait_all_tasks_blocked()
        assert len(there.sent) == 5
        assert there.tasks == [WRITER]
        there.transport.make_room(1000)
        await wait_all_tasks_blocked()
        assert there.sent == text_frame(b"hello") + text_frame(b"there") + text_frame(b"behind")
        before = len(there.nursery.child_tasks)
        assert there.send(b"at once")
        assert there.sent.endswith(text_frame(b"at once"))
        assert len(there.nursery.child_tasks) == before == 2, "the connection's and the deadlines'"


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_the_network_takes_the_order_stays(seed: int) -> None:
    random = Random(seed)
    async with stage(outbound_messages=10_000, outbound_bytes=1 << 30) as there:
        expected = b""
        there.transport.room = random.randrange(100)
        for number in range(200):
            messages = [b"%d " % number + b"x" * random.choice([0, 10, 200]) for _ in range(random.randrange(4))]
            there.send(*messages)
            expected += b"".join(map(text_frame, messages))
            if random.random() < 0.3:
                there.transport.make_room(random.choice([0, 1, 10, 500]))
            if random.random() < 0.3:
                await wait_all_tasks_blocked()
            assert expected.startswith(there.sent)
        there.transport.make_room(1 << 30)
        await wait_all_tasks_blocked()
        assert there.sent == expected


async def test_so_many_messages_may_be_queued() -> None:
    async with stage(outbound_messages=3) as there:
        there.transport.room = 0
        assert there.send(b"the writer has this one")
        assert there.send(b"1", b"2", b"3")
        assert not there.send(b"4")


async def test_so_many_bytes_may_be_queued() -> None:
    async with stage(outbound_bytes=100, outbound_messages=1000) as there:
        there.transport.room = 0
        assert there.send(b"x" * 48)
        assert there.send(b"x" * 48), "a frame has two bytes more"
        assert not there.send(b"")


async def test_bytes_that_the_network_took_are_queued_no_more() -> None:
    async with stage(outbound_bytes=100) as there:
        there.transport.room = 0
        assert there.send(b"x" * 98)
        there.transport.make_room(50)
        await wait_all_tasks_blocked()
        assert there.send(b"x" * 48)
        assert not there.send(b"")


async def test_room_in_the_queue_comes_back() -> None:
    async with stage(outbound_bytes=100, outbound_messages=2) as there:
        for _ in range(10):
            there.transport.room = 0
            assert there.send(b"x" * 28)
            assert there.send(b"y" * 28)
            assert there.send(b"z" * 28)
            there.transport.make_room(1000)
            await wait_all_tasks_blocked()


async def test_one_message_that_is_more_than_may_be_queued_is_too_much_only_if_it_has_to_wait() -> None:
    async with stage(outbound_bytes=100) as there:
        assert there.send(b"x" * 1000)
        there.transport.room = 0
        assert not there.send(b"x" * 99)


async def test_a_slow_client_gets_the_rest_of_the_frame_and_is_told_why() -> None:
    async with stage() as there:
        there.transport.room = 3
        there.send(b"torn")
        there.send(b"dropped", b"dropped too")
        there.connection.send(b"and this")
        there.connection.close(CloseCode.SLOW_CONSUMER)
        assert len(there.sent) == 3
        there.transport.make_room(1000)
        await wait_all_tasks_blocked()
        explanation = CloseCode.SLOW_CONSUMER.explanation.encode()
        assert frames_in(there.sent) == [(TEXT, b"torn"), (CLOSE, b"\x0f\xa1" + explanation)]


async def test_for_any_other_reason_what_is_queued_is_sent_first() -> None:
    async with stage() as there:
        there.transport.room = 3
        there.send(b"torn")
        there.send(b"queued")
        there.connection.send(b"and this")
        there.connection.close(CloseCode.REPLACED)
        there.transport.make_room(1000)
        await wait_all_tasks_blocked()
        assert [payload for _, payload in frames_in(there.sent)[:3]] == [b"torn", b"queued", b"and this"]
        assert close_code(there) == CloseCode.REPLACED


async def test_after_the_close_frame_nothing_is_sent() -> None:
    async with stage() as there:
        there.connection.close(CloseCode.REPLACED)
        sent = there.sent
        assert not there.connection.send(b"late")
        there.transport.put(frame(PING, b"late"))
        await wait_all_tasks_blocked()
        assert there.connection.flush()
        there.connection.close(CloseCode.SHUTDOWN)
        assert there.sent == sent


async def test_who_is_gone_when_something_is_written_is_lost() -> None:
    async with stage() as there:
        there.transport.break_off()
        assert there.send(b"into the void")
        await wait_all_tasks_blocked()
        assert (there.notes.lost, there.notes.ended) == ([None], [])
        assert there.over_at is not None


async def test_who_is_gone_while_the_writer_waits_is_lost(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.transport.room = 1
        there.send(b"torn")
        await wait_all_tasks_blocked()
        there.transport.break_off()
        await wait_all_tasks_blocked()
        assert (there.notes.lost, there.over_at) == ([None], 0.0)


# ---------------------------------------------------------------- the write deadline


async def test_who_takes_nothing_for_write_seconds_is_too_slow(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.transport.room = 1
        there.send(b"torn")
        await trio.sleep(4.9)
        assert there.notes.ended == []
        await trio.sleep(0.2)
        assert there.notes.ended == [CloseCode.SLOW_CONSUMER]


async def test_progress_renews_the_deadline(autojump_clock: MockClock) -> None:
    async with stage(ping_seconds=1000) as there:
        there.transport.room = 1
        there.send(b"drop by drop")
        for _ in range(8):
            await trio.sleep(4)
            there.transport.make_room(1)
        await trio.sleep(4)
        assert there.notes.ended == []
        await trio.sleep(1.1)
        assert there.notes.ended == [CloseCode.SLOW_CONSUMER]


async def test_more_messages_are_no_progress(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.transport.room = 1
        there.send(b"torn")
        for _ in range(5):
            await trio.sleep(0.9)
            there.send(b"more")
        await trio.sleep(0.6)
        assert there.notes.ended == [CloseCode.SLOW_CONSUMER]


async def test_once_all_is_written_there_is_no_deadline(autojump_clock: MockClock) -> None:
    async with stage(ping_seconds=1000) as there:
        there.transport.room = 1
        there.send(b"torn")
        await trio.sleep(4)
        there.transport.make_room(1000)
        await trio.sleep(100)
        assert there.notes.ended == []


# ---------------------------------------------------------------- receiving


async def test_messages_go_to_the_session_and_then_all_is_flushed() -> None:
    async with stage() as there:
        flushes = there.notes.flushes
        there.transport.put(frame(TEXT, b"one") + frame(TEXT, b"two"))
        await wait_all_tasks_blocked()
        assert there.notes.texts == ["one", "two"]
        assert there.notes.flushes == flushes + 1


async def test_what_was_pipelined_comes_first() -> None:
    async with stage(pipelined=frame(TEXT, b"one") + frame(TEXT, b"two")[:3]) as there:
        there.transport.put(frame(TEXT, b"two")[3:])
        await wait_all_tasks_blocked()
        assert there.notes.texts == ["one", "two"]


async def test_pings_are_answered_in_order_with_what_is_sent() -> None:
    async with stage() as there:
        there.notes.on_text = lambda text: there.connection.send(text.encode()) and None
        there.transport.put(frame(PING, b"a") + frame(TEXT, b"one") + frame(PING, b"b"))
        await wait_all_tasks_blocked()
        assert there.sent == pong_frame(b"a") + text_frame(b"one") + pong_frame(b"b")


async def test_nothing_is_heard_of_a_session_that_is_over() -> None:
    async with stage() as there:
        there.notes.on_text = lambda text: there.connection.close(CloseCode.PROTOCOL_ERRORS)
        there.transport.put(frame(TEXT, b"the last") + frame(TEXT, b"too late"), frame(TEXT, b"too late"))
        await wait_all_tasks_blocked()
        assert there.notes.texts == ["the last"]


async def test_what_follows_resume_goes_to_the_session_that_was_resumed() -> None:
    async with stage() as there:
        resumed = there.notes.resumed = object()
        there.transport.put(frame(TEXT, b"resume") + frame(TEXT, b"chat"))
        await wait_all_tasks_blocked()
        assert there.notes.heard_by == [there.connection, resumed]
        there.connection.endpoint = there.connection


async def test_too_many_control_frames_are_a_violation(autojump_clock: MockClock) -> None:
    async with stage(control_frames=Allowance(1.0, 3.0)) as there:
        there.transport.put(frame(PING) * 3)
        await wait_all_tasks_blocked()
        assert there.notes.ended == []
        there.transport.put(frame(PONG))
        await wait_all_tasks_blocked()
        assert there.notes.ended == [CloseCode.RATE_LIMITED]
        assert close_code(there) == CloseCode.RATE_LIMITED


async def test_a_client_may_send_control_frames_for_ever_at_its_rate(autojump_clock: MockClock) -> None:
    async with stage(control_frames=Allowance(1.0, 3.0)) as there:
        for _ in range(100):
            there.transport.put(frame(PONG))
            await trio.sleep(1)
        assert there.notes.ended == []


async def test_a_bug_ends_the_session_and_is_loud() -> None:
    def bug(text: str) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True, allow_unwrapped=True):
        async with stage() as there:
            there.notes.on_text = bug
            there.transport.put(frame(TEXT, b"boom"))
            await wait_all_tasks_blocked()
    assert there.notes.ended == [None]


# ---------------------------------------------------------------- keepalive


async def test_a_client_that_answers_is_pinged_again_and_again(autojump_clock: MockClock) -> None:
    async with stage() as there:
        for number in range(1, 6):
            await trio.sleep(20)
            await wait_all_tasks_blocked()
            assert there.sent == PING_FRAME * number
            there.transport.put(frame(PONG))
        assert there.notes.lost == []


async def test_a_client_that_does_not_is_lost(autojump_clock: MockClock) -> None:
    async with stage() as there:
        await trio.sleep(29.9)
        assert there.notes.lost == []
        await trio.sleep(0.2)
        assert there.notes.lost == [CloseCode.NO_PONG]
        assert close_code(there) == CloseCode.NO_PONG


@pytest.mark.parametrize("seed", range(20))
async def test_a_pong_at_the_very_moment_is_in_time(seed: int, autojump_clock: MockClock) -> None:
    trio._core._run._r.seed(seed)
    async with stage() as there:
        await trio.sleep_until(30)
        there.transport.put(frame(PONG))
        await trio.sleep(5)
        assert there.notes.lost == []


async def test_each_pong_is_looked_for_twice(autojump_clock: MockClock) -> None:
    """And not only the first that was nearly late."""
    for seed in range(20):
        trio._core._run._r.seed(seed)
        async with stage(pong_seconds=20.0) as there:
            began = trio.current_time()
            for number in range(2, 5):
                await trio.sleep_until(began + 20 * number)
                there.transport.put(frame(PONG))
                await wait_all_tasks_blocked()
                assert there.notes.lost == []


async def test_a_pong_that_came_while_the_server_was_busy_is_in_time(autojump_clock: MockClock) -> None:
    """Both are noticed at once, in whatever order."""
    for seed in range(20):
        trio._core._run._r.seed(seed)
        async with stage() as there:
            began = trio.current_time()
            await trio.sleep(25)
            there.transport.put(frame(PONG))
            autojump_clock.jump(100)
            await trio.sleep_until(began + 125.1)
            assert there.notes.lost == []


async def test_a_late_pong_is_too_late(autojump_clock: MockClock) -> None:
    async with stage(close_seconds=100) as there:
        await trio.sleep(30.1)
        there.transport.put(frame(PONG))
        await wait_all_tasks_blocked()
        assert there.notes.lost == [CloseCode.NO_PONG]


async def test_a_pong_that_nobody_asked_for_changes_nothing(autojump_clock: MockClock) -> None:
    async with stage() as there:
        await trio.sleep(19)
        there.transport.put(frame(PONG))
        await trio.sleep(1.1)
        assert there.sent == PING_FRAME


async def test_nobody_is_pinged_while_it_is_closed(autojump_clock: MockClock) -> None:
    async with stage(close_seconds=1000) as there:
        there.connection.close(CloseCode.REPLACED)
        sent = there.sent
        await trio.sleep(500)
        assert there.sent == sent
        assert there.notes.lost == []


async def test_a_ping_that_does_not_fit_into_the_queue_is_one_too_many(autojump_clock: MockClock) -> None:
    async with stage(outbound_messages=1, write_seconds=1000) as there:
        there.transport.room = 0
        there.send(b"the writer has this one")
        there.send(b"queued")
        await trio.sleep(20.1)
        assert there.notes.ended == [CloseCode.SLOW_CONSUMER]


# ---------------------------------------------------------------- closing


@pytest.mark.parametrize(("payload", "answer"), [(b"\x03\xe8bye", 1000), (b"\x0f\xa0", 4000), (b"", None)])
async def test_a_clients_close_is_answered_and_ends_all(payload: bytes, answer: int | None) -> None:
    async with stage() as there:
        there.transport.put(frame(TEXT, b"last words") + frame(CLOSE, payload) + frame(TEXT, b"ghost"))
        await wait_all_tasks_blocked()
        assert (there.notes.texts, there.notes.ended) == (["last words"], [None])
        assert there.sent == close_frame(answer)
        assert there.over_at is not None
        assert not there.transport.aborted


async def test_a_clients_answer_to_the_close_ends_all_at_once(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.connection.close(CloseCode.REPLACED)
        await trio.sleep(1)
        there.transport.put(frame(TEXT, b"late") + frame(CLOSE, b"\x03\xe8"))
        await wait_all_tasks_blocked()
        assert (there.over_at, there.notes.texts) == (1.0, [])


async def test_what_was_under_way_when_the_server_closed_is_no_violation(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.connection.close(CloseCode.REPLACED)
        there.transport.put(frame(BINARY, b"late") + frame(TEXT, b"\xff") + frame(CLOSE, b"\x03\xe8"))
        await wait_all_tasks_blocked()
        assert there.over_at == 0.0


async def test_a_client_that_does_not_answer_is_waited_for_close_seconds(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.connection.close(CloseCode.REPLACED)
        await trio.sleep(2.9)
        assert there.over_at is None
        await trio.sleep(0.2)
        assert there.over_at == 3.0
        assert there.transport.aborted


async def test_a_client_that_talks_on_gets_no_more_time(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.connection.close(CloseCode.REPLACED)
        for _ in range(10):
            await trio.sleep(0.5)
            there.transport.put(frame(TEXT, b"on and on"))
        assert there.over_at == 3.0


async def test_what_is_queued_before_a_close_is_written_before_the_end(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.transport.room = 1
        there.send(b"queued")
        there.transport.put(frame(CLOSE, b"\x03\xe8"))
        await trio.sleep(1)
        assert there.over_at is None
        there.transport.make_room(1000)
        await wait_all_tasks_blocked()
        assert there.over_at == 1.0
        assert there.sent == text_frame(b"queued") + close_frame(1000)


async def test_but_no_longer_than_close_seconds(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.transport.room = 1
        there.send(b"queued")
        there.transport.put(frame(CLOSE, b"\x03\xe8"))
        await trio.sleep(10)
        assert there.over_at == 3.0


async def test_a_clients_end_without_a_close_frame_is_a_loss() -> None:
    async with stage() as there:
        there.transport.put(frame(TEXT, b"one") + frame(TEXT, b"two")[:4], b"")
        await wait_all_tasks_blocked()
        assert (there.notes.texts, there.notes.lost, there.notes.ended) == (["one"], [None], [])
        assert there.over_at is not None
        assert there.sent == b""


async def test_a_session_that_has_nothing_to_say_ends_the_connection_at_once() -> None:
    async with stage() as there:
        there.connection.close(None)
        await wait_all_tasks_blocked()
        assert there.transport.aborted
        assert there.over_at is not None
        assert there.sent == b""


# ---------------------------------------------------------------- a client that breaks the framing


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (frame(BINARY, b"x"), CloseCode.UNSUPPORTED_DATA),
        (frame(TEXT, b"x", masked=False), CloseCode.PROTOCOL_ERROR),
        (frame(TEXT, b"\xff"), CloseCode.INVALID_UTF8),
        (frame(TEXT, b"x" * 1001), CloseCode.MESSAGE_TOO_BIG),
    ],
)
async def test_a_violation_is_told_and_the_servers_half_ended(
    broken: bytes, code: CloseCode, autojump_clock: MockClock
) -> None:
    """Its client's close frame can't be found any more, but its end can."""
    async with stage() as there:
        there.transport.put(frame(TEXT, b"before") + broken + frame(TEXT, b"after"), frame(TEXT, b"after"))
        await wait_all_tasks_blocked()
        assert (there.notes.texts, there.notes.ended) == (["before"], [code])
        assert frames_in(there.sent) == [(CLOSE, int(code).to_bytes(2, "big") + code.explanation.encode())]
        assert there.transport.is_ended
        assert there.over_at is None
        there.transport.put(b"")
        await wait_all_tasks_blocked()
        assert there.over_at == 0.0


async def test_the_half_is_ended_when_the_close_frame_is_written(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.transport.room = 1
        there.send(b"torn")
        there.transport.put(frame(BINARY, b"x"))
        await wait_all_tasks_blocked()
        assert not there.transport.is_ended
        there.transport.make_room(1000)
        await wait_all_tasks_blocked()
        assert [opcode for opcode, _ in frames_in(there.sent)] == [TEXT, CLOSE]
        assert there.transport.is_ended
        await trio.sleep(10)
        assert there.over_at == 3.0


async def test_a_violation_behind_the_servers_close_is_nobodys_business(autojump_clock: MockClock) -> None:
    async with stage() as there:
        there.connection.close(CloseCode.REPLACED)
        sent = there.sent
        there.transport.put(frame(TEXT, b"x", masked=False))
        await trio.sleep(10)
        assert (there.sent, there.notes.ended, there.over_at) == (sent, [], 3.0)


# ---------------------------------------------------------------- cancelled


@pytest.mark.parametrize("queued", [False, True])
async def test_cancelled_it_ends_its_session_for_good(queued: bool) -> None:
    async with stage() as there:
        if queued:
            there.transport.room = 1
            there.send(b"torn")
            await wait_all_tasks_blocked()
        flushes = there.notes.flushes
        there.nursery.cancel_scope.cancel()
    assert (there.notes.ended, there.notes.lost) == ([None], [])
    assert there.notes.flushes > flushes, "the partner hears of it"


async def test_cancelled_while_it_closes_there_is_no_session_to_end() -> None:
    async with stage() as there:
        there.connection.close(CloseCode.REPLACED)
        there.nursery.cancel_scope.cancel()
    assert (there.notes.ended, there.notes.lost) == ([], [])
