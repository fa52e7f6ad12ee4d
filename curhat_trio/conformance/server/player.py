"""Plays a vector with real connections: does what its steps say, and hears whether the server keeps to them.

Each client has a task that reads, answers pings and hands every message to its `Witness`; the player looks at what
has come. All it knows of the server is how to reach it.
"""

import math
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import attrs
import orjson
import trio
import trio.abc

from curhat_trio.conformance.report import Outcome, Trial
from curhat_trio.conformance.server.monitor import Witness
from curhat_trio.conformance.server.patterns import Names, UnknownName, difference, expand, shown
from curhat_trio.conformance.server.vectors import Library, Profile, Step, Time, Vector
from curhat_trio.conformance.wire import (
    TEXT,
    Breach,
    ClosedConnection,
    Message,
    NoWebSocket,
    Peer,
    frame,
    shake_hands,
    upgrade_head,
)

SUBPROTOCOL = "curhat.v1"
AT_ONCE = "at once"
A_MOMENT = "a moment"
_FRESH_NAMES = ("room", "room2", "topic", "topic2")
"""Names that mean something new in each run, so that nobody else is met."""
_ROUNDS = 2
"""How often everybody is asked whether all is heard: what one was told may lead to what another is told."""
_LINE = 240


@attrs.frozen
class Site:
    """A server to be tried, as far as a client knows it."""

    dial: Callable[[], Awaitable[trio.abc.Stream]]
    host: str = "curhat.test"
    target: str = "/ws"
    stop: Callable[[], None] | None = None
    """Ends the server politely, if the player may do that."""


async def play(vector: Vector, site: Site, library: Library) -> Trial:
    """Play one vector from its first step to its last, and a moment longer."""
    began = trio.current_time()
    player = _Player(vector, site, library)
    try:
        await player.run()
    except Breach as breach:
        blamed = (breach.requirement,) if breach.requirement else player.step_shows or vector.rules()
        outcome, rules, detail = Outcome.FAILED, blamed, f"{player.where}: {breach.what}"
    else:
        outcome, rules, detail = Outcome.PASSED, vector.rules(), ""
    transcript = tuple(player.transcript) if outcome is Outcome.FAILED else ()
    return Trial(vector.name, rules, outcome, trio.current_time() - began, detail, transcript)


@attrs.define(eq=False)
class _Client:
    """One client of the vector, while it is connected."""

    name: str
    peer: Peer
    witness: Witness
    heard: deque[tuple[Message, float]] = attrs.Factory(deque)
    """What no step has expected yet, each with when it came."""
    goodbye: ClosedConnection | None = None
    ended_at: float = math.inf
    breach: Breach | None = None
    expected_to_end: bool = False
    gone: bool = False
    """By its own doing."""
    resumes_after: int | None = None
    """The `lastSeq` of the `resume` that it has said."""


class _Player:
    """One run of one vector."""

    def __init__(self, vector: Vector, site: Site, library: Library) -> None:
        self._vector = vector
        self._site = site
        self._times = library.times
        self._names: Names = dict(library.values)
        self._names |= {name: f"{name}-{secrets.token_hex(6)}" for name in _FRESH_NAMES}
        self._clients: dict[str, _Client] = {}
        self._sessions: dict[str, Witness] = {}
        """By `sessionId`: what is known of every session that may be resumed."""
        self._streams: list[trio.abc.Stream] = []
        self._news = trio.Event()
        self._step: Step | None = None
        self._number = 0
        self.transcript: list[str] = []
        self._acts: dict[str, Callable[[Step], Awaitable[None]]] = {
            "opens": self._open,
            "says": self._say,
            "saysText": self._say_text,
            "sendsBytes": self._send_bytes,
            "closes": self._close,
            "vanishes": self._vanish,
            "hears": self._hear,
            "hearsNothing": self._hear_nothing,
            "closed": self._closed,
            "waits": self._wait,
            "together": self._together,
            "either": self._either,
            "stopsServer": self._stop_server,
        }

    @property
    def where(self) -> str:
        """The step that is being played."""
        if self._step is None:
            return "after the last step"
        return f"step {self._number}, {shown(self._step.wire())}"

    @property
    def step_shows(self) -> tuple[str, ...]:
        return self._step.shows if self._step is not None else ()

    async def run(self) -> None:
        """Raises: Breach."""
        breach = None
        async with trio.open_nursery() as self._nursery:
            try:
                for step in self._vector.steps:
                    self._number, self._step = self._number + 1, step
                    await self._perform(step)
                self._step = None
                await self._end()
            except Breach as caught:
                breach = caught
            finally:
                self._nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    for stream in self._streams:
                        await trio.aclose_forcefully(stream)
        if breach is not None:
            raise breach

    async def _perform(self, step: Step) -> None:
        try:
            await self._acts[step.act](step)
        except UnknownName as name:
            raise Breach("", f"{name} has no meaning yet: the vector is wrong") from None

    async def _end(self) -> None:
        """A moment in which nobody hears anything more."""
        await self._quiet_for(self._times[A_MOMENT].seconds)
        self._check()
        for client in self._clients.values():
            if client.heard:
                raise Breach("", f"{client.name} heard more than expected: {shown(client.heard[0][0])}")
            if client.goodbye is not None and not client.expected_to_end and not client.gone:
                raise Breach("P-8.2", f"{client.name} was closed with {client.goodbye.code}, unexpectedly")

    # ------------------------------------------------------------ what clients do

    async def _open(self, step: Step) -> None:
        name, options = _who(step), expand(step.value, self._names)
        profile: Profile = self._vector.clients[name]
        offered = options.get("subprotocols", [SUBPROTOCOL] if profile == "v1" else [])
        try:
            stream = await self._site.dial()
        except OSError as error:
            raise Breach("P-2.1", f"{name} can't connect: {error}") from None
        self._streams.append(stream)
        request = upgrade_head(
            self._target(options.get("username")),
            host=self._site.host,
            sec_websocket_protocol=", ".join(offered) or None,
            origin=options.get("origin"),
        )
        self._tell(name, ">", step.value, "opens")
        try:
            with trio.fail_after(self._at_once):
                opened = await shake_hands(stream, request)
        except (ClosedConnection, NoWebSocket, trio.TooSlowError) as error:
            raise Breach("P-2.1", f"{name} asked for a WebSocket and got {_reply(error)}") from None
        selects = options.get("selects", SUBPROTOCOL if profile == "v1" else None)
        if opened.subprotocol != selects:
            raise Breach("P-2.3", f"expected the subprotocol {selects!r} selected, not {opened.subprotocol!r}")
        peer = Peer(stream, opened.early, opened.subprotocol)
        peer.answers_pings = options.get("answersPings", True)
        client = self._clients[name] = _Client(name, peer, Witness(profile))
        self._nursery.start_soon(self._listen, client)

    def _target(self, username: str | None) -> str:
        if username is None:
            return self._site.target
        joint = "&" if "?" in self._site.target else "?"
        return f"{self._site.target}{joint}username={quote(username)}"

    async def _listen(self, client: _Client) -> None:
        try:
            while True:
                message = await client.peer.next_message()
                self._tell(client.name, "<", message)
                client.heard.append((message, trio.current_time()))
                client.witness.hear(message)
                self._follow(client, message)
                self._wake()
        except ClosedConnection as goodbye:
            client.goodbye, client.ended_at = goodbye, trio.current_time()
            if not client.gone:
                self._tell(client.name, "<", goodbye.code, "closed")
        except Breach as breach:
            client.breach = breach
        self._wake()

    def _follow(self, client: _Client, message: Message) -> None:
        """From `resumed` on a connection tells of another session."""
        session = str(message.get("sessionId"))
        if message.get("type") == "welcome" and client.witness.profile == "v1":
            self._sessions[session] = client.witness
        elif message.get("type") == "resumed":
            if client.resumes_after is None or session not in self._sessions:
                raise Breach("P-13.3", "resumed, but nobody has asked for this session")
            client.witness = self._sessions[session] = self._sessions[session].rewound(client.resumes_after)

    async def _say(self, step: Step) -> None:
        messages = step.value if isinstance(step.value, list) else [step.value]
        expanded = [expand(message, self._names) for message in messages]
        texts = [self._text(message, step.options) for message in expanded]
        for message in expanded:
            if message["type"] == "resume":
                self._client(step).resumes_after = message.get("lastSeq")
        for message in messages:
            self._tell(_who(step), ">", message, *([f"{step.options['times']} times"] if _times(step) > 1 else []))
        await self._send(step, b"".join(frame(TEXT, text) for text in texts) * _times(step))

    def _text(self, message: Any, options: Mapping[str, Any]) -> bytes:
        text = orjson.dumps(message)
        if "padTo" in options:
            size = expand(options["padTo"], self._names) + options.get("over", 0)
            missing = size - len(orjson.dumps({**message, "padding": ""}))
            text = orjson.dumps({**message, "padding": "x" * missing})
        return text

    async def _say_text(self, step: Step) -> None:
        self._tell(_who(step), ">", step.value, "text")
        await self._send(step, frame(TEXT, step.value.encode()) * _times(step))

    async def _send_bytes(self, step: Step) -> None:
        self._tell(_who(step), ">", step.value, "bytes")
        await self._send(step, b"".join(_bytes(part) for part in step.value))

    async def _send(self, step: Step, data: bytes) -> None:
        await self._send_to(self._client(step), data)

    async def _send_to(self, client: _Client, data: bytes) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            with trio.move_on_after(self._at_once) as scope:
                await client.peer.send(data)
            if scope.cancelled_caught:
                raise Breach("P-11.5", f"the server does not read what {client.name} says")

    async def _close(self, step: Step) -> None:
        client = self._client(step)
        client.gone = True
        self._tell(client.name, ">", step.value, "closes")
        await client.peer.begin_close(step.value)
        await self._until(lambda: client.goodbye is not None, self._at_once)
        if client.goodbye is None:
            raise Breach("P-2.1", "expected the server to answer the close frame (RFC 6455, section 5.5.1)")
        await client.peer.vanish()

    async def _vanish(self, step: Step) -> None:
        client = self._client(step)
        client.gone = True
        self._tell(client.name, ">", True, "vanishes")
        await client.peer.vanish()

    async def _wait(self, step: Step) -> None:
        await trio.sleep(self._times[step.value].seconds)

    async def _together(self, step: Step) -> None:
        breaches = []

        async def perform(each: Step) -> None:
            try:
                await self._perform(each)
            except Breach as breach:
                breaches.append(breach)

        async with trio.open_nursery() as nursery:
            for each in step.value:
                nursery.start_soon(perform, each)
        if breaches:
            raise breaches[0]

    async def _stop_server(self, _step: Step) -> None:
        assert self._site.stop is not None, "only played where the player may stop the server"
        self._site.stop()

    # ------------------------------------------------------------ what clients hear

    async def _hear(self, step: Step) -> None:
        for _ in range(_times(step)):
            client = self._client(step)
            earliest, latest = self._due(step)
            await self._until(self._ready_for(client, step), latest)
            self._check()
            if not client.heard:
                ended = "" if client.goodbye is None else f", but was closed with {client.goodbye.code}"
                raise Breach("", f"{client.name} heard nothing in time{ended}; expected {shown(step.value)}")
            message, came = client.heard.popleft()
            if came < earliest:
                raise Breach("P-7.1", f"{client.name} heard {shown(message)} too early")
            names = dict(self._names)
            fault = difference(step.value, message, names)
            if fault is not None:
                raise Breach("", f"{client.name}: {fault} in {shown(message)}")
            self._names = names

    async def _hear_nothing(self, step: Step) -> None:
        client = self._client(step)
        await self._until(self._ready_for(client, step), self._times[step.value].seconds)
        self._check()
        if client.heard:
            raise Breach("", f"expected nothing, but {client.name} heard {shown(client.heard[0][0])}")
        if client.goodbye is not None:
            raise Breach("P-8.2", f"{client.name} was closed with {client.goodbye.code}, unexpectedly")

    async def _closed(self, step: Step) -> None:
        client = self._client(step)
        client.expected_to_end = True
        earliest, latest = self._due(step)
        await self._until(self._ready_for(client, step), latest)
        self._check()
        if client.heard:
            raise Breach("", f"expected to be closed, but {client.name} heard {shown(client.heard[0][0])}")
        if client.goodbye is None:
            raise Breach("", f"{client.name} was not closed in time; expected close code {step.value}")
        if client.ended_at < earliest:
            raise Breach("P-7.1", f"{client.name} was closed too early")
        fault = difference(step.value, client.goodbye.code, self._names)
        if fault is not None:
            raise Breach("", f"close code of {client.name}: {fault}")

    async def _either(self, step: Step) -> None:
        """What crossed may have had several outcomes: one of them must be exactly what everybody heard."""
        for _ in range(_ROUNDS):
            for client in self._clients.values():
                await self._ask(client)
        latest = trio.current_time() + self._at_once
        faults = [""]
        while faults and trio.current_time() < latest:
            await self._quiet_for(self._times[A_MOMENT].seconds)
            self._check()
            faults = self._outcomes(step)
        if faults:
            raise Breach("", f"none of the outcomes came about: {'; '.join(faults)}")

    def _outcomes(self, step: Step) -> list[str]:
        """Why each outcome has not come about; nothing, if one has: then it counts as heard."""
        faults = []
        for outcome in step.value:
            names = dict(self._names)
            fault = self._outcome_difference(outcome, step.options.get("skipping", ()), names)
            if fault is None:
                self._names = names
                for name in outcome:
                    self._clients[name].heard.clear()
                return []
            faults.append(fault)
        return faults

    async def _ask(self, client: _Client) -> None:
        """See that the server has read what a client said so far, if it can be asked: the pong tells."""
        if client.witness.profile != "v1" or client.gone:
            return
        token = secrets.token_hex(6)
        await self._send_to(client, frame(TEXT, orjson.dumps({"type": "ping", "data": token})))

        def pong() -> tuple[Message, float] | None:
            return next((heard for heard in client.heard if heard[0].get("data") == token), None)

        await self._until(lambda: pong() is not None or client.goodbye is not None, self._at_once)
        answer = pong()
        if answer is not None:
            client.heard.remove(answer)

    def _outcome_difference(
        self, outcome: Mapping[str, Sequence[Any]], skipped: Sequence[str], names: Names
    ) -> str | None:
        for name, patterns in outcome.items():
            heard = [message for message, _ in self._clients[name].heard if message["type"] not in skipped]
            fault = difference(list(patterns), heard, names)
            if fault is not None:
                return f"{name} heard {[message['type'] for message in heard]}, {fault}"
        return None

    # ------------------------------------------------------------ waiting

    @property
    def _at_once(self) -> float:
        return self._times[AT_ONCE].tolerance

    def _due(self, step: Step) -> tuple[float, float]:
        """The earliest time for what the step expects, and how many seconds from now are the latest."""
        if "after" not in step.options:
            return -math.inf, self._at_once
        time: Time = self._times[step.options["after"]]
        return trio.current_time() + time.seconds - time.tolerance, time.seconds + time.tolerance

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        with trio.move_on_after(seconds):
            while not condition() and not self._is_breached():
                await self._news.wait()

    async def _quiet_for(self, seconds: float) -> None:
        """Wait until nobody has heard anything for so long, or something is wrong."""
        quiet = False
        while not quiet and not self._is_breached():
            with trio.move_on_after(seconds) as scope:
                await self._news.wait()
            quiet = scope.cancelled_caught

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _ready_for(self, client: _Client, step: Step) -> Callable[[], bool]:
        """Whether there is something to judge: a message that the step does not skip, or the end."""
        skipped = step.options.get("skipping", ())
        eventually = step.options.get("eventually", False)

        def is_skipped(message: Message) -> bool:
            if eventually:
                return difference(step.value, message, dict(self._names)) is not None
            return message.get("type") in skipped

        def is_ready() -> bool:
            while client.heard and is_skipped(client.heard[0][0]):
                client.heard.popleft()
            return bool(client.heard) or client.goodbye is not None

        return is_ready

    def _is_breached(self) -> bool:
        return any(client.breach is not None for client in self._clients.values())

    def _check(self) -> None:
        """Whatever rule a `Witness` saw broken comes first."""
        for client in self._clients.values():
            if client.breach is not None:
                raise client.breach

    def _client(self, step: Step) -> _Client:
        name = _who(step)
        if name not in self._clients:
            raise Breach("", f"{name} has not opened a connection yet: the vector is wrong")
        return self._clients[name]

    def _tell(self, name: str, sign: str, value: Any, *kind: str) -> None:
        text = orjson.dumps(value).decode()
        line = " ".join([name, sign, *kind, text])
        self.transcript.append(line if len(line) <= _LINE else f"{line[:_LINE]}...")


def _who(step: Step) -> str:
    assert step.who is not None
    return step.who


def _times(step: Step) -> int:
    return int(step.options.get("times", 1))


def _bytes(part: Any) -> bytes:
    if isinstance(part, str):
        return bytes.fromhex(part)
    return bytes.fromhex(part["hex"]) * int(part["times"])


def _reply(error: ClosedConnection | NoWebSocket | trio.TooSlowError) -> str:
    match error:
        case NoWebSocket():
            return f"{error}"
        case ClosedConnection():
            return "a closed connection"
    return "no answer in time"
