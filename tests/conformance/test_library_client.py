"""`curhat_trio.client` passes everything that the kit tries on clients, in memory and as a program."""

import sys
from pathlib import Path

import attrs
import trio

from curhat_trio.client import Dial
from curhat_trio.conformance.client.scripted_server import main
from curhat_trio.conformance.client.scenario_run import DEEDS, Deed
from tests.conformance.library_client import LibraryClient
from tests.conformance.test_listen import Clock, failed, report_of, skipped


@attrs.define
class Puppeteer:
    """A person with a new client for each situation."""

    dial: Dial
    nursery: trio.Nursery
    can: frozenset[Deed] = frozenset(DEEDS)
    stays: bool = False
    client: LibraryClient = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(init=False)

    async def enter(self) -> None:
        self.client, self.scope = LibraryClient("ws://curhat.test/ws", self.dial), trio.CancelScope()
        self.nursery.start_soon(self._live, self.client, self.scope)
        await self.client.join()

    async def _live(self, client: LibraryClient, scope: trio.CancelScope) -> None:
        with scope:
            await client.live()

    async def do(self, deed: Deed, text: str = "") -> None:
        await (self.client.chat(text) if deed == "chat" else getattr(self.client, deed)())

    async def go(self) -> None:
        self.scope.cancel()


async def test_the_library_passes_everything(autojump_clock: Clock) -> None:
    report = await report_of(Puppeteer)
    assert [(trial.name, trial.detail, trial.transcript) for trial in failed(report)] == []
    assert skipped(report) == set()


def test_it_passes_over_a_real_port() -> None:
    program = Path(__file__).with_name("library_client.py")
    command = f"{sys.executable} {program} {{url}}"
    assert main(["0", "--client-command", command, "--only", "P-4.9", "--watch", "0.5"]) == 0
