"""People who talk, leave, go on to the next, lose their connections and vanish, over `curhat_trio.client`.

Each is a `Member`. A `Crowd` is what is known about all together: whatever one of them hears is held against what
its partner said, as the server told it and before the client has hidden anything of it. All share one clock, so
the crowd knows how long words were under way, too.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import trio
import trio.abc

from curhat_trio.client import (
    Answer,
    AnyEvent,
    Candidate,
    Chat,
    Client,
    Dial,
    ErrorMessage,
    IceCandidate,
    Interrupted,
    Joined,
    Left,
    Offer,
    Presence,
    Ready,
    Relayed,
    Restarted,
    Resumed,
    State,
    Welcome,
    connect,
)
from curhat_trio.client.machine import ClientMachine
from curhat_trio.protocol.messages import Description, ServerMessage

Words = Offer | Answer | Candidate | Chat

PAUSE_SECONDS = (0.05, 0.45)
"""Between two things that a member does of its own accord: 4 of them a second, of 4 messages at most."""
TOPICS = ("books", "films", "food", "music")
ROOMS = ("east", "west")
RELAYED = ("chat", "offer", "answer", "candidate")


@attrs.frozen
class Said:
    """One message of a member to its partner."""

    words: Words
    at: float
    breaks: int
    """How often the two had lost or regained a connection by then."""


@attrs.define
class Pairing:
    """One pairing as its members know it, by their ids."""

    partner: dict[str, str] = attrs.Factory(dict)
    role: dict[str, str] = attrs.Factory(dict)
    said: defaultdict[tuple[str, str], list[Said]] = attrs.Factory(lambda: defaultdict(list))
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

    resume_seconds: float = 0.0
    """How long the server surely keeps a session whose client is away."""
    pairings: dict[str, Pairing] = attrs.Factory(dict)
    """By room."""
    withdrawn: defaultdict[str, set[str]] = attrs.Factory(lambda: defaultdict(set))
    """member -> the reasons that somebody may hear who was paired with it while it gave up waiting."""
    away: dict[str, float] = attrs.Factory(dict)
    """Whose connection is lost at the moment, and since when."""
    breaks: Counter[str] = attrs.Factory(Counter)
    """member -> how often its connection was lost or came back."""
    counts: Counter[str] = attrs.Factory(Counter)
    delays: list[float] = attrs.Factory(list)
    """Seconds that words were under way while one of the two was not connected, at least for a part of it."""

    def expect_both_to_have_been_told(self) -> None:
        """Of every pairing, unless it began while one of them gave up waiting."""
        for pairing in self.pairings.values():
            told = set(pairing.partner)
            assert all(member in told or self.withdrawn[member] for member in pairing.partner.values())


@attrs.define
class Seat:
    """One member's side of a pairing."""

    room: str
    pairing: Pairing
    me: str
    crowd: Crowd
    heard: Counter[str] = attrs.Factory(Counter)
    """How much of each type the partner has said so far."""
    awaits_answer: bool = False
    partner_is_away: bool = False

    @property
    def partner(self) -> str:
        return self.pairing.partner[self.me]

    @property
    def breaks(self) -> int:
        return self.crowd.breaks[self.me] + self.crowd.breaks[self.partner]

    def note(self, words: Words) -> None:
        """This is said."""
        said = self.pairing.said[self.me, words.type]
        said.append(Said(words, trio.current_time(), self.breaks))

    def hear(self, message: Relayed) -> None:
        """It must be the partner's next word of this type, in this room, unaltered."""
        kind = message.type
        assert (message.from_, message.to, message.room_id) == (self.partner, self.me, self.room)
        said = self.pairing.said[self.partner, kind]
        assert self.heard[kind] < len(said), f"{kind} was said {len(said)} times and arrived once more"
        original = said[self.heard[kind]]
        assert message.message == original.words
        described = self.heard["offer"] + self.heard["answer"]
        assert kind != "candidate" or described, "a candidate has overtaken its description"
        self.heard[kind] += 1
        if kind != "candidate" and original.breaks != self.breaks:  # candidates the server may have to hold
            self.crowd.delays.append(trio.current_time() - original.at)

    def hear_presence(self, message: Presence) -> None:
        """Away and back by turns, and only of who has really lost a connection."""
        assert self.partner_is_away is (message.state == "back")
        assert self.crowd.breaks[self.partner]
        self.partner_is_away = message.state == "away"

    def expect_nothing_missing(self) -> None:
        """The partner has left in peace: all that it said before must have come."""
        for kind in RELAYED:
            said = len(self.pairing.said[self.partner, kind])
            held = kind == "candidate" and not self.heard["offer"] + self.heard["answer"]
            assert self.heard[kind] == (0 if held else said), f"{kind}: {said} said, {self.heard[kind]} heard"


@attrs.define(kw_only=True)
class _Witnessed(ClientMachine):
    """A client's protocol machine, with somebody who sees what the server says."""

    witness: Callable[[ServerMessage], None]

    def receive(self, message: ServerMessage) -> ServerMessage | None:
        self.witness(message)
        return super().receive(message)


class Member:
    """One client, from its welcome to its end. `Member.enter` makes it.

    Args:
        client: Connected; nothing of it was heard yet.
        streams: Its connections, the present one last.
    """

    def __init__(
        self, client: Client, streams: list[trio.abc.Stream], crowd: Crowd, chance: random.Random
    ) -> None:
        self._client = client
        self._streams = streams
        self._crowd = crowd
        self._chance = chance
        self._me: str = client.welcome.session_id
        client._machine = _Witnessed(welcome=client.welcome, witness=self._witness)
        self._seat: Seat | None = None
        self._ready_room: str | None = None
        """Waiting, in this room."""
        self._leaves: Counter[str] = Counter()
        self._leaving: str | None = None
        """The `leave` or `next` that the server has not replied to yet."""
        self._is_known = False
        """The server has answered something: it keeps the session if the connection is lost."""
        self._gone = trio.Event()

    @property
    def is_paired(self) -> bool:
        return self._client.state.has_partner

    @property
    def is_idle(self) -> bool:
        """Not looking for anybody."""
        return self._client.state is State.CONNECTED

    # ------------------------------------------------------------ what the server says

    def _witness(self, message: ServerMessage) -> None:
        """Check a message, whether or not the client takes it seriously."""
        self._crowd.counts["heard"] += 1
        self._is_known = self._is_known or not isinstance(message, Welcome)
        match message:
            case Relayed():
                assert self._seat is not None, f"{message.type} outside of any pairing: {message}"
                self._seat.hear(message)
                self._crowd.counts["words heard"] += 1
                if isinstance(message.message, Answer):
                    self._seat.awaits_answer = False
            case Ready():
                assert self._seat is None
                self._ready_room = message.room_id
            case Joined():
                self._witness_join(message)
            case Left():
                self._witness_leave(message)
            case Presence():
                assert self._seat is not None
                self._seat.hear_presence(message)
            case ErrorMessage():
                self._witness_error(message)
            case _:
                pass

    def _witness_join(self, message: Joined) -> None:
        assert self._seat is None
        room = message.room_id
        assert room == self._ready_room
        pairing = self._crowd.pairings.setdefault(room, Pairing())
        pairing.enter(self._me, message.from_, message.role)
        self._seat, self._ready_room = Seat(room, pairing, self._me, self._crowd), None
        self._note_goodbye()

    def _witness_leave(self, message: Left) -> None:
        room = message.room_id
        self._leaves[room] += 1
        assert self._leaves[room] == 1
        own = message.from_ == self._me
        if self._seat is None:
            assert own
            assert room == self._ready_room
            self._ready_room = None
            return
        seat, self._seat = self._seat, None
        assert room == seat.room
        assert own or message.from_ == seat.partner
        if not own:
            self._check_reason(seat, message.reason)

    def _check_reason(self, seat: Seat, reason: str) -> None:
        goodbye = seat.pairing.goodbye.get(seat.partner)
        expected = {goodbye} if goodbye else set(self._crowd.withdrawn[seat.partner])
        if seat.partner in self._crowd.away:
            expected.add("peer_lost")
        assert reason in expected, f"{reason}, expected {expected}"
        if reason != "peer_lost":
            seat.expect_nothing_missing()

    def _witness_error(self, message: ErrorMessage) -> None:
        """Nothing that a member does is wrong, unless its partner's end of the pairing was on its way to it."""
        assert message.code == "wrong_state", message
        assert message.ref in (*RELAYED, "leave", "next"), message
        if message.ref in ("leave", "next"):
            assert self._seat is None
        self._crowd.counts[f"error {message.code}"] += 1

    # ------------------------------------------------------------ hearing

    async def listen(self, seconds: float) -> None:
        """Take in what comes in this time."""
        with trio.move_on_after(seconds):
            while True:
                await self.hear()

    async def hear(self) -> None:
        """Take in one event, and answer what has to be answered."""
        event = await anext(self._client)
        with trio.CancelScope(shield=True):  # what was heard is answered, also when `listen` ends
            await self._react(event)

    async def _react(self, event: AnyEvent) -> None:
        match event:
            case Relayed(message=Offer()):
                await self._say(Answer(self._description("answer")))
            case Interrupted():
                self._crowd.counts[f"connection lost, {event.code}"] += 1
                self._break_off()
            case Resumed():
                self._crowd.counts["resumed"] += 1
                self._come_back()
            case Restarted():
                self._crowd.counts["session lost"] += 1
                self._begin_anew()
            case _:
                pass

    def _break_off(self) -> None:
        if self._me not in self._crowd.away:
            self._crowd.away[self._me] = trio.current_time()
            self._crowd.breaks[self._me] += 1

    def _come_back(self) -> None:
        del self._crowd.away[self._me]
        self._crowd.breaks[self._me] += 1

    def _begin_anew(self) -> None:
        """The old session is lost, and stays away for ever: the client must have been late."""
        assert trio.current_time() - self._crowd.away[self._me] > self._crowd.resume_seconds
        if self._seat is not None:
            self._seat.pairing.goodbye.setdefault(self._me, "peer_lost")
        self._crowd.withdrawn[self._me].add("peer_lost")
        self._me, self._seat, self._ready_room, self._leaving = self._client.welcome.session_id, None, None, None
        self._leaves.clear()
        self._is_known = False

    # ------------------------------------------------------------ saying

    async def join(self, topics: tuple[str, ...] = (), room: str | None = None) -> None:
        await self._client.join(topics, room)
        while self._client.state is State.JOINING:
            await self.hear()

    async def leave(self) -> None:
        """Hear what becomes of it, too."""
        await self._go("leave", self._client.leave)

    async def next(self) -> None:
        """Hear what becomes of it, too."""
        await self._go("next", self._client.next)

    async def _go(self, kind: str, say: Callable[[], Awaitable[None]]) -> None:
        self._leaving = kind
        self._note_goodbye()
        await say()
        while self._client.state in (State.LEAVING, State.MOVING_ON, State.JOINING):
            await self.hear()
        self._leaving = None

    def _note_goodbye(self) -> None:
        """Note what the partner has to hear, if we are about to leave."""
        if self._leaving is None:
            return
        reason = {"leave": "left", "next": "next", "vanish": "peer_lost"}[self._leaving]
        if self._seat is not None:
            self._seat.pairing.goodbye[self._me] = reason
        else:
            self._crowd.withdrawn[self._me].add(reason)

    async def _say(self, words: Words) -> None:
        """Say something to the partner, if there is one."""
        if not self.is_paired:
            return
        assert self._seat is not None
        self._seat.note(words)
        self._crowd.counts["words said"] += 1
        match words:
            case Chat(text):
                await self._client.chat(text)
            case Offer(description):
                await self._client.offer(description.sdp)
            case Answer(description):
                await self._client.answer(description.sdp)
            case Candidate(one):
                await self._client.candidate(one.candidate, one.sdpMid, None, one.usernameFragment)

    def _name(self, kind: str) -> str:
        """What this member has not said before, and nobody else."""
        if self._seat is None:
            return ""
        return f"{self._seat.room} {self._me} {len(self._seat.pairing.said[self._me, kind])}"

    async def chat(self, times: int = 1) -> None:
        for _ in range(times):
            await self._say(Chat(self._name("chat") or "nobody hears it"))

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
        line = f"candidate:{self._name('candidate')}"
        await self._say(Candidate(IceCandidate(line, "0", usernameFragment=self._fragment)))

    @property
    def _fragment(self) -> str:
        return self._me[-8:]

    def _description(self, kind: str) -> Description:
        assert kind in ("offer", "answer")
        sdp = f"v=0\r\na=ice-ufrag:{self._fragment}\r\ns={self._name(kind)}\r\n"
        return Description("offer" if kind == "offer" else "answer", sdp)

    async def _offer(self) -> None:
        """By the rules: the first offer is the offerer's, and none meets another."""
        seat = self._seat
        if seat is None or seat.awaits_answer or seat.pairing.role[self._me] != "offerer":
            await self.chat()
            return
        seat.awaits_answer = True
        await self._say(Offer(self._description("offer")))

    # ------------------------------------------------------------ living

    async def live(self, goes_on: Callable[[], bool]) -> bool:
        """Do this and that as long as life goes on; False: it has vanished before."""
        while goes_on():
            await self.listen(self._chance.uniform(*PAUSE_SECONDS))
            if self._chance.random() < 0.01:
                await self.vanish()
                return False
            if self._is_known and self._chance.random() < 0.03:
                await self.lose_connection()
            await self._whatever_comes_to_mind()()
        return True

    def _whatever_comes_to_mind(self) -> Callable[[], Awaitable[None]]:
        if self.is_paired:
            return self._choose(
                (30, partial(self.chat, self._chance.randint(1, 4))),
                (20, self._say_candidate),
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
        weights, ideas = zip(*weighted, strict=True)
        chosen: Callable[[], Awaitable[None]] = self._chance.choices(ideas, weights)[0]
        return chosen

    async def lose_connection(self) -> None:
        """The connection is gone without a close frame; the client comes back over another by itself."""
        if self._me not in self._crowd.away:
            self._crowd.counts["cut"] += 1
            self._break_off()
            await trio.aclose_forcefully(self._streams[-1])

    async def be_back(self) -> None:
        """If the connection is lost, wait until there is another."""
        while self._me in self._crowd.away:
            await self.hear()

    async def vanish(self) -> None:
        """Be gone without a word, and for good."""
        self._crowd.counts["vanished"] += 1
        self._leaving = "vanish"
        self._note_goodbye()
        self._break_off()
        await trio.aclose_forcefully(self._streams[-1])
        self._gone.set()
        self.expect_every_pairing_to_have_ended_once()

    async def go(self) -> None:
        """Close politely."""
        await self._client.aclose()
        self._gone.set()

    def expect_every_pairing_to_have_ended_once(self) -> None:
        """All but the one that goes on, or that this member has vanished from."""
        mine = {room for room, pairing in self._crowd.pairings.items() if self._me in pairing.partner}
        going_on = {self._seat.room} if self._seat is not None else set()
        assert {room for room in mine if self._leaves[room] != 1} == going_on

    # ------------------------------------------------------------ coming

    @classmethod
    async def enter(
        cls,
        url: str,
        dial: Dial,
        crowd: Crowd,
        chance: random.Random,
        task_status: "trio.TaskStatus[Member]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Start this in a nursery: a member that is connected, which stays until it goes or vanishes."""
        streams: list[trio.abc.Stream] = []

        async def dial_and_keep() -> trio.abc.Stream:
            streams.append(await dial())
            return streams[-1]

        async with connect(url, dial=dial_and_keep, jitter=lambda: 0.0) as client:
            member = cls(client, streams, crowd, chance)
            task_status.started(member)
            await member._gone.wait()


async def come_and_go(
    url: str,
    dial: Dial,
    crowd: Crowd,
    chance: random.Random,
    goes_on: Callable[[], bool],
    hosts: trio.Nursery,
    stay: list[Member],
) -> None:
    """One of the crowd, again and again. Adds the member that it is at the end to `stay`.

    Raises:
        CannotConnect: There is no server.
        ConnectionEnded: It wants this one no more.
    """
    while True:
        member: Member = await hosts.start(Member.enter, url, dial, crowd, chance)
        if await member.live(goes_on):
            stay.append(member)
            return
