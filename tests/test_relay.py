"""The bounded hand-over: nothing ever waits for a client, and what does not fit is noticed."""

import pytest
import trio
import trio.testing

from curhat_trio.protocol.errors import LeaveReason
from curhat_trio.protocol.events import ConnectionClosed, PeerLeft
from curhat_trio.protocol.ids import RoomId
from curhat_trio.relay import Inbox, Outbox


def told(number: int) -> PeerLeft:
    return PeerLeft(RoomId(str(number)), LeaveReason.LEFT)


# ---------------------------------------------------------------- into a session


async def test_all_that_came_is_received_at_once_and_in_order() -> None:
    inbox = Inbox[str](4)
    assert inbox.tell(told(1))
    assert await inbox.wait_to_tell("heard")
    assert inbox.tell(told(2))
    assert await inbox.receive() == [told(1), "heard", told(2)]


async def test_what_does_not_fit_is_lost_and_marks_the_inbox(autojump_clock: trio.testing.MockClock) -> None:
    inbox = Inbox[str](2)
    assert inbox.tell(told(1))
    assert inbox.tell(told(2))
    assert not inbox.overflowed
    assert not inbox.tell(told(3))
    assert inbox.overflowed
    assert await inbox.receive() == [told(1), told(2)]
    assert inbox.tell(told(4)), "there is room again, but the mark stays"
    assert inbox.overflowed


async def test_the_own_link_waits_for_room(autojump_clock: trio.testing.MockClock) -> None:
    inbox = Inbox[str](1)
    inbox.tell(told(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait_to_tell, "heard")
        await trio.testing.wait_all_tasks_blocked()
        assert await inbox.receive() == [told(1), "heard"]
    assert not inbox.overflowed


async def test_closing_returns_what_was_not_read() -> None:
    inbox = Inbox[str](4)
    inbox.tell(told(1))
    inbox.tell(ConnectionClosed())
    assert inbox.close() == [told(1), ConnectionClosed()]
    assert not inbox.tell(told(2))
    assert not await inbox.wait_to_tell("heard")
    assert not inbox.overflowed, "nobody is there any more; that is not the same as too much"


async def test_closing_frees_a_link_that_waits(autojump_clock: trio.testing.MockClock) -> None:
    inbox = Inbox[str](1)
    inbox.tell(told(1))
    outcome: list[bool] = []

    async def link() -> None:
        outcome.append(await inbox.wait_to_tell("heard"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(link)
        await trio.testing.wait_all_tasks_blocked()
        unread = inbox.close()
    assert unread == [told(1), "heard"]
    assert outcome == [True], "it was taken, if only to be answered"


async def test_nothing_to_receive_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    inbox = Inbox[str](1)
    received: list[object] = []

    async def driver() -> None:
        received.extend(await inbox.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver)
        await trio.testing.wait_all_tasks_blocked()
        assert received == []
        inbox.tell(told(1))
    assert received == [told(1)]


# ---------------------------------------------------------------- out to a client


async def test_what_waits_is_taken_together() -> None:
    outbox = Outbox(max_frames=4, max_bytes=100)
    assert outbox.put([b"one,", b"two,"])
    assert outbox.put([b"three"])
    assert await outbox.take() == b"one,two,three"


@pytest.mark.parametrize(
    ("frames", "fits"),
    [
        ([b"x"] * 4, True),
        ([b"x"] * 5, False),
        ([b"x" * 10], True),
        ([b"x" * 11], False),
        ([b"x" * 5, b"x" * 6], False),
    ],
    ids=["enough frames", "a frame too many", "enough bytes", "a byte too many", "a byte too many in two"],
)
async def test_a_client_that_does_not_read_is_noticed(frames: list[bytes], fits: bool) -> None:
    assert Outbox(max_frames=4, max_bytes=10).put(frames) == fits


async def test_what_was_taken_waits_no_more() -> None:
    outbox = Outbox(max_frames=2, max_bytes=10)
    for _ in range(3):
        assert outbox.put([b"x" * 5, b"y" * 5])
        assert await outbox.take() == b"xxxxxyyyyy"


async def test_the_writer_waits_for_news(autojump_clock: trio.testing.MockClock) -> None:
    outbox = Outbox(max_frames=4, max_bytes=100)
    taken: list[bytes] = []

    async def writer() -> None:
        while frames := await outbox.take():
            taken.append(frames)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer)
        await trio.testing.wait_all_tasks_blocked()
        outbox.put([b"a", b"b"])
        await trio.testing.wait_all_tasks_blocked()
        outbox.put([b"c"])
        outbox.put([b"d"])
        await trio.testing.wait_all_tasks_blocked()
        assert taken == [b"ab", b"cd"]
        outbox.close()
    assert taken == [b"ab", b"cd"]


async def test_a_closed_outbox_still_gives_what_was_in_it() -> None:
    outbox = Outbox(max_frames=4, max_bytes=100)
    outbox.put([b"last words"])
    outbox.close()
    assert await outbox.take() == b"last words"
    assert await outbox.take() == b""


async def test_a_client_that_does_not_read_gets_no_last_words() -> None:
    outbox = Outbox(max_frames=4, max_bytes=100)
    outbox.put([b"last words"])
    outbox.close(discard=True)
    assert await outbox.take() == b""
