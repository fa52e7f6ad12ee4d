"""Three hundred clients chat, negotiate, leave, move on, lose their connections and disconnect.

The server is checked from outside, by what each client receives and what its partner has sent
(tests/random_clients.py); the Python client that they use is checked along with it.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio

from tests.end_to_end.server_process import ServerProcess, running_server
from tests.random_clients import History, RandomClient, run_random_clients

CLIENTS = 300
SECONDS = 8.0
LONGEST_SECONDS = 60.0
"""How long a busy machine may need until enough was done."""
RESUME_SECONDS = 4.0
SETTLE_SECONDS = 0.5
"""In which all clients only receive."""
DEADLINE_SECONDS = 15.0
"""For whatever has to happen."""


def enough_was_done(history: History) -> bool:
    counts = history.counts
    return (
        len(history.pairings) > CLIENTS
        and counts["received"] > 10 * CLIENTS
        and counts["disconnected"] > 0
        and counts["resumed"] > CLIENTS // 10
        and len(history.delays) > 0
    )


def should_go_on(history: History, began: float) -> bool:
    passed = trio.current_time() - began
    return passed < SECONDS or (passed < LONGEST_SECONDS and not enough_was_done(history))


async def run_all(action: Callable[[RandomClient], Awaitable[None]], clients: list[RandomClient]) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(action, client)


async def become_idle(client: RandomClient) -> None:
    if not client.is_idle:
        await client.leave()
    client.expect_every_pairing_to_have_ended_once()


async def find_a_partner(client: RandomClient) -> None:
    await client.join()
    while not client.is_paired:
        await client.receive()


async def expect_health(server: ServerProcess, **expected: int) -> None:
    """Poll `/health` until it has these values."""
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
    history, clients = History(RESUME_SECONDS), list[RandomClient]()
    url, dial = f"ws://127.0.0.1:{server.port}/ws", partial(trio.open_tcp_stream, "127.0.0.1", server.port)
    async with trio.open_nursery() as connections:
        began = trio.current_time()
        is_running = partial(should_go_on, history, began)
        async with trio.open_nursery() as actions:
            for number in range(CLIENTS):
                chance = random.Random(number)
                actions.start_soon(
                    run_random_clients, url, dial, history, chance, is_running, connections, clients
                )
        assert len(clients) == CLIENTS
        seconds, pairings, counts = trio.current_time() - began, len(history.pairings), Counter(history.counts)
        assert enough_was_done(history)

        await run_all(partial(RandomClient.receive_for, seconds=SETTLE_SECONDS), clients)
        await run_all(RandomClient.wait_until_reconnected, clients)
        await run_all(RandomClient.receive_the_partners_leave, clients)
        await run_all(become_idle, clients)
        await expect_health(server, room_count=0, waiting=0, connections=CLIENTS)

        await run_all(find_a_partner, clients)
        assert len(history.pairings) >= pairings + CLIENTS // 2
        await run_all(RandomClient.exchange_chat, clients)
        history.expect_both_to_have_joined()
        await expect_health(server, room_count=CLIENTS // 2, waiting=0, connections=CLIENTS)

        await run_all(RandomClient.disconnect, clients[::2])
        await run_all(RandomClient.close, clients[1::2])
    await expect_health(server, room_count=0, waiting=0, connections=0)

    with capsys.disabled():
        print(f"\n{CLIENTS} clients, {seconds:.0f} s: {pairings} pairings, {dict(counts)}")
    assert {name for name in counts if name.startswith("connection lost")} == {"connection lost, 1006"}
