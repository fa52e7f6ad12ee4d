"""Three hundred people talk, leave, go on to the next, lose their connections and vanish.

The server is judged from outside, by what each of them was told and what its partner had said (tests/crowd.py);
the library that they speak with is judged along with it.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio

from tests.crowd import Crowd, Member, come_and_go
from tests.end_to_end.server_process import ServerProcess, running_server

MEMBERS = 300
SECONDS = 8.0
PATIENCE_SECONDS = 60.0
"""A machine that is busy with other things may need so long until enough was done."""
RESUME_SECONDS = 4.0
SETTLE_SECONDS = 0.5
"""In which everybody only listens."""
DEADLINE_SECONDS = 15.0
"""For whatever has to happen."""


def enough_was_done(crowd: Crowd) -> bool:
    counts = crowd.counts
    return (
        len(crowd.pairings) > MEMBERS
        and counts["heard"] > 10 * MEMBERS
        and counts["vanished"] > 0
        and counts["resumed"] > MEMBERS // 10
        and len(crowd.delays) > 0
    )


def life_goes_on(crowd: Crowd, began: float) -> bool:
    passed = trio.current_time() - began
    return passed < SECONDS or (passed < PATIENCE_SECONDS and not enough_was_done(crowd))


async def everybody(do: Callable[[Member], Awaitable[None]], members: list[Member]) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(do, member)


async def become_idle(member: Member) -> None:
    if not member.is_idle:
        await member.leave()
    member.expect_every_pairing_to_have_ended_once()


async def find_a_partner(member: Member) -> None:
    await member.join()
    while not member.is_paired:
        await member.hear()


async def expect_health(server: ServerProcess, **expected: int) -> None:
    """Ask for `/health` until it says this."""
    health: dict[str, Any] = {}
    with trio.move_on_after(DEADLINE_SECONDS):
        while not expected.items() <= health.items():
            await trio.sleep(0.05)
            health = await trio.to_thread.run_sync(server.health)
    assert expected.items() <= health.items()


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with running_server("--resume-seconds", str(RESUME_SECONDS)) as server:
        yield server


async def test_300_clients_pair_chat_disconnect_and_leave(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd, members = Crowd(RESUME_SECONDS), list[Member]()
    url, dial = f"ws://127.0.0.1:{server.port}/ws", partial(trio.open_tcp_stream, "127.0.0.1", server.port)
    async with trio.open_nursery() as hosts:
        began = trio.current_time()
        goes_on = partial(life_goes_on, crowd, began)
        async with trio.open_nursery() as lives:
            for number in range(MEMBERS):
                chance = random.Random(number)
                lives.start_soon(come_and_go, url, dial, crowd, chance, goes_on, hosts, members)
        assert len(members) == MEMBERS
        seconds, pairings, counts = trio.current_time() - began, len(crowd.pairings), Counter(crowd.counts)
        assert enough_was_done(crowd)

        await everybody(partial(Member.listen, seconds=SETTLE_SECONDS), members)
        await everybody(Member.be_back, members)
        await everybody(Member.hear_that_the_partner_has_gone, members)
        await everybody(become_idle, members)
        await expect_health(server, room_count=0, waiting=0, connections=MEMBERS)

        await everybody(find_a_partner, members)
        assert len(crowd.pairings) >= pairings + MEMBERS // 2
        await everybody(Member.greet, members)
        crowd.expect_both_to_have_been_told()
        await expect_health(server, room_count=MEMBERS // 2, waiting=0, connections=MEMBERS)

        await everybody(Member.vanish, members[::2])
        await everybody(Member.go, members[1::2])
    await expect_health(server, room_count=0, waiting=0, connections=0)

    with capsys.disabled():
        print(f"\n{MEMBERS} members, {seconds:.0f} s: {pairings} pairings, {dict(counts)}")
    assert {name for name in counts if name.startswith("connection lost")} == {"connection lost, 1006"}
