"""`curhat_trio.client` passes every scenario, in memory and as a program."""

import sys
from functools import partial
from pathlib import Path

import trio

from curhat_trio.client import Dial
from curhat_trio.conformance.client.command import main
from curhat_trio.conformance.client.drivers import ALL_ACTIONS
from tests.conformance.library_client import LibraryClient
from tests.conformance.test_scripted_server import Clock, InMemoryDriver, failed, report_of, skipped


async def test_the_library_passes_every_scenario(autojump_clock: Clock) -> None:
    def make_driver(dial: Dial, nursery: trio.Nursery) -> InMemoryDriver:
        return InMemoryDriver(partial(LibraryClient, "ws://curhat.test/ws"), dial, nursery, frozenset(ALL_ACTIONS))

    report = await report_of(make_driver)
    assert [(trial.name, trial.detail, trial.transcript) for trial in failed(report)] == []
    assert skipped(report) == {"its offer is rolled back, and is still needed"}, "it describes audio only"


def test_the_library_passes_over_a_real_port() -> None:
    program = Path(__file__).with_name("library_client.py")
    command = f"{sys.executable} {program} {{url}}"
    assert main(["0", "--client-command", command, "--only", "P-4.9", "--quiet-time", "0.5"]) == 0
