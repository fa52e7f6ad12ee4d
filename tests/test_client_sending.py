"""`curhat_trio.client` sends what was lost or dropped again, and does not wait for an answer for ever."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from wsproto.events import Event

from curhat_trio import client as api
from tests.clients import connected, expect_events, paired_clients, scripted_server


async def test_more_messages_than_the_send_buffer_holds_all_arrive(autojump_clock: MockClock) -> None:
    async with paired_clients() as (ani, budi, dialer):
        texts: list[str] = []
        complete = trio.Event()
        await ani.offer("v=0")
        await expect_events(budi, api.Relayed)

        async def listen() -> None:
            async for event in budi:
                if isinstance(event, api.Relayed) and isinstance(event.message, api.Chat):
                    texts.append(event.message.text)
                if len(texts) == api.SEND_BUFFER + 200:
                    complete.set()

        async def talk() -> None:
            for number in range(api.SEND_BUFFER + 200):
                await ani.chat(str(number))
                if number == api.SEND_BUFFER // 2:
                    await dialer.break_connection()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            nursery.start_soon(talk)
            await expect_events(ani, api.Interrupted, api.Resumed)
            await complete.wait()
            nursery.cancel_scope.cancel()
        assert texts == [str(number) for number in range(api.SEND_BUFFER + 200)]
        await ani.ping("the end")
        assert (await expect_events(ani, api.Pong)).data == "the end", "it stayed within the allowance"


async def test_a_connection_without_any_data_times_out(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):

        async def stay_silent(_event: Event) -> None:
            await trio.lowlevel.checkpoint()

        connection._send_event = stay_silent  # type: ignore[assignment, method-assign]
        began = trio.current_time()
        assert (await expect_events(client, api.Interrupted)).reason == "no answer to `ping` within 20 s"
        assert trio.current_time() - began == pytest.approx(40, abs=1)
