"""`curhat_trio.client` passes every scenario, in memory and as a program."""

import sys
from pathlib import Path

import attrs
import trio

from curhat_trio.client import Dial
from curhat_trio.conformance.client.command import main
from curhat_trio.conformance.client.drivers import ALL_ACTIONS, Action
from tests.conformance.library_client import LibraryClient
from tests.conformance.test_scripted_server import Clock, failed, perform, report_of, skipped


@attrs.define
class LibraryDriver:
    """A new client for each scenario."""

    dial: Dial
    nursery: trio.Nursery
    actions: frozenset[Action] = frozenset(ALL_ACTIONS)
    keeps_client: bool = False
    client: LibraryClient = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(init=False)

    async def start(self) -> None:
        self.client, self.scope = LibraryClient("ws://curhat.test/ws", self.dial), trio.CancelScope()
        self.nursery.start_soon(self._live, self.client, self.scope)
        await self.client.join()

    async def _live(self, client: LibraryClient, scope: trio.CancelScope) -> None:
        with scope:
            await client.live()

    async def perform(self, action: Action, text: str = "") -> None:
        await perform(self.client, action, text)

    async def stop(self) -> None:
        self.scope.cancel()

    async def wait_for_failure(self) -> str:
        await trio.sleep_forever()
        raise AssertionError


async def test_the_library_passes_every_scenario(autojump_clock: Clock) -> None:
    report = await report_of(LibraryDriver)
    assert [(trial.name, trial.detail, trial.transcript) for trial in failed(report)] == []
    assert skipped(report) == {"its offer is rolled back, and is still needed"}, "it describes audio only"


def test_the_library_passes_over_a_real_port() -> None:
    program = Path(__file__).with_name("library_client.py")
    command = f"{sys.executable} {program} {{url}}"
    assert main(["0", "--client-command", command, "--only", "P-4.9", "--quiet-time", "0.5"]) == 0
