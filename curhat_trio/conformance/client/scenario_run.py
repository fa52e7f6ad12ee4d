"""Where a situation is played: the client's person, its connections, and the ways to get where things begin."""

from typing import Any, Literal, Protocol

import attrs
import trio

from curhat_trio.conformance.client.http_frontend import SUBPROTOCOL, Caller, Doorway
from curhat_trio.conformance.client.connection import Broken, NotShown, Patience, Transcript, Visit
from curhat_trio.conformance.client.monitor import Breach
from curhat_trio.protocol.messages import Join, Offer

Deed = Literal["join", "leave", "next", "chat", "renegotiate", "quit"]
"""What the person in front of the client may be asked to do.

join: look for a partner (again). leave: leave the partner, or give up waiting, and stay connected. next: leave the
partner for another one. chat: send the text that follows. renegotiate: make the client offer again, by an ICE
restart or another camera. quit: leave for good.
"""
DEEDS: tuple[Deed, ...] = ("join", "leave", "next", "chat", "renegotiate", "quit")

_BY_ITSELF_SECONDS = 0.5
"""How long a client may take that says `join` again without being asked."""

Role = Literal["offerer", "answerer"]


class Person(Protocol):
    """Who has the client under test in hand."""

    can: frozenset[Deed]
    """What can be asked of them, beside the first `join`."""
    stays: bool
    """Whether the client stays for the next situation; else there is a new one for each."""

    async def enter(self) -> None:
        """A client is to connect, and to look for a partner; it need not have done so when this returns."""

    async def do(self, deed: Deed, text: str = "") -> None:
        """Do this with the client."""

    async def go(self) -> None:
        """The situation is over; the next one begins with `enter`."""


@attrs.define
class Stage:
    """One situation while it is being played.

    Args:
        person: Who has the client in hand.
        callers: Clients that ask for the WebSocket.
        doorway: The front door that they came through.
        url: Where the server is, for a client to read in a stranger's markup: `http://HOST:PORT`.
        patience: How long to wait for anything.
        transcript: Where to write down what happens.
        readers: Runs the readers of the connections.
    """

    person: Person
    callers: trio.MemoryReceiveChannel[Caller]
    doorway: Doorway
    url: str
    patience: Patience
    transcript: Transcript
    readers: trio.Nursery
    visits: list[Visit] = attrs.Factory(list)
    last_caller: Caller | None = None
    """The client that asked for the WebSocket last."""
    _rooms: int = 0

    # ------------------------------------------------------------ connections

    async def call(self, within: float, because: str = "") -> Caller:
        """The next client that asks for the WebSocket, and waits for the answer."""
        with trio.move_on_after(within):
            while await (caller := await self.callers.receive()).has_hung_up():
                caller.hang_up()
                self.transcript.note("> somebody hung up before the answer")
            self.last_caller = caller
            self.transcript.note(f"> the client connects to {caller.path}")
            return caller
        rules = (because,) if because else ()
        raise Broken(Breach(rules, f"expected a connection of the client's within {within:g} s; none came"))

    async def admit(self, caller: Caller) -> Visit:
        """Open the WebSocket for a client."""
        visit = Visit(caller, await caller.accept(), self.transcript, self.patience)
        self.visits.append(visit)
        visit.watch.seen.add("P-2.2")
        if SUBPROTOCOL not in caller.subprotocols:
            offered = ", ".join(caller.subprotocols) or "none"
            visit.watch.break_("P-2.2", f"expected the subprotocol {SUBPROTOCOL} among those offered: {offered}")
        self.readers.start_soon(visit.read)
        return visit

    async def nobody_comes(self, because: str, seconds: float | None = None) -> None:
        """Watch that the client does not connect again."""
        watched = self.patience.watch if seconds is None else seconds
        with trio.move_on_after(watched):
            await self.callers.receive()
            raise Broken(Breach((because,), f"expected no new connection for {watched:g} s; the client made one"))

    # ------------------------------------------------------------ getting where it begins

    async def met(self, **welcome: Any) -> Visit:
        """The client has connected and heard `welcome`, and a ping."""
        visit = await self.admit(await self.call(self.patience.deed))
        await visit.welcome(**welcome)
        await visit.ping()
        return visit

    async def joined(self, **welcome: Any) -> Visit:
        """... and has said `join`; nothing has been said to that."""
        visit = await self.met(**welcome)
        await self.hear_join(visit)
        return visit

    async def hear_join(self, visit: Visit, because: str = "") -> Join:
        """The client's `join`, after a deed of its person."""
        join = await visit.hear("join", because=because or (), within=self.patience.deed)
        assert isinstance(join, Join)
        return join

    async def waiting(self, **welcome: Any) -> Visit:
        """... and waits."""
        visit = await self.joined(**welcome)
        await visit.ready(self.room())
        return visit

    async def paired(self, role: Role, name: str = "Stranger") -> Visit:
        """... and has a partner; no offer has been made."""
        visit = await self.joined()
        await self.pair(visit, role, name)
        return visit

    async def talking(self, role: Role) -> Visit:
        """... and has made or answered the first offer, and got candidates."""
        visit = await self.paired(role)
        await self.negotiate(visit, role)
        return visit

    async def pair(self, visit: Visit, role: Role, name: str = "Stranger", **join: Any) -> None:
        """Find a partner for a client that has said `join`; `join` is told of the stranger beside the name."""
        room = self.room()
        await visit.ready(room)
        await visit.introduce(role, room, name, **join)

    async def negotiate(self, visit: Visit, role: Role) -> Offer | None:
        """The first offer and its answer; returns the offer if it was the client's."""
        offer = None
        if role == "offerer":
            offer = await visit.hear_offer()
            await visit.answer(offer)
        else:
            await visit.offer()
            await visit.hear_answer()
        await visit.candidates()
        return offer

    async def pairs_again(self, visit: Visit, because: str) -> None:
        """Whether a client that has no partner any more can have another one: it must ask, and must offer."""
        await self.joins_again(visit, because)
        await self.pair(visit, "offerer")
        await visit.answer(await visit.hear_offer(because))

    async def joins_again(self, visit: Visit, because: str) -> None:
        """The client says `join` by itself, or when its person does."""
        asks = "join" in self.person.can
        try:
            await visit.hear("join", because=because, within=_BY_ITSELF_SECONDS if asks else self.patience.deed)
        except Broken as broken:
            if visit.ended is not None:
                raise
            if not asks:
                raise NotShown("the client does not say `join` again by itself") from broken
            await self.do("join")
            await self.hear_join(visit, because)

    def room(self) -> str:
        """An id that no room has had."""
        self._rooms += 1
        return f"r-{self._rooms}"

    # ------------------------------------------------------------ the person

    async def do(self, deed: Deed, text: str = "") -> None:
        """Have the person do this, when the client has had time to take in what was said to it."""
        for visit in self.visits:
            await visit.settle()
        self.transcript.note(f"  the person is asked: {deed} {text[:40]}".rstrip())
        await self.person.do(deed, text)
