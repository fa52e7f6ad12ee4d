"""One run of a scenario: the client's driver, its connections, and the steps that scenarios have in common."""

from typing import Any, Literal

import attrs
import trio

from curhat_trio.conformance.client.connection import ClientConnection
from curhat_trio.conformance.client.drivers import Action, Driver
from curhat_trio.conformance.client.fake_peer import FakePeer
from curhat_trio.conformance.client.http_frontend import HttpFrontend, UpgradeRequest
from curhat_trio.conformance.client.results import NotApplicable, ScenarioFailed, Violation
from curhat_trio.conformance.client.timeouts import Timeouts
from curhat_trio.conformance.client.transcript import Transcript
from curhat_trio.conformance.wire import SUBPROTOCOL
from curhat_trio.protocol.errors import ErrorCode
from curhat_trio.protocol.messages import Candidate, Chat, ClientMessage, Join, Offer

_BY_ITSELF_SECONDS = 0.5
"""How long a client may take that joins again without being asked."""

CLOCKS_DIFFER = 0.1
"""Seconds that a client's timer may be early, and a message be under way."""
RETRY_SECONDS = 1.0
"""The `retryAfterSeconds` of a message that is over the rate limit."""

Role = Literal["offerer", "answerer"]


@attrs.define
class ScenarioRun:
    """A scenario while it runs.

    Args:
        driver: Operates the client.
        upgrades: Clients that ask for the WebSocket.
        frontend: Where they connected.
        url: Where the server is, for markup in a peer's name: `http://HOST:PORT`.
        timeouts: How long to wait.
        transcript: Gets a line for everything that happens.
        readers: Runs the readers of the connections.
    """

    driver: Driver
    upgrades: trio.MemoryReceiveChannel[UpgradeRequest]
    frontend: HttpFrontend
    url: str
    timeouts: Timeouts
    transcript: Transcript
    readers: trio.Nursery
    connections: list[ClientConnection] = attrs.Factory(list)
    last_upgrade: UpgradeRequest | None = None
    """The client that asked for the WebSocket last."""
    _rooms: int = 0

    # ------------------------------------------------------------ connections

    async def next_upgrade(self, within: float, rule: str = "") -> UpgradeRequest:
        """The next client that asks for the WebSocket, and waits for the answer.

        Raises:
            ScenarioFailed: None did in time, or the client has failed.
        """
        failure: str | None = None

        async def watch(waiting: trio.CancelScope) -> None:
            nonlocal failure
            failure = await self.driver.wait_for_failure()
            waiting.cancel()

        with trio.move_on_after(within):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, nursery.cancel_scope)
                upgrade = self.last_upgrade = await self._next_upgrade()
                nursery.cancel_scope.cancel()
            if failure is None:
                self.transcript.note(f"> the client connects to {upgrade.path}")
                return upgrade
        what = f"it {failure or 'did not'}"
        rules = (rule,) if rule and failure is None else ()
        raise ScenarioFailed(Violation(rules, f"expected the client to connect within {within:g} s; {what}"))

    async def _next_upgrade(self) -> UpgradeRequest:
        while await (upgrade := await self.upgrades.receive()).is_abandoned():
            upgrade.drop()
            self.transcript.note("> a client disconnected before the answer")
        return upgrade

    async def accept(self, upgrade: UpgradeRequest) -> ClientConnection:
        """Open the WebSocket for a client."""
        connection = ClientConnection(upgrade, await upgrade.accept(), self.transcript, self.timeouts)
        self.connections.append(connection)
        connection.monitor.covered.add("P-2.2")
        if SUBPROTOCOL not in upgrade.subprotocols:
            offered = ", ".join(upgrade.subprotocols) or "none"
            connection.monitor.report(
                "P-2.2", f"expected the subprotocol {SUBPROTOCOL} among those offered: {offered}"
            )
        self.readers.start_soon(connection.read)
        return connection

    async def expect_no_connection(self, rule: str, seconds: float | None = None) -> None:
        """Make sure that the client does not connect again."""
        quiet = self.timeouts.quiet if seconds is None else seconds
        with trio.move_on_after(quiet):
            await self.upgrades.receive()
            raise ScenarioFailed(
                Violation((rule,), f"expected no new connection for {quiet:g} s; the client made one")
            )

    # ------------------------------------------------------------ up to where a scenario begins

    async def connected(self, **welcome: Any) -> ClientConnection:
        """The client has connected and got `welcome`, and a WebSocket ping."""
        connection = await self.accept(await self.next_upgrade(self.timeouts.action))
        await connection.send_welcome(**welcome)
        await connection.send_ping()
        return connection

    async def joined(self, **welcome: Any) -> ClientConnection:
        """... and has sent `join`, which is not answered yet."""
        connection = await self.connected(**welcome)
        await self.expect_join(connection)
        return connection

    async def expect_join(self, connection: ClientConnection, rule: str = "") -> Join:
        """The client's `join`, after an action of the user."""
        join = await connection.expect("join", rules=rule or (), within=self.timeouts.action)
        assert isinstance(join, Join)
        return join

    async def waiting(self, **welcome: Any) -> ClientConnection:
        """... and waits."""
        connection = await self.joined(**welcome)
        await connection.send_ready(self.new_room())
        return connection

    async def paired(self, role: Role, name: str = "Stranger") -> ClientConnection:
        """... and has a partner; no offer has been made."""
        connection = await self.joined()
        await self.pair(connection, role, name)
        return connection

    async def negotiated(self, role: Role) -> ClientConnection:
        """... and has made or answered the first offer, and got candidates."""
        connection = await self.paired(role)
        await self.negotiate(connection, role)
        return connection

    async def pair(self, connection: ClientConnection, role: Role, name: str = "Stranger", **join: Any) -> None:
        """Find a partner for a client that has sent `join`; `join` are further fields of the server's."""
        room = self.new_room()
        await connection.send_ready(room)
        await connection.send_match(role, room, name, **join)

    async def negotiate(self, connection: ClientConnection, role: Role) -> Offer | None:
        """The first offer and its answer; returns the offer if it was the client's."""
        offer = None
        if role == "offerer":
            offer = await connection.expect_offer()
            await connection.relay_answer(offer)
        else:
            await connection.relay_offer()
            await connection.expect_answer()
        await connection.relay_candidates()
        return offer

    async def pair_again(self, connection: ClientConnection, rule: str) -> None:
        """A client without a partner must be able to get another one: it must join, and must offer."""
        await self.expect_rejoin(connection, rule)
        await self.pair(connection, "offerer")
        await connection.relay_answer(await connection.expect_offer(rule))

    async def expect_rejoin(self, connection: ClientConnection, rule: str) -> None:
        """The client joins by itself, or when its driver makes it."""
        can_be_asked = "join" in self.driver.actions
        within = _BY_ITSELF_SECONDS if can_be_asked else self.timeouts.action
        try:
            await connection.expect("join", rules=rule, within=within)
        except ScenarioFailed as failure:
            if connection.ended is not None:
                raise
            if not can_be_asked:
                raise NotApplicable("the client does not join again by itself") from failure
            await self.perform("join")
            await self.expect_join(connection, rule)

    async def expect_again(self, connection: ClientConnection, type: str) -> ClientMessage:
        """The client's last message of this type is dropped, as over the rate limit: it must come again."""
        await connection.send_error(ErrorCode.RATE_LIMITED, type, retry_after=RETRY_SECONDS)
        refused = trio.current_time()
        try:
            again = await connection.expect(type, rules="P-7.7", within=RETRY_SECONDS + self.timeouts.answer)
        except ScenarioFailed as failure:
            if connection.ended is None:
                raise
            connection.fail("P-8.4", failure.violation.detail)
        if trio.current_time() < refused + RETRY_SECONDS - CLOCKS_DIFFER:
            connection.fail(
                "P-7.7", f"expected `{type}` again after retryAfterSeconds, {RETRY_SECONDS:g}; it came earlier"
            )
        return again

    async def expect_old_room_ignored(self, connection: ClientConnection, old: FakePeer) -> None:
        """Messages of a former partner must have no effect."""
        for _ in range(2):
            await connection.relay(old.offer(restart=True), old)
            await connection.relay(Candidate(old.candidate()), old)
            await connection.relay(Chat("from the old room"), old)
        await connection.send_unknown("leave", **{"from": old.id, "roomId": old.room_id, "reason": "left"})
        await connection.expect_none("answer", rules="P-4.8", seconds=1.0)

    def new_room(self) -> str:
        """An id that no room has had."""
        self._rooms += 1
        return f"r-{self._rooms}"

    # ------------------------------------------------------------ the user

    async def perform(self, action: Action, text: str = "") -> None:
        """Have the user do this, once the client has handled what was sent to it."""
        for connection in self.connections:
            await connection.settle()
        self.transcript.note(f"  action of the user: {action} {text[:40]}".rstrip())
        await self.driver.perform(action, text)
