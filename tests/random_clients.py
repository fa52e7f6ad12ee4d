"""Clients that chat, negotiate, leave, move on, lose their connections and disconnect at random.

Each is a `RandomClient`, over `curhat_trio.client`. A `History` is what is known about all of them together:
whatever one receives is compared with what its partner has sent, before the library has hidden anything of it. All
share one clock, so delays are known too.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import trio
import trio.abc

from curhat_trio import client as api
from curhat_trio.client.machine import ClientMachine
from curhat_trio.protocol.messages import ServerMessage

PeerMessage = api.Offer | api.Answer | api.Candidate | api.Chat
"""What these clients send to each other; they do not type."""

PAUSE_SECONDS = (0.05, 0.45)
"""Between two actions of a client: 4 of them a second, of 4 messages at most."""
TOPICS = ("books", "films", "food", "music")
ROOMS = ("east", "west")
RELAYED = ("chat", "offer", "answer", "candidate")


@attrs.frozen
class SentMessage:
    """One message of a client to its partner."""

    message: PeerMessage
    at: float
    interruptions: int
    """How often the two had lost or regained a connection by then."""


@attrs.define
class Pairing:
    """One pairing, as the two clients know it, by their ids."""

    partner: dict[str, str] = attrs.Factory(dict)
    role: dict[str, str] = attrs.Factory(dict)
    sent: defaultdict[tuple[str, str], list[SentMessage]] = attrs.Factory(lambda: defaultdict(list))
    """(client, type) -> what it has sent, in order."""
    leave_reason: dict[str, str] = attrs.Factory(dict)
    """client -> the reason that its partner has to receive."""

    def enter(self, client: str, partner: str, role: str) -> None:
        """Record a `join`: both must receive each other's id, and different roles."""
        assert client not in self.partner
        assert len(self.partner) < 2
        assert self.partner.get(partner, client) == client
        assert role not in self.role.values()
        self.partner[client], self.role[client] = partner, role


@attrs.define
class History:
    """What all clients together have sent and received."""

    resume_seconds: float = 0.0
    """How long the server keeps a session whose client is away, at least."""
    pairings: dict[str, Pairing] = attrs.Factory(dict)
    """By room."""
    reasons_while_waiting: defaultdict[str, set[str]] = attrs.Factory(lambda: defaultdict(set))
    """client -> the reasons that a partner may receive who was paired with it while it stopped waiting."""
    away: dict[str, float] = attrs.Factory(dict)
    """The clients whose connection is lost at present, and since when."""
    interruptions: Counter[str] = attrs.Factory(Counter)
    """client -> how often its connection was lost or came back."""
    counts: Counter[str] = attrs.Factory(Counter)
    delays: list[float] = attrs.Factory(list)
    """Seconds from sending to receiving, of messages during which one of the two was not connected for a time."""

    def expect_both_to_have_joined(self) -> None:
        """Check every pairing, unless it began while one of the two stopped waiting."""
        for pairing in self.pairings.values():
            joined = set(pairing.partner)
            assert all(
                client in joined or self.reasons_while_waiting[client] for client in pairing.partner.values()
            )


@attrs.define
class PairingSide:
    """One client's side of a pairing."""

    room: str
    pairing: Pairing
    me: str
    history: History
    received: Counter[str] = attrs.Factory(Counter)
    """How many messages of each type were received from the partner."""
    awaits_answer: bool = False
    partner_is_away: bool = False

    @property
    def partner(self) -> str:
        return self.pairing.partner[self.me]

    @property
    def interruptions(self) -> int:
        return self.history.interruptions[self.me] + self.history.interruptions[self.partner]

    def record_sent(self, message: PeerMessage) -> None:
        sent = self.pairing.sent[self.me, message.type]
        sent.append(SentMessage(message, trio.current_time(), self.interruptions))

    def check_relayed(self, relayed: api.Relayed) -> None:
        """It must be the partner's next message of this type, in this room, unaltered."""
        kind = relayed.type
        assert (relayed.from_, relayed.to, relayed.room_id) == (self.partner, self.me, self.room)
        sent = self.pairing.sent[self.partner, kind]
        assert self.received[kind] < len(sent), f"{kind} was sent {len(sent)} times and received once more"
        original = sent[self.received[kind]]
        assert relayed.message == original.message
        described = self.received["offer"] + self.received["answer"]
        assert kind != "candidate" or described, "a candidate has overtaken its description"
        self.received[kind] += 1
        if kind != "candidate" and original.interruptions != self.interruptions:  # the server may hold candidates
            self.history.delays.append(trio.current_time() - original.at)

    def check_presence(self, message: api.Presence) -> None:
        """Away and back by turns, and only for a partner that has lost a connection."""
        assert self.partner_is_away is (message.state == "back")
        assert self.history.interruptions[self.partner]
        self.partner_is_away = message.state == "away"

    def expect_nothing_missing(self) -> None:
        """The partner has left while connected: everything that it sent before must have arrived."""
        for kind in RELAYED:
            sent = len(self.pairing.sent[self.partner, kind])
            held = kind == "candidate" and not self.received["offer"] + self.received["answer"]
            expected = 0 if held else sent
            assert self.received[kind] == expected, f"{kind}: {sent} sent, {self.received[kind]} received"


@attrs.define(kw_only=True)
class _ObservedMachine(ClientMachine):
    """A client's protocol machine that shows an observer every message of the server."""

    observer: Callable[[ServerMessage], None]

    def receive(self, message: ServerMessage) -> ServerMessage | None:
        self.observer(message)
        return super().receive(message)


class RandomClient:
    """One client, from its `welcome` to its end. `RandomClient.connect` makes it.

    Args:
        client: Connected; no event of it was taken yet.
        streams: Its connections, the present one last.
    """

    def __init__(
        self, client: api.Client, streams: list[trio.abc.Stream], history: History, chance: random.Random
    ) -> None:
        self._client = client
        self._streams = streams
        self._history = history
        self._chance = chance
        self._me: str = client.welcome.session_id
        client._machine = _ObservedMachine(welcome=client.welcome, observer=self._observe)
        self._side: PairingSide | None = None
        self._ready_room: str | None = None
        """Waiting, in this room."""
        self._leaves: Counter[str] = Counter()
        self._leaving: str | None = None
        """The `leave` or `next` that the server has not acknowledged yet; or "disconnect"."""
        self._is_resumable = False
        """The server has answered a message, so it keeps the session if the connection is lost."""
        self._finished = trio.Event()

    @property
    def is_paired(self) -> bool:
        return self._client.state.has_partner

    @property
    def is_idle(self) -> bool:
        """Neither waiting nor paired."""
        return self._client.state is api.State.CONNECTED

    # ------------------------------------------------------------ checking what the server sends

    def _observe(self, message: ServerMessage) -> None:
        """Check a message, whether or not the library hides it."""
        self._history.counts["received"] += 1
        self._is_resumable = self._is_resumable or not isinstance(message, api.Welcome)
        match message:
            case api.Relayed():
                assert self._side is not None, f"{message.type} outside of any pairing: {message}"
                self._side.check_relayed(message)
                self._history.counts["relayed"] += 1
                if isinstance(message.message, api.Answer):
                    self._side.awaits_answer = False
            case api.Ready():
                assert self._side is None
                self._ready_room = message.room_id
            case api.Joined():
                self._observe_joined(message)
            case api.Left():
                self._observe_left(message)
            case api.Presence():
                assert self._side is not None
                self._side.check_presence(message)
            case api.ErrorMessage():
                self._observe_error(message)
            case _:
                pass

    def _observe_joined(self, message: api.Joined) -> None:
        assert self._side is None
        room = message.room_id
        assert room == self._ready_room
        pairing = self._history.pairings.setdefault(room, Pairing())
        pairing.enter(self._me, message.from_, message.role)
        self._side, self._ready_room = PairingSide(room, pairing, self._me, self._history), None
        self._record_leave_reason()

    def _observe_left(self, message: api.Left) -> None:
        room = message.room_id
        self._leaves[room] += 1
        assert self._leaves[room] == 1
        own = message.from_ == self._me
        if self._side is None:
            assert own
            assert room == self._ready_room
            self._ready_room = None
            return
        side, self._side = self._side, None
        assert room == side.room
        assert own or message.from_ == side.partner
        if not own:
            self._check_reason(side, message.reason)

    def _check_reason(self, side: PairingSide, reason: str) -> None:
        sent = side.pairing.leave_reason.get(side.partner)
        expected = {sent} if sent else set(self._history.reasons_while_waiting[side.partner])
        if side.partner in self._history.away:
            expected.add("peer_lost")
        assert reason in expected, f"{reason}, expected {expected}"
        if reason != "peer_lost":
            side.expect_nothing_missing()

    def _observe_error(self, message: api.ErrorMessage) -> None:
        """Nothing that a client sends is refused, unless it crossed its partner's `leave`."""
        assert message.code == "wrong_state", message
        assert message.ref in (*RELAYED, "leave", "next"), message
        if message.ref in ("leave", "next"):
            assert self._side is None
        self._history.counts[f"error {message.code}"] += 1

    # ------------------------------------------------------------ receiving

    async def receive_for(self, seconds: float) -> None:
        """Take the events of this time."""
        with trio.move_on_after(seconds):
            while True:
                await self.receive()

    async def receive(self) -> None:
        """Take one event, and reply to an offer."""
        event = await anext(self._client)
        with trio.CancelScope(shield=True):  # an event that was taken is handled, also when `receive_for` ends
            await self._handle(event)

    async def _handle(self, event: api.AnyEvent) -> None:
        match event:
            case api.Relayed(message=api.Offer()):
                await self._send(api.Answer(self._description("answer")))
            case api.Interrupted():
                self._history.counts[f"connection lost, {event.code}"] += 1
                self._record_interruption()
            case api.Resumed():
                self._history.counts["resumed"] += 1
                self._record_resumption()
            case api.Restarted():
                self._history.counts["session lost"] += 1
                self._record_restart()
            case _:
                pass

    def _record_interruption(self) -> None:
        if self._me not in self._history.away:
            self._history.away[self._me] = trio.current_time()
            self._history.interruptions[self._me] += 1

    def _record_resumption(self) -> None:
        del self._history.away[self._me]
        self._history.interruptions[self._me] += 1

    def _record_restart(self) -> None:
        """The old session is lost, and stays away for ever: the client must have been late."""
        assert trio.current_time() - self._history.away[self._me] > self._history.resume_seconds
        if self._side is not None:
            self._side.pairing.leave_reason.setdefault(self._me, "peer_lost")
        self._history.reasons_while_waiting[self._me].add("peer_lost")
        self._me, self._side, self._ready_room, self._leaving = self._client.welcome.session_id, None, None, None
        self._leaves.clear()
        self._is_resumable = False

    # ------------------------------------------------------------ sending

    async def join(self, topics: tuple[str, ...] = (), room: str | None = None) -> None:
        await self._client.join(topics, room)
        while self._client.state is api.State.JOINING:
            await self.receive()

    async def leave(self) -> None:
        """Leave, and wait until that is acknowledged."""
        await self._leave("leave", self._client.leave)

    async def next(self) -> None:
        """Move on, and wait until that is acknowledged."""
        await self._leave("next", self._client.next)

    async def _leave(self, kind: str, send: Callable[[], Awaitable[None]]) -> None:
        self._leaving = kind
        self._record_leave_reason()
        await send()
        while self._client.state in (api.State.LEAVING, api.State.MOVING_ON, api.State.JOINING):
            await self.receive()
        self._leaving = None

    def _record_leave_reason(self) -> None:
        """If this client is about to leave, record which reason its partner has to receive."""
        if self._leaving is None:
            return
        reason = {"leave": "left", "next": "next", "disconnect": "peer_lost"}[self._leaving]
        if self._side is not None:
            self._side.pairing.leave_reason[self._me] = reason
        else:
            self._history.reasons_while_waiting[self._me].add(reason)

    async def _send(self, message: PeerMessage) -> None:
        """Send something to the partner, if there is one."""
        if not self.is_paired:
            return
        assert self._side is not None
        self._side.record_sent(message)
        self._history.counts["sent"] += 1
        match message:
            case api.Chat(text):
                await self._client.chat(text)
            case api.Offer(description):
                await self._client.offer(description.sdp)
            case api.Answer(description):
                await self._client.answer(description.sdp)
            case api.Candidate(one):
                await self._client.candidate(one.candidate, one.sdpMid, None, one.usernameFragment)

    def _unique_text(self, kind: str) -> str:
        """A text that no client has sent before."""
        if self._side is None:
            return ""
        return f"{self._side.room} {self._me} {len(self._side.pairing.sent[self._me, kind])}"

    async def chat(self, times: int = 1) -> None:
        for _ in range(times):
            await self._send(api.Chat(self._unique_text("chat") or "without a partner"))

    async def exchange_chat(self) -> None:
        """Send the partner a text, and wait for one of the partner's."""
        assert self._side is not None
        await self.chat()
        while not self._side.received["chat"]:
            await self.receive()

    async def receive_the_partners_leave(self) -> None:
        """If the partner has left, its `leave` must arrive without any request."""
        while (side := self._side) is not None and (
            side.partner in side.pairing.leave_reason
            or (side.partner not in side.pairing.partner and self._history.reasons_while_waiting[side.partner])
        ):
            await self.receive()

    async def _send_candidate(self) -> None:
        line = f"candidate:{self._unique_text('candidate')}"
        await self._send(api.Candidate(api.IceCandidate(line, "0", usernameFragment=self._fragment)))

    @property
    def _fragment(self) -> str:
        return self._me[-8:]

    def _description(self, kind: str) -> api.Description:
        assert kind in ("offer", "answer")
        sdp = f"v=0\r\na=ice-ufrag:{self._fragment}\r\ns={self._unique_text(kind)}\r\n"
        return api.Description("offer" if kind == "offer" else "answer", sdp)

    async def _offer(self) -> None:
        """Offer if that is allowed: the first offer is the offerer's, and no two cross."""
        side = self._side
        if side is None or side.awaits_answer or side.pairing.role[self._me] != "offerer":
            await self.chat()
            return
        side.awaits_answer = True
        await self._send(api.Offer(self._description("offer")))

    # ------------------------------------------------------------ random actions

    async def run(self, is_running: Callable[[], bool]) -> bool:
        """Act at random until `is_running` ends it; False if the client has disconnected before."""
        while is_running():
            await self.receive_for(self._chance.uniform(*PAUSE_SECONDS))
            if self._chance.random() < 0.01:
                await self.disconnect()
                return False
            if self._is_resumable and self._chance.random() < 0.03:
                await self.break_connection()
            await self._random_action()()
        return True

    def _random_action(self) -> Callable[[], Awaitable[None]]:
        if self.is_paired:
            return self._choose(
                (30, partial(self.chat, self._chance.randint(1, 4))),
                (20, self._send_candidate),
                (35, self._offer),
                (8, self.next),
                (7, self.leave),
            )
        if self.is_idle:
            return self._choose(
                (60, self.join),
                (25, partial(self.join, tuple(self._chance.sample(TOPICS, 2)))),
                (15, partial(self.join, room=self._chance.choice(ROOMS))),
            )
        return self._choose((95, trio.lowlevel.checkpoint), (5, self.leave))

    def _choose(self, *weighted: tuple[int, Callable[[], Awaitable[None]]]) -> Callable[[], Awaitable[None]]:
        weights, actions = zip(*weighted, strict=True)
        chosen: Callable[[], Awaitable[None]] = self._chance.choices(actions, weights)[0]
        return chosen

    async def break_connection(self) -> None:
        """End the connection without a close frame; the library reconnects by itself."""
        if self._me not in self._history.away:
            self._history.counts["interrupted"] += 1
            self._record_interruption()
            await trio.aclose_forcefully(self._streams[-1])

    async def wait_until_reconnected(self) -> None:
        while self._me in self._history.away:
            await self.receive()

    async def disconnect(self) -> None:
        """End the connection without a close frame, for good."""
        self._history.counts["disconnected"] += 1
        self._leaving = "disconnect"
        self._record_leave_reason()
        self._record_interruption()
        await trio.aclose_forcefully(self._streams[-1])
        self._finished.set()
        self.expect_every_pairing_to_have_ended_once()

    async def close(self) -> None:
        """End the connection with a close frame."""
        await self._client.aclose()
        self._finished.set()

    def expect_every_pairing_to_have_ended_once(self) -> None:
        """All but the present one, or the one that this client has disconnected from."""
        mine = {room for room, pairing in self._history.pairings.items() if self._me in pairing.partner}
        present = {self._side.room} if self._side is not None else set()
        assert {room for room in mine if self._leaves[room] != 1} == present

    # ------------------------------------------------------------ connecting

    @classmethod
    async def connect(
        cls,
        url: str,
        dial: api.Dial,
        history: History,
        chance: random.Random,
        task_status: "trio.TaskStatus[RandomClient]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Start this in a nursery: the client stays connected until `close` or `disconnect`."""
        streams: list[trio.abc.Stream] = []

        async def dial_and_keep() -> trio.abc.Stream:
            streams.append(await dial())
            return streams[-1]

        async with api.connect(url, dial=dial_and_keep, jitter=lambda: 0.0) as client:
            random_client = cls(client, streams, history, chance)
            task_status.started(random_client)
            await random_client._finished.wait()


async def run_random_clients(
    url: str,
    dial: api.Dial,
    history: History,
    chance: random.Random,
    is_running: Callable[[], bool],
    connections: trio.Nursery,
    remaining: list[RandomClient],
) -> None:
    """Run one client after the other, until one is still there at the end. Adds that one to `remaining`.

    Raises:
        CannotConnect: There is no server.
        ConnectionEnded: The server refuses the client for good.
    """
    while True:
        client: RandomClient = await connections.start(RandomClient.connect, url, dial, history, chance)
        if await client.run(is_running):
            remaining.append(client)
            return
