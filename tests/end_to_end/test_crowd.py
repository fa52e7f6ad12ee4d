"""Three hundred people talk, leave, go on to the next and vanish, and the server is judged from outside.

Each member keeps to the protocol and believes only what the server tells it; a `Pairing` is what both of its
members were told and said, so that whatever one of them hears can be held against what the other said.
"""

import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from peers import Message, Peer, open_peer
from server_process import ServerProcess, running_server

MEMBERS = 300
SECONDS = 10.0
PAUSE_SECONDS = (0.05, 0.45)
"""Between two things that a member does of its own accord: 4 of them a second, of 4 messages at most."""
SETTLE_SECONDS = 0.5
"""In which everybody only listens."""
DEADLINE_SECONDS = 15.0
"""For whatever has to happen."""

RELAYED = ("chat", "offer", "answer", "candidate")
TOPICS = ("books", "films", "food", "music")
ROOMS = ("east", "west")


@attrs.define
class Pairing:
    """One pairing as its members know it, by their ids."""

    partner: dict[str, str] = attrs.Factory(dict)
    role: dict[str, str] = attrs.Factory(dict)
    said: defaultdict[tuple[str, str], list[Any]] = attrs.Factory(lambda: defaultdict(list))
    """(member, type) -> what it said, in order."""
    goodbye: dict[str, str] = attrs.Factory(dict)
    """member -> the reason that its partner has to hear."""

    def enter(self, member: str, partner: str, role: str) -> None:
        """Both are told of each other, and of different roles."""
        assert member not in self.partner
        assert len(self.partner) < 2
        assert self.partner.get(partner, member) == member
        assert role not in self.role.values()
        self.partner[member], self.role[member] = partner, role


@attrs.define
class Crowd:
    """What is known about all members together."""

    pairings: dict[str, Pairing] = attrs.Factory(dict)
    """By room."""
    withdrawn: defaultdict[str, set[str]] = attrs.Factory(lambda: defaultdict(set))
    """member -> the reasons that somebody may hear who was paired with it while it gave up waiting."""
    counts: Counter[str] = attrs.Factory(Counter)
    peers: list[Peer] = attrs.Factory(list)

    async def send_home(self) -> None:
        """Close what is still open after a failure."""
        for peer in self.peers:
            await trio.aclose_forcefully(peer.stream)


@attrs.define
class Seat:
    """One member's side of a pairing."""

    room: str
    pairing: Pairing
    me: str
    heard: Counter[str] = attrs.Factory(Counter)
    """How much of each type the partner has said so far."""
    awaits_answer: bool = False

    @property
    def partner(self) -> str:
        return self.pairing.partner[self.me]

    def hear(self, message: Message) -> None:
        """It must be the partner's next word of this type, in this room, unaltered."""
        kind = message["type"]
        assert (message["from"], message["to"], message["roomId"]) == (self.partner, self.me, self.room)
        said = self.pairing.said[self.partner, kind]
        assert self.heard[kind] < len(said), f"{kind} was said {len(said)} times and arrived once more"
        assert message.get("text", message.get("payload")) == said[self.heard[kind]]
        described = self.heard["offer"] + self.heard["answer"]
        assert kind != "candidate" or described, "a candidate has overtaken its description"
        self.heard[kind] += 1

    def expect_nothing_missing(self) -> None:
        """The partner has left in peace: all that it said before must have come."""
        for kind in RELAYED:
            said = len(self.pairing.said[self.partner, kind])
            held = kind == "candidate" and not self.heard["offer"] + self.heard["answer"]
            assert self.heard[kind] == (0 if held else said), f"{kind}: {said} said, {self.heard[kind]} heard"


class Member:
    """One connection, from its welcome to its end."""

    def __init__(self, peer: Peer, me: str, crowd: Crowd, chance: random.Random) -> None:
        self._peer = peer
        self._me = me
        self._crowd = crowd
        self._chance = chance
        self._ready_room: str | None = None
        """Waiting, in this room."""
        self._seat: Seat | None = None
        self._leaves: Counter[str] = Counter()
        self._leaving: str | None = None
        """The `leave` or `next` that the server has not replied to yet: nothing more is said until then."""
        self._reply: Message | None = None

    @property
    def is_paired(self) -> bool:
        return self._seat is not None

    @property
    def is_waiting(self) -> bool:
        return self._ready_room is not None

    # ------------------------------------------------------------ hearing

    async def listen(self, seconds: float) -> None:
        """Take in what comes in this time."""
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            message = None
            with trio.move_on_at(until):
                message = await self._peer.hear()
            if message is not None:
                await self._take_in(message)

    async def hear(self) -> None:
        """Take in one message."""
        await self._take_in(await self._peer.hear())

    async def _take_in(self, message: Message) -> None:
        """Check a message, and answer what has to be answered."""
        self._crowd.counts["heard"] += 1
        kind = message["type"]
        if kind in RELAYED:
            assert self._seat is not None, f"{kind} outside of any pairing: {message}"
            self._seat.hear(message)
            if kind == "offer":
                await self._say_description("answer")
            elif kind == "answer":
                self._seat.awaits_answer = False
        else:
            handle: Callable[[Message], None] = getattr(self, f"_hear_{kind}")
            handle(message)

    def _hear_ready(self, message: Message) -> None:
        assert self._seat is None
        self._ready_room = message["roomId"]

    def _hear_join(self, message: Message) -> None:
        assert self._seat is None
        room = message["roomId"]
        assert room == self._ready_room
        pairing = self._crowd.pairings.setdefault(room, Pairing())
        pairing.enter(self._me, message["from"], message["role"])
        self._seat, self._ready_room = Seat(room, pairing, self._me), None
        self._say_goodbye()

    def _hear_leave(self, message: Message) -> None:
        room = message["roomId"]
        self._leaves[room] += 1
        assert self._leaves[room] == 1
        own = message["from"] == self._me
        if own:
            self._reply = message
        if self._seat is None:
            assert own
            assert room == self._ready_room
            self._ready_room = None
            return
        seat, self._seat = self._seat, None
        assert room == seat.room
        assert own or message["from"] == seat.partner
        if not own:
            goodbye = seat.pairing.goodbye.get(seat.partner)
            assert message["reason"] in ({goodbye} if goodbye else self._crowd.withdrawn[seat.partner])
            if message["reason"] != "peer_lost":
                seat.expect_nothing_missing()

    def _hear_error(self, message: Message) -> None:
        """Nothing that a member does is wrong, unless its partner's end of the pairing was on its way to it."""
        assert message["code"] == "wrong_state", message
        assert message["ref"] in (*RELAYED, "leave", "next"), message
        if message["ref"] in ("leave", "next"):
            assert self._seat is None
            self._reply = message
        self._crowd.counts["too late"] += 1

    # ------------------------------------------------------------ saying

    async def say(self, kind: str, **fields: Any) -> None:
        self._crowd.counts["said"] += 1
        await self._peer.say(kind, **fields)

    async def join(self, **wishes: Any) -> None:
        await self.say("join", **wishes)
        while not (self.is_waiting or self.is_paired):
            await self.hear()

    async def leave(self, kind: str = "leave") -> None:
        """Say `leave` or `next`, and hear what becomes of it."""
        self._leaving, self._reply = kind, None
        self._say_goodbye()
        await self.say(kind)
        while self._reply is None:
            await self.hear()
        self._leaving = None
        if kind == "next" and self._reply["type"] == "leave":
            while not (self.is_waiting or self.is_paired):
                await self.hear()

    def _say_goodbye(self) -> None:
        """Note what the partner has to hear, if we are about to leave."""
        if self._leaving is None:
            return
        reason = {"leave": "left", "next": "next", "vanish": "peer_lost"}[self._leaving]
        if self._seat is not None:
            self._seat.pairing.goodbye[self._me] = reason
        else:
            self._crowd.withdrawn[self._me].add(reason)

    async def chat(self, times: int = 1) -> None:
        for _ in range(times):
            await self._say_to_partner("chat", lambda name: {"text": name})

    async def greet(self) -> None:
        """Say something to the partner, and wait until it has said something too."""
        assert self._seat is not None
        await self.chat()
        while not self._seat.heard["chat"]:
            await self.hear()

    async def hear_that_the_partner_has_gone(self) -> None:
        """If it has, this must be told, without a question."""
        while (seat := self._seat) is not None and (
            seat.partner in seat.pairing.goodbye
            or (seat.partner not in seat.pairing.partner and self._crowd.withdrawn[seat.partner])
        ):
            await self.hear()

    async def _say_candidate(self) -> None:
        ufrag = self._me[-8:]
        await self._say_to_partner(
            "candidate",
            lambda name: {"payload": {"candidate": f"candidate:{name}", "sdpMid": "0", "usernameFragment": ufrag}},
        )

    async def _say_description(self, kind: str) -> None:
        sdp = f"v=0\r\na=ice-ufrag:{self._me[-8:]}\r\n"
        await self._say_to_partner(kind, lambda name: {"payload": {"type": kind, "sdp": f"{sdp}s={name}\r\n"}})

    async def _say_to_partner(self, kind: str, compose: Callable[[str], dict[str, Any]]) -> None:
        seat = self._seat
        if seat is None or self._leaving is not None:
            return
        said = seat.pairing.said[self._me, kind]
        fields = compose(f"{seat.room} {self._me} {len(said)}")
        said.append(fields.get("text", fields.get("payload")))
        await self.say(kind, **fields)

    async def _offer(self) -> None:
        """By the rules: the first offer is the offerer's, and none meets another."""
        seat = self._seat
        if seat is None or seat.awaits_answer or seat.pairing.role[self._me] != "offerer":
            await self.chat()
            return
        seat.awaits_answer = True
        await self._say_description("offer")

    # ------------------------------------------------------------ living

    async def live(self, until: float) -> bool:
        """Do this and that until it is time; False: it has vanished before."""
        while trio.current_time() < until:
            await self.listen(self._chance.uniform(*PAUSE_SECONDS))
            if self._chance.random() < 0.01:
                await self.vanish()
                return False
            await self._whatever_comes_to_mind()()
        return True

    def _whatever_comes_to_mind(self) -> Callable[[], Awaitable[None]]:
        if self.is_paired:
            return self._choose(
                (30, partial(self.chat, self._chance.randint(1, 4))),
                (20, self._say_candidate),
                (35, self._offer),
                (8, partial(self.leave, "next")),
                (7, self.leave),
            )
        if self.is_waiting:
            return self._choose((95, trio.lowlevel.checkpoint), (5, self.leave))
        return self._choose(
            (60, self.join),
            (25, partial(self.join, topics=self._chance.sample(TOPICS, 2))),
            (15, partial(self.join, room=self._chance.choice(ROOMS))),
        )

    def _choose(self, *weighted: tuple[int, Callable[[], Awaitable[None]]]) -> Callable[[], Awaitable[None]]:
        weights, ideas = zip(*weighted, strict=True)
        chosen: Callable[[], Awaitable[None]] = self._chance.choices(ideas, weights)[0]
        return chosen

    async def vanish(self) -> None:
        """Be gone without a word."""
        self._crowd.counts["vanished"] += 1
        self._leaving = "vanish"
        self._say_goodbye()
        await self._peer.vanish()
        self.expect_every_pairing_to_have_ended_once()

    async def go(self) -> None:
        """Close politely."""
        goodbye = await self._peer.close()
        assert goodbye.code == 1000

    def expect_every_pairing_to_have_ended_once(self) -> None:
        """All but the one that goes on, or that this member has vanished from."""
        mine = {room for room, pairing in self._crowd.pairings.items() if self._me in pairing.partner}
        going_on = {self._seat.room} if self._seat is not None else set()
        assert {room for room in mine if self._leaves[room] != 1} == going_on


async def enter(server: ServerProcess, crowd: Crowd, chance: random.Random) -> Member:
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    peer = await open_peer(stream)
    crowd.peers.append(peer)
    welcome = await peer.hear("welcome")
    return Member(peer, welcome["sessionId"], crowd, chance)


async def come_and_go(server: ServerProcess, crowd: Crowd, chance: random.Random, members: list[Member]) -> None:
    """One of the crowd, again and again. Adds the connection that it has at the end to `members`."""
    until = trio.current_time() + SECONDS
    while True:
        member = await enter(server, crowd, chance)
        if await member.live(until):
            members.append(member)
            return


def expect_both_to_have_been_told(crowd: Crowd) -> None:
    """Of every pairing, unless it began while one of them gave up waiting."""
    for pairing in crowd.pairings.values():
        told = set(pairing.partner)
        assert all(member in told or crowd.withdrawn[member] for member in pairing.partner.values())


async def everybody(do: Callable[[Member], Awaitable[None]], members: list[Member]) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(do, member)


async def become_idle(member: Member) -> None:
    if member.is_paired or member.is_waiting:
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
async def crowd() -> AsyncIterator[Crowd]:
    crowd = Crowd()
    yield crowd
    await crowd.send_home()


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    """Where nobody is waited for who vanishes: these people never come back."""
    with running_server("--resume-seconds", "0") as server:
        yield server


async def test_a_crowd_comes_talks_and_goes(
    server: ServerProcess, crowd: Crowd, capsys: pytest.CaptureFixture[str]
) -> None:
    members: list[Member] = []
    async with trio.open_nursery() as nursery:
        for number in range(MEMBERS):
            nursery.start_soon(come_and_go, server, crowd, random.Random(number), members)
    assert len(members) == MEMBERS
    pairings, counts = len(crowd.pairings), Counter(crowd.counts)

    await everybody(partial(Member.listen, seconds=SETTLE_SECONDS), members)
    await everybody(Member.hear_that_the_partner_has_gone, members)
    await everybody(become_idle, members)
    await expect_health(server, room_count=0, waiting=0, connections=MEMBERS)

    await everybody(find_a_partner, members)
    assert len(crowd.pairings) >= pairings + MEMBERS // 2
    await everybody(Member.greet, members)
    expect_both_to_have_been_told(crowd)
    await expect_health(server, room_count=MEMBERS // 2, waiting=0, connections=MEMBERS)

    await everybody(Member.vanish, members[::2])
    await everybody(Member.go, members[1::2])
    await expect_health(server, room_count=0, waiting=0, connections=0)

    with capsys.disabled():
        print(f"\n{MEMBERS} members, {SECONDS:.0f} s: {pairings} pairings, {dict(counts)}")
    assert pairings > MEMBERS
    assert counts["heard"] > 10 * MEMBERS
    assert counts["vanished"] > 0
