"""Plays a vector over real connections: performs what its steps do, and compares what they expect."""

import math
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
import trio

from curhat_trio.conformance import wire
from curhat_trio.conformance.report import Outcome, Trial
from curhat_trio.conformance.server.client_connections import (
    ClientConnection,
    ClientConnections,
    ServerUnderTest,
)
from curhat_trio.conformance.server.patterns import Names, UnknownName, abridged, difference, expand
from curhat_trio.conformance.server.vectors import Library, Step, Time, Vector

AT_ONCE = "at once"
A_MOMENT = "a moment"
_FRESH_NAMES = ("room", "room2", "topic", "topic2")
"""Names with a new value in each run, so that its clients meet no others."""
_ROUND_TRIPS = 2
"""How often each client is asked whether it has received everything: one message can lead to another."""


async def play_vector(vector: Vector, server: ServerUnderTest, library: Library) -> Trial:
    """Play one vector from its first step to its last, and a moment longer."""
    began = trio.current_time()
    player = _Player(vector, server, library)
    try:
        await player.run()
    except wire.RuleViolation as violation:
        rules = (violation.requirement,) if violation.requirement else player.step_rules or vector.rules()
        outcome, detail = Outcome.FAILED, f"{player.where}: {violation.detail}"
    else:
        outcome, rules, detail = Outcome.PASSED, vector.rules(), ""
    transcript = tuple(player.transcript) if outcome is Outcome.FAILED else ()
    return Trial(vector.name, rules, outcome, trio.current_time() - began, detail, transcript)


class _Player:
    """One run of one vector."""

    def __init__(self, vector: Vector, server: ServerUnderTest, library: Library) -> None:
        self._vector = vector
        self._server = server
        self._times = library.times
        self._names: Names = dict(library.values)
        self._names |= {name: f"{name}-{secrets.token_hex(6)}" for name in _FRESH_NAMES}
        self._clients = ClientConnections(server, self._answer_seconds)
        self._step: Step | None = None
        self._number = 0
        self._acts: dict[str, Callable[[Step], Awaitable[None]]] = {
            "opens": self._open,
            "says": self._send_messages,
            "saysText": self._send_text,
            "sendsBytes": self._send_bytes,
            "closes": self._close,
            "vanishes": self._disconnect,
            "hears": self._expect,
            "hearsNothing": self._expect_nothing,
            "closed": self._expect_close,
            "waits": self._wait,
            "together": self._in_parallel,
            "either": self._expect_either,
            "stopsServer": self._stop_server,
        }

    @property
    def transcript(self) -> list[str]:
        return self._clients.transcript

    @property
    def where(self) -> str:
        """The step that is being played."""
        if self._step is None:
            return "after the last step"
        return f"step {self._number}, {abridged(self._step.wire())}"

    @property
    def step_rules(self) -> tuple[str, ...]:
        return self._step.shows if self._step is not None else ()

    async def run(self) -> None:
        """Raises: RuleViolation."""
        violation = None
        async with trio.open_nursery() as self._nursery:
            try:
                for step in self._vector.steps:
                    self._number, self._step = self._number + 1, step
                    await self._perform(step)
                self._step = None
                await self._expect_quiet_end()
            except wire.RuleViolation as caught:
                violation = caught
            finally:
                self._nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await self._clients.disconnect_all()
        if violation is not None:
            raise violation

    async def _perform(self, step: Step) -> None:
        try:
            await self._acts[step.act](step)
        except UnknownName as name:
            raise wire.RuleViolation("", f"{name} has no value yet: the vector is wrong") from None

    async def _expect_quiet_end(self) -> None:
        """A moment in which no client receives anything more."""
        await self._clients.wait_until_quiet(self._times[A_MOMENT].seconds)
        self._clients.check()
        for client in self._clients:
            if client.received:
                raise wire.RuleViolation(
                    "", f"{client.name} received more than expected: {abridged(client.received[0][0])}"
                )
            if client.closed is not None and not client.expects_close and not client.has_left:
                raise _unexpected_close(client, client.closed)

    # ------------------------------------------------------------ what clients do

    async def _open(self, step: Step) -> None:
        name = _who(step)
        self._clients.note(name, ">", step.value, "opens")
        options = expand(step.value, self._names)
        await self._clients.open(name, self._vector.clients[name], options, self._nursery)

    async def _send_messages(self, step: Step) -> None:
        messages = step.value if isinstance(step.value, list) else [step.value]
        expanded = [expand(message, self._names) for message in messages]
        texts = [self._text(message, step.options) for message in expanded]
        for message in expanded:
            if message["type"] == "resume":
                self._client(step).resumes_after = message.get("lastSeq")
        repeated = [f"{_times(step)} times"] if _times(step) > 1 else []
        for message in messages:
            self._clients.note(_who(step), ">", message, *repeated)
        await self._clients.send_texts(self._client(step), texts * _times(step))

    def _text(self, message: Any, options: Mapping[str, Any]) -> str:
        text = orjson.dumps(message)
        if "padTo" in options:
            size = expand(options["padTo"], self._names) + options.get("over", 0)
            missing = size - len(orjson.dumps({**message, "padding": ""}))
            text = orjson.dumps({**message, "padding": "x" * missing})
        return text.decode()

    async def _send_text(self, step: Step) -> None:
        self._clients.note(_who(step), ">", step.value, "text")
        await self._clients.send_texts(self._client(step), [step.value] * _times(step))

    async def _send_bytes(self, step: Step) -> None:
        self._clients.note(_who(step), ">", step.value, "bytes")
        await self._clients.send_bytes(self._client(step), b"".join(_bytes(part) for part in step.value))

    async def _close(self, step: Step) -> None:
        client = self._client(step)
        client.has_left = True
        self._clients.note(client.name, ">", step.value, "closes")
        await client.socket.begin_close(step.value)
        await self._clients.wait_until(lambda: client.closed is not None, self._answer_seconds)
        if client.closed is None:
            raise wire.RuleViolation(
                "P-2.1", "expected the server to answer the close frame (RFC 6455, section 5.5.1)"
            )
        await client.socket.disconnect()

    async def _disconnect(self, step: Step) -> None:
        client = self._client(step)
        client.has_left = True
        self._clients.note(client.name, ">", True, "vanishes")
        await client.socket.disconnect()

    async def _wait(self, step: Step) -> None:
        await trio.sleep(self._times[step.value].seconds)

    async def _in_parallel(self, step: Step) -> None:
        violations = []

        async def perform(each: Step) -> None:
            try:
                await self._perform(each)
            except wire.RuleViolation as violation:
                violations.append(violation)

        async with trio.open_nursery() as nursery:
            for each in step.value:
                nursery.start_soon(perform, each)
        if violations:
            raise violations[0]

    async def _stop_server(self, _step: Step) -> None:
        assert self._server.stop is not None, "only played where the player can stop the server"
        self._server.stop()

    # ------------------------------------------------------------ what clients expect

    async def _expect(self, step: Step) -> None:
        for _ in range(_times(step)):
            client = self._client(step)
            earliest, latest = self._due(step)
            await self._clients.wait_until(self._has_something_for(client, step), latest)
            self._clients.check()
            if not client.received:
                ended = "" if client.closed is None else f", but was closed with {client.closed.code}"
                raise wire.RuleViolation(
                    "", f"{client.name} received nothing in time{ended}; expected {abridged(step.value)}"
                )
            message, arrived = client.received.popleft()
            if arrived < earliest:
                raise wire.RuleViolation("P-7.1", f"{client.name} received {abridged(message)} too early")
            names = dict(self._names)
            fault = difference(step.value, message, names)
            if fault is not None:
                raise wire.RuleViolation("", f"{client.name}: {fault} in {abridged(message)}")
            self._names = names

    async def _expect_nothing(self, step: Step) -> None:
        client = self._client(step)
        await self._clients.wait_until(self._has_something_for(client, step), self._times[step.value].seconds)
        self._clients.check()
        if client.received:
            raise wire.RuleViolation(
                "", f"expected nothing, but {client.name} received {abridged(client.received[0][0])}"
            )
        if client.closed is not None:
            raise _unexpected_close(client, client.closed)

    async def _expect_close(self, step: Step) -> None:
        client = self._client(step)
        client.expects_close = True
        earliest, latest = self._due(step)
        await self._clients.wait_until(self._has_something_for(client, step), latest)
        self._clients.check()
        if client.received:
            raise wire.RuleViolation(
                "", f"expected a close frame, but {client.name} received {abridged(client.received[0][0])}"
            )
        if client.closed is None:
            raise wire.RuleViolation("", f"{client.name} was not closed in time; expected close code {step.value}")
        if client.closed_at < earliest:
            raise wire.RuleViolation("P-7.1", f"{client.name} was closed too early")
        fault = difference(step.value, client.closed.code, self._names)
        if fault is not None:
            raise wire.RuleViolation("", f"close code of {client.name}: {fault}")

    async def _expect_either(self, step: Step) -> None:
        """Where messages crossed there are several outcomes: one must be exactly what every client received."""
        for _ in range(_ROUND_TRIPS):
            for client in self._clients:
                if client.monitor.profile == "v1" and not client.has_left:
                    await self._clients.round_trip(client, secrets.token_hex(6))
        latest = trio.current_time() + self._answer_seconds
        faults = [""]
        while faults and trio.current_time() < latest:
            await self._clients.wait_until_quiet(self._times[A_MOMENT].seconds)
            self._clients.check()
            faults = self._match_outcome(step)
        if faults:
            raise wire.RuleViolation("", f"none of the outcomes occurred: {'; '.join(faults)}")

    def _match_outcome(self, step: Step) -> list[str]:
        """Why no outcome has occurred; empty if one has: its messages are then taken for received."""
        faults = []
        for outcome in step.value:
            names = dict(self._names)
            fault = self._outcome_difference(outcome, step.options.get("skipping", ()), names)
            if fault is None:
                self._names = names
                for name in outcome:
                    self._clients[name].received.clear()
                return []
            faults.append(fault)
        return faults

    def _outcome_difference(
        self, outcome: Mapping[str, Sequence[Any]], skipped: Sequence[str], names: Names
    ) -> str | None:
        for name, patterns in outcome.items():
            received = [message for message, _ in self._clients[name].received if message["type"] not in skipped]
            fault = difference(list(patterns), received, names)
            if fault is not None:
                return f"{name} received {[message['type'] for message in received]}, {fault}"
        return None

    def _has_something_for(self, client: ClientConnection, step: Step) -> Callable[[], bool]:
        """Whether there is something to compare: a message that the step does not skip, or the end."""
        skipped = step.options.get("skipping", ())
        eventually = step.options.get("eventually", False)

        def is_skipped(message: wire.Message) -> bool:
            if eventually:
                return difference(step.value, message, dict(self._names)) is not None
            return message.get("type") in skipped

        def has_something() -> bool:
            while client.received and is_skipped(client.received[0][0]):
                client.received.popleft()
            return bool(client.received) or client.closed is not None

        return has_something

    # ------------------------------------------------------------ times and names

    @property
    def _answer_seconds(self) -> float:
        return self._times[AT_ONCE].tolerance

    def _due(self, step: Step) -> tuple[float, float]:
        """The earliest time for what the step expects, and how many seconds from now are the latest."""
        if "after" not in step.options:
            return -math.inf, self._answer_seconds
        time: Time = self._times[step.options["after"]]
        return trio.current_time() + time.seconds - time.tolerance, time.seconds + time.tolerance

    def _client(self, step: Step) -> ClientConnection:
        return self._clients[_who(step)]


def _unexpected_close(client: ClientConnection, closed: wire.ClosedConnection) -> wire.RuleViolation:
    return wire.RuleViolation("P-8.2", f"{client.name} was closed with {closed.code}, unexpectedly")


def _who(step: Step) -> str:
    assert step.who is not None
    return step.who


def _times(step: Step) -> int:
    return int(step.options.get("times", 1))


def _bytes(part: Any) -> bytes:
    if isinstance(part, str):
        return bytes.fromhex(part)
    return bytes.fromhex(part["hex"]) * int(part["times"])
