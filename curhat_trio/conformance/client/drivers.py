"""Who operates the client under test: a person at this terminal, or a command that reads actions from its standard
input. Tests have drivers of their own.
"""

import os
import shlex
import signal
from collections.abc import Callable
from contextlib import suppress
from subprocess import DEVNULL, PIPE
from typing import Literal, Protocol

import attrs
import trio

Action = Literal["join", "leave", "next", "chat", "renegotiate", "quit", "media"]
"""What the user of the client can do.

join: look for a partner (again). leave: leave the partner, or stop waiting, and stay connected. next: leave the
partner for another one. chat: send the text that follows. renegotiate: make the client offer again, by an ICE
restart or another camera. quit: leave for good. media: switch the microphone `off` or `on`, as the text says.
"""
ACTIONS: tuple[Action, ...] = ("join", "leave", "next", "chat", "renegotiate", "quit")
"""Those that a client is expected to support, unless `--actions` names others."""
ALL_ACTIONS: tuple[Action, ...] = (*ACTIONS, "media")

Log = Callable[[str], None]
"""Takes one line of progress."""

_END_SECONDS = 2.0
_INSTRUCTIONS = {
    "join": "have the client look for a partner (Start)",
    "leave": "leave the partner, or stop waiting, and stay connected",
    "next": "go on to the next partner (Next)",
    "chat": "send the partner this, or try to: ",
    "renegotiate": "make the client offer again: another camera, an ICE restart",
    "quit": "leave for good: close the client, or press Stop",
    "media": "switch the microphone ",
}


class Driver(Protocol):
    """Operates the client under test."""

    actions: frozenset[Action]
    """What it supports, beside the first `join`."""
    keeps_client: bool
    """Whether the client stays open for the next scenario; otherwise each scenario gets a new one."""

    async def start(self) -> None:
        """Have a client connect and join; it need not have done so when this returns."""

    async def perform(self, action: Action, text: str = "") -> None:
        """Have the client do this."""

    async def stop(self) -> None:
        """The scenario is over; the next one begins with `start`."""

    async def wait_for_failure(self) -> str:
        """Wait until the client has failed by itself, which may never happen; returns how."""


@attrs.define
class ManualDriver:
    """A person at this terminal; the client stays open from scenario to scenario."""

    url: str
    actions: frozenset[Action]
    log: Log
    keeps_client: bool = True

    async def start(self) -> None:
        """Ask for a client; the one of the last scenario reconnects by itself."""
        self.log(f"  please: have the client look for a partner at {self.url}, unless it does so by itself")

    async def perform(self, action: Action, text: str = "") -> None:
        """Ask for the action."""
        self.log(f"  please: {_INSTRUCTIONS[action]}{text}")

    async def stop(self) -> None:
        """The client stays open."""

    async def wait_for_failure(self) -> str:
        """Does not return: the user sees what happens to the client."""
        await trio.sleep_forever()
        raise AssertionError


@attrs.define
class CommandDriver:
    """A command that is started for every scenario, and reads the user's actions from its standard input."""

    command: str
    url: str
    actions: frozenset[Action]
    log: Log
    keeps_client: bool = False
    _process: trio.Process | None = None

    async def start(self) -> None:
        """Start the command, and have it join."""
        words = [word.replace("{url}", self.url) for word in shlex.split(self.command)]
        environment = {**os.environ, "CURHAT_URL": self.url}
        self._process = await trio.lowlevel.open_process(
            words, stdin=PIPE, stdout=DEVNULL, env=environment, start_new_session=True
        )
        await self.perform("join")

    async def perform(self, action: Action, text: str = "") -> None:
        """Write the action to the command's standard input."""
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(trio.BrokenResourceError):  # it may have exited, or closed its standard input
            await self._process.stdin.send_all(f"{action} {text}".rstrip().encode() + b"\n")

    async def wait_for_failure(self) -> str:
        """Wait until the command has exited with an error; one that succeeds may have left the client running."""
        assert self._process is not None
        if status := await self._process.wait():
            return f"exited with status {status}" if status > 0 else f"was killed by signal {-status}"
        await trio.sleep_forever()
        raise AssertionError

    async def stop(self) -> None:
        """Stop the command and its child processes."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process, signal.SIGTERM)
        with trio.move_on_after(_END_SECONDS):
            await process.wait()
        _signal_group(process, signal.SIGKILL)
        await process.wait()
        if process.stdin is not None:
            await process.stdin.aclose()


def _signal_group(process: trio.Process, number: signal.Signals) -> None:
    """Signal the command and its child processes."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
