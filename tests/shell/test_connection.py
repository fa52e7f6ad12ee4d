"""A connection by itself: writing, closing and timeouts."""

from random import Random

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from curhat_trio.conformance import wire
from curhat_trio.frames import PING_FRAME, close_frame, pong_frame, text_frame
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.rate_limit import Allowance
from tests.shell.connections import RunningConnection, frames_in, running_connection

WRITER = "_keep_writing"


def close_code(stage: RunningConnection) -> int | None:
    """The code of the last close frame that was sent; None if there is none."""
    opcode, payload = frames_in(stage.sent)[-1]
    return int.from_bytes(payload[:2], "big") if opcode == wire.CLOSE and payload else None


# ---------------------------------------------------------------- writing


async def test_data_that_the_network_accepts_is_written_at_once_without_a_task() -> None:
    async with running_connection() as running:
        assert running.sent == b""
        assert running.connection.send(b"one"), "the first since the last flush"
        assert not running.connection.send(b"two")
        assert running.sent == b"", "what comes together is sent together"
        assert running.connection.flush()
        assert running.sent == text_frame(b"one") + text_frame(b"two")
        assert running.connection.flush()
        assert running.tasks == []


async def test_the_rest_is_written_by_a_task_that_ends_with_it() -> None:
    async with running_connection() as running:
        running.transport.room = 2
        assert running.send(b"hello", b"there")
        assert running.sent == text_frame(b"hello")[:2]
        await wait_all_tasks_blocked()
        assert running.send(b"behind")
        running.transport.make_room(3)
        await wait_all_tasks_blocked()
        assert len(running.sent) == 5
        assert running.tasks == [WRITER]
        running.transport.make_room(1000)
        await wait_all_tasks_blocked()
        assert running.sent == text_frame(b"hello") + text_frame(b"there") + text_frame(b"behind")
        before = len(running.nursery.child_tasks)
        assert running.send(b"at once")
        assert running.sent.endswith(text_frame(b"at once"))
        assert len(running.nursery.child_tasks) == before == 2, "the connection's and the deadlines'"


@pytest.mark.parametrize("seed", range(30))
async def test_the_order_is_kept_however_much_the_network_accepts(seed: int) -> None:
    random = Random(seed)
    async with running_connection(outbound_messages=10_000, outbound_bytes=1 << 30) as running:
        expected = b""
        running.transport.room = random.randrange(100)
        for number in range(200):
            messages = [b"%d " % number + b"x" * random.choice([0, 10, 200]) for _ in range(random.randrange(4))]
            running.send(*messages)
            expected += b"".join(map(text_frame, messages))
            if random.random() < 0.3:
                running.transport.make_room(random.choice([0, 1, 10, 500]))
            if random.random() < 0.3:
                await wait_all_tasks_blocked()
            assert expected.startswith(running.sent)
        running.transport.make_room(1 << 30)
        await wait_all_tasks_blocked()
        assert running.sent == expected


async def test_the_number_of_queued_messages_is_limited() -> None:
    async with running_connection(outbound_messages=3) as running:
        running.transport.room = 0
        assert running.send(b"the writer has this one")
        assert running.send(b"1", b"2", b"3")
        assert not running.send(b"4")


async def test_the_number_of_queued_bytes_is_limited() -> None:
    async with running_connection(outbound_bytes=100, outbound_messages=1000) as running:
        running.transport.room = 0
        assert running.send(b"x" * 48)
        assert running.send(b"x" * 48), "a frame has two bytes more"
        assert not running.send(b"")


async def test_written_bytes_no_longer_count_as_queued() -> None:
    async with running_connection(outbound_bytes=100) as running:
        running.transport.room = 0
        assert running.send(b"x" * 98)
        running.transport.make_room(50)
        await wait_all_tasks_blocked()
        assert running.send(b"x" * 48)
        assert not running.send(b"")


async def test_the_queue_has_room_again_after_a_write() -> None:
    async with running_connection(outbound_bytes=100, outbound_messages=2) as running:
        for _ in range(10):
            running.transport.room = 0
            assert running.send(b"x" * 28)
            assert running.send(b"y" * 28)
            assert running.send(b"z" * 28)
            running.transport.make_room(1000)
            await wait_all_tasks_blocked()


async def test_a_message_above_the_queue_limit_is_refused_only_if_it_must_be_queued() -> None:
    async with running_connection(outbound_bytes=100) as running:
        assert running.send(b"x" * 1000)
        running.transport.room = 0
        assert not running.send(b"x" * 99)


async def test_a_slow_client_gets_the_rest_of_the_frame_and_a_close_frame() -> None:
    async with running_connection() as running:
        running.transport.room = 3
        running.send(b"torn")
        running.send(b"dropped", b"dropped too")
        running.connection.send(b"and this")
        running.connection.close(CloseCode.SLOW_CONSUMER)
        assert len(running.sent) == 3
        running.transport.make_room(1000)
        await wait_all_tasks_blocked()
        explanation = CloseCode.SLOW_CONSUMER.explanation.encode()
        assert frames_in(running.sent) == [(wire.TEXT, b"torn"), (wire.CLOSE, b"\x0f\xa1" + explanation)]


async def test_otherwise_queued_messages_are_sent_before_the_close_frame() -> None:
    async with running_connection() as running:
        running.transport.room = 3
        running.send(b"torn")
        running.send(b"queued")
        running.connection.send(b"and this")
        running.connection.close(CloseCode.REPLACED)
        running.transport.make_room(1000)
        await wait_all_tasks_blocked()
        assert [payload for _, payload in frames_in(running.sent)[:3]] == [b"torn", b"queued", b"and this"]
        assert close_code(running) == CloseCode.REPLACED


async def test_nothing_is_sent_after_the_close_frame() -> None:
    async with running_connection() as running:
        running.connection.close(CloseCode.REPLACED)
        sent = running.sent
        assert not running.connection.send(b"late")
        running.transport.deliver(wire.frame(wire.PING, b"late"))
        await wait_all_tasks_blocked()
        assert running.connection.flush()
        running.connection.close(CloseCode.SHUTDOWN)
        assert running.sent == sent


async def test_a_failed_write_loses_the_connection() -> None:
    async with running_connection() as running:
        running.transport.break_connection()
        assert running.send(b"into the void")
        await wait_all_tasks_blocked()
        assert (running.dispatcher.lost, running.dispatcher.ended) == ([None], [])
        assert running.over_at is not None


async def test_a_failure_while_the_writer_waits_loses_the_connection(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        running.transport.room = 1
        running.send(b"torn")
        await wait_all_tasks_blocked()
        running.transport.break_connection()
        await wait_all_tasks_blocked()
        assert (running.dispatcher.lost, running.over_at) == ([None], 0.0)


# ---------------------------------------------------------------- the write timeout


async def test_a_client_that_reads_nothing_for_write_seconds_is_too_slow(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        running.transport.room = 1
        running.send(b"torn")
        await trio.sleep(4.9)
        assert running.dispatcher.ended == []
        await trio.sleep(0.2)
        assert running.dispatcher.ended == [CloseCode.SLOW_CONSUMER]


async def test_progress_restarts_the_write_timeout(autojump_clock: MockClock) -> None:
    async with running_connection(ping_seconds=1000) as running:
        running.transport.room = 1
        running.send(b"drop by drop")
        for _ in range(8):
            await trio.sleep(4)
            running.transport.make_room(1)
        await trio.sleep(4)
        assert running.dispatcher.ended == []
        await trio.sleep(1.1)
        assert running.dispatcher.ended == [CloseCode.SLOW_CONSUMER]


async def test_further_messages_do_not_restart_the_write_timeout(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        running.transport.room = 1
        running.send(b"torn")
        for _ in range(5):
            await trio.sleep(0.9)
            running.send(b"more")
        await trio.sleep(0.6)
        assert running.dispatcher.ended == [CloseCode.SLOW_CONSUMER]


async def test_there_is_no_write_timeout_once_everything_is_written(autojump_clock: MockClock) -> None:
    async with running_connection(ping_seconds=1000) as running:
        running.transport.room = 1
        running.send(b"torn")
        await trio.sleep(4)
        running.transport.make_room(1000)
        await trio.sleep(100)
        assert running.dispatcher.ended == []


# ---------------------------------------------------------------- receiving


async def test_received_messages_are_passed_to_the_session_then_flushed() -> None:
    async with running_connection() as running:
        flushes = running.dispatcher.flushes
        running.transport.deliver(wire.frame(wire.TEXT, b"one") + wire.frame(wire.TEXT, b"two"))
        await wait_all_tasks_blocked()
        assert running.dispatcher.texts == ["one", "two"]
        assert running.dispatcher.flushes == flushes + 1


async def test_pipelined_bytes_are_processed_first() -> None:
    async with running_connection(
        pipelined=wire.frame(wire.TEXT, b"one") + wire.frame(wire.TEXT, b"two")[:3]
    ) as running:
        running.transport.deliver(wire.frame(wire.TEXT, b"two")[3:])
        await wait_all_tasks_blocked()
        assert running.dispatcher.texts == ["one", "two"]


async def test_pings_are_answered_in_order_with_what_is_sent() -> None:
    async with running_connection() as running:

        def echo(text: str) -> None:
            running.connection.send(text.encode())

        running.dispatcher.on_text = echo
        running.transport.deliver(
            wire.frame(wire.PING, b"a") + wire.frame(wire.TEXT, b"one") + wire.frame(wire.PING, b"b")
        )
        await wait_all_tasks_blocked()
        assert running.sent == pong_frame(b"a") + text_frame(b"one") + pong_frame(b"b")


async def test_messages_for_an_ended_session_are_ignored() -> None:
    async with running_connection() as running:
        running.dispatcher.on_text = lambda text: running.connection.close(CloseCode.PROTOCOL_ERRORS)
        running.transport.deliver(
            wire.frame(wire.TEXT, b"the last") + wire.frame(wire.TEXT, b"too late"),
            wire.frame(wire.TEXT, b"too late"),
        )
        await wait_all_tasks_blocked()
        assert running.dispatcher.texts == ["the last"]


async def test_messages_after_resume_go_to_the_resumed_session() -> None:
    async with running_connection() as running:
        resumed = running.dispatcher.resumed = object()
        running.transport.deliver(wire.frame(wire.TEXT, b"resume") + wire.frame(wire.TEXT, b"chat"))
        await wait_all_tasks_blocked()
        assert running.dispatcher.received_by == [running.connection, resumed]
        running.connection.endpoint = running.connection


async def test_too_many_control_frames_are_a_violation(autojump_clock: MockClock) -> None:
    async with running_connection(control_frames=Allowance(1.0, 3.0)) as running:
        running.transport.deliver(wire.frame(wire.PING) * 3)
        await wait_all_tasks_blocked()
        assert running.dispatcher.ended == []
        running.transport.deliver(wire.frame(wire.PONG))
        await wait_all_tasks_blocked()
        assert running.dispatcher.ended == [CloseCode.RATE_LIMITED]
        assert close_code(running) == CloseCode.RATE_LIMITED


async def test_control_frames_within_the_rate_limit_are_always_accepted(autojump_clock: MockClock) -> None:
    async with running_connection(control_frames=Allowance(1.0, 3.0)) as running:
        for _ in range(100):
            running.transport.deliver(wire.frame(wire.PONG))
            await trio.sleep(1)
        assert running.dispatcher.ended == []


async def test_a_bug_ends_the_session_and_is_logged() -> None:
    def bug(text: str) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True, allow_unwrapped=True):
        async with running_connection() as running:
            running.dispatcher.on_text = bug
            running.transport.deliver(wire.frame(wire.TEXT, b"boom"))
            await wait_all_tasks_blocked()
    assert running.dispatcher.ended == [None]


# ---------------------------------------------------------------- keepalive


async def test_a_client_that_answers_pings_is_pinged_periodically(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        for number in range(1, 6):
            await trio.sleep(20)
            await wait_all_tasks_blocked()
            assert running.sent == PING_FRAME * number
            running.transport.deliver(wire.frame(wire.PONG))
        assert running.dispatcher.lost == []


async def test_a_client_that_answers_no_ping_is_lost(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        await trio.sleep(29.9)
        assert running.dispatcher.lost == []
        await trio.sleep(0.2)
        assert running.dispatcher.lost == [CloseCode.NO_PONG]
        assert close_code(running) == CloseCode.NO_PONG


@pytest.mark.parametrize("seed", range(20))
async def test_a_pong_exactly_at_the_timeout_is_in_time(seed: int, autojump_clock: MockClock) -> None:
    trio._core._run._r.seed(seed)
    async with running_connection() as running:
        await trio.sleep_until(30)
        running.transport.deliver(wire.frame(wire.PONG))
        await trio.sleep(5)
        assert running.dispatcher.lost == []


async def test_an_overdue_pong_is_looked_for_once_more(autojump_clock: MockClock) -> None:
    """This holds for every pong, not only for the first one."""
    for seed in range(20):
        trio._core._run._r.seed(seed)
        async with running_connection(pong_seconds=20.0) as running:
            began = trio.current_time()
            for number in range(2, 5):
                await trio.sleep_until(began + 20 * number)
                running.transport.deliver(wire.frame(wire.PONG))
                await wait_all_tasks_blocked()
                assert running.dispatcher.lost == []


async def test_a_pong_that_came_while_the_server_was_busy_is_in_time(autojump_clock: MockClock) -> None:
    """Both are detected at once, in either order."""
    for seed in range(20):
        trio._core._run._r.seed(seed)
        async with running_connection() as running:
            began = trio.current_time()
            await trio.sleep(25)
            running.transport.deliver(wire.frame(wire.PONG))
            autojump_clock.jump(100)
            await trio.sleep_until(began + 125.1)
            assert running.dispatcher.lost == []


async def test_a_late_pong_is_too_late(autojump_clock: MockClock) -> None:
    async with running_connection(close_seconds=100) as running:
        await trio.sleep(30.1)
        running.transport.deliver(wire.frame(wire.PONG))
        await wait_all_tasks_blocked()
        assert running.dispatcher.lost == [CloseCode.NO_PONG]


async def test_an_unsolicited_pong_has_no_effect(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        await trio.sleep(19)
        running.transport.deliver(wire.frame(wire.PONG))
        await trio.sleep(1.1)
        assert running.sent == PING_FRAME


async def test_no_pings_are_sent_during_a_close(autojump_clock: MockClock) -> None:
    async with running_connection(close_seconds=1000) as running:
        running.connection.close(CloseCode.REPLACED)
        sent = running.sent
        await trio.sleep(500)
        assert running.sent == sent
        assert running.dispatcher.lost == []


async def test_a_ping_that_does_not_fit_into_the_queue_overflows_it(autojump_clock: MockClock) -> None:
    async with running_connection(outbound_messages=1, write_seconds=1000) as running:
        running.transport.room = 0
        running.send(b"the writer has this one")
        running.send(b"queued")
        await trio.sleep(20.1)
        assert running.dispatcher.ended == [CloseCode.SLOW_CONSUMER]


# ---------------------------------------------------------------- closing


@pytest.mark.parametrize(("payload", "answer"), [(b"\x03\xe8bye", 1000), (b"\x0f\xa0", 4000), (b"", None)])
async def test_a_close_frame_of_the_client_is_answered_and_ends_the_connection(
    payload: bytes, answer: int | None
) -> None:
    async with running_connection() as running:
        running.transport.deliver(
            wire.frame(wire.TEXT, b"last words")
            + wire.frame(wire.CLOSE, payload)
            + wire.frame(wire.TEXT, b"ghost")
        )
        await wait_all_tasks_blocked()
        assert (running.dispatcher.texts, running.dispatcher.ended) == (["last words"], [None])
        assert running.sent == close_frame(answer)
        assert running.over_at is not None
        assert not running.transport.aborted


async def test_the_clients_answer_to_a_close_frame_ends_the_connection_at_once(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        running.connection.close(CloseCode.REPLACED)
        await trio.sleep(1)
        running.transport.deliver(wire.frame(wire.TEXT, b"late") + wire.frame(wire.CLOSE, b"\x03\xe8"))
        await wait_all_tasks_blocked()
        assert (running.over_at, running.dispatcher.texts) == (1.0, [])


async def test_messages_in_flight_during_a_close_are_no_violation(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        running.connection.close(CloseCode.REPLACED)
        running.transport.deliver(
            wire.frame(wire.BINARY, b"late") + wire.frame(wire.TEXT, b"\xff") + wire.frame(wire.CLOSE, b"\x03\xe8")
        )
        await wait_all_tasks_blocked()
        assert running.over_at == 0.0


@pytest.mark.parametrize("code", [4900, 1011, 1012, 1013, 1014])
async def test_a_close_code_that_gives_up_the_connection_is_a_loss(code: int) -> None:
    async with running_connection() as running:
        running.transport.deliver(wire.frame(wire.CLOSE, code.to_bytes(2, "big")))
        await wait_all_tasks_blocked()
        assert (running.dispatcher.lost, running.dispatcher.ended) == ([None], [])
        assert running.sent == close_frame(code)
        assert not running.transport.aborted


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1010, 3000, 4000, 4899, 4901])
async def test_any_other_close_code_of_the_client_is_an_end(code: int) -> None:
    async with running_connection() as running:
        running.transport.deliver(wire.frame(wire.CLOSE, code.to_bytes(2, "big")))
        await wait_all_tasks_blocked()
        assert (running.dispatcher.lost, running.dispatcher.ended) == ([], [None])


async def test_the_server_waits_close_seconds_for_the_clients_close_frame(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        running.connection.close(CloseCode.REPLACED)
        await trio.sleep(2.9)
        assert running.over_at is None
        await trio.sleep(0.2)
        assert running.over_at == 3.0
        assert running.transport.aborted


async def test_further_messages_do_not_extend_the_close_timeout(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        running.connection.close(CloseCode.REPLACED)
        for _ in range(10):
            await trio.sleep(0.5)
            running.transport.deliver(wire.frame(wire.TEXT, b"on and on"))
        assert running.over_at == 3.0


async def test_messages_queued_before_a_close_are_written(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        running.transport.room = 1
        running.send(b"queued")
        running.transport.deliver(wire.frame(wire.CLOSE, b"\x03\xe8"))
        await trio.sleep(1)
        assert running.over_at is None
        running.transport.make_room(1000)
        await wait_all_tasks_blocked()
        assert running.over_at == 1.0
        assert running.sent == text_frame(b"queued") + close_frame(1000)


async def test_messages_queued_before_a_close_are_written_for_at_most_close_seconds(
    autojump_clock: MockClock,
) -> None:
    async with running_connection() as running:
        running.transport.room = 1
        running.send(b"queued")
        running.transport.deliver(wire.frame(wire.CLOSE, b"\x03\xe8"))
        await trio.sleep(10)
        assert running.over_at == 3.0


async def test_an_end_without_a_close_frame_is_a_lost_connection() -> None:
    async with running_connection() as running:
        running.transport.deliver(wire.frame(wire.TEXT, b"one") + wire.frame(wire.TEXT, b"two")[:4], b"")
        await wait_all_tasks_blocked()
        assert (running.dispatcher.texts, running.dispatcher.lost, running.dispatcher.ended) == (
            ["one"],
            [None],
            [],
        )
        assert running.over_at is not None
        assert running.sent == b""


async def test_a_close_without_a_code_ends_the_connection_at_once() -> None:
    async with running_connection() as running:
        running.connection.close(None)
        await wait_all_tasks_blocked()
        assert running.transport.aborted
        assert running.over_at is not None
        assert running.sent == b""


# ---------------------------------------------------------------- a client that violates the framing


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (wire.frame(wire.BINARY, b"x"), CloseCode.UNSUPPORTED_DATA),
        (wire.frame(wire.TEXT, b"x", masked=False), CloseCode.PROTOCOL_ERROR),
        (wire.frame(wire.TEXT, b"\xff"), CloseCode.INVALID_UTF8),
        (wire.frame(wire.TEXT, b"x" * 1001), CloseCode.MESSAGE_TOO_BIG),
    ],
)
async def test_after_a_violation_a_close_frame_is_sent_and_the_sending_side_shut_down(
    broken: bytes, code: CloseCode, autojump_clock: MockClock
) -> None:
    """The client's close frame can't be decoded any more, but the end of the stream is detected."""
    async with running_connection() as running:
        running.transport.deliver(
            wire.frame(wire.TEXT, b"before") + broken + wire.frame(wire.TEXT, b"after"),
            wire.frame(wire.TEXT, b"after"),
        )
        await wait_all_tasks_blocked()
        assert (running.dispatcher.texts, running.dispatcher.ended) == (["before"], [code])
        assert frames_in(running.sent) == [(wire.CLOSE, int(code).to_bytes(2, "big") + code.explanation.encode())]
        assert running.transport.is_ended
        assert running.over_at is None
        running.transport.deliver(b"")
        await wait_all_tasks_blocked()
        assert running.over_at == 0.0


async def test_the_sending_side_is_shut_down_after_the_close_frame_is_written(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        running.transport.room = 1
        running.send(b"torn")
        running.transport.deliver(wire.frame(wire.BINARY, b"x"))
        await wait_all_tasks_blocked()
        assert not running.transport.is_ended
        running.transport.make_room(1000)
        await wait_all_tasks_blocked()
        assert [opcode for opcode, _ in frames_in(running.sent)] == [wire.TEXT, wire.CLOSE]
        assert running.transport.is_ended
        await trio.sleep(10)
        assert running.over_at == 3.0


async def test_a_violation_after_the_servers_close_frame_is_ignored(autojump_clock: MockClock) -> None:
    async with running_connection() as running:
        running.connection.close(CloseCode.REPLACED)
        sent = running.sent
        running.transport.deliver(wire.frame(wire.TEXT, b"x", masked=False))
        await trio.sleep(10)
        assert (running.sent, running.dispatcher.ended, running.over_at) == (sent, [], 3.0)


# ---------------------------------------------------------------- cancellation


@pytest.mark.parametrize("queued", [False, True])
async def test_cancellation_ends_the_session(queued: bool) -> None:
    async with running_connection() as running:
        if queued:
            running.transport.room = 1
            running.send(b"torn")
            await wait_all_tasks_blocked()
        flushes = running.dispatcher.flushes
        running.nursery.cancel_scope.cancel()
    assert (running.dispatcher.ended, running.dispatcher.lost) == ([None], [])
    assert running.dispatcher.flushes > flushes, "the partner is notified"


async def test_cancellation_during_a_close_does_not_end_the_session_again() -> None:
    async with running_connection() as running:
        running.connection.close(CloseCode.REPLACED)
        running.nursery.cancel_scope.cancel()
    assert (running.dispatcher.ended, running.dispatcher.lost) == ([], [])
