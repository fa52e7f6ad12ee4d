"""Pings, close codes, lost connections and resumed sessions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import trio

from curhat_trio.conformance.client.connection import FEATURES, RESUME_SECONDS, ClientConnection
from curhat_trio.conformance.client.results import NotApplicable, ScenarioFailed, Violation
from curhat_trio.conformance.client.scenario_run import Role, ScenarioRun
from curhat_trio.conformance.client.scenarios.registry import ROLES, ScenarioGroup
from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import CloseCode, ErrorCode

scenario = ScenarioGroup()


@scenario("WebSocket pings while waiting", "P-7.2")
async def _pinged(run: ScenarioRun) -> None:
    connection = await run.waiting(ping_seconds=0.5)
    for _ in range(4):
        await connection.send_ping()
        await connection.expect_open("P-7.2", 0.5)
    await connection.expect_pongs()
    await run.pair(connection, "answerer")
    await run.negotiate(connection, "answerer")


@scenario("unsolicited pongs", "P-8.4")
async def _unasked_pongs(run: ScenarioRun) -> None:
    connection = await run.waiting()
    await connection.send(messages.Pong(0))
    await connection.send(messages.Pong(0, "what?"))
    await run.pair(connection, "offerer")
    await connection.expect_offer()


async def _expect_reconnect(run: ScenarioRun, connection: ClientConnection) -> None:
    """The client reconnects and joins again by itself."""
    second = await run.accept(await run.next_upgrade(run.timeouts.reconnect, "P-9.1"))
    await second.send_welcome()
    await second.send_ping()
    await run.expect_join(second, "P-9.1")


async def _reconnects(code: int, run: ScenarioRun) -> None:
    connection = await run.waiting()
    await connection.close(code)
    await _expect_reconnect(run, connection)


async def _does_not_reconnect(code: int, run: ScenarioRun) -> None:
    connection = await run.waiting()
    if code == CloseCode.PROTOCOL_ERRORS:
        await connection.send_error(ErrorCode.BAD_MESSAGE, fatal=True)
    await connection.close(code)
    await run.expect_no_connection("P-9.2")


_TEMPORARY = [code for code in CloseCode if code.retry and code is not CloseCode.SHUTDOWN]
for number in (*map(int, _TEMPORARY), 4099):
    scenario(f"closed with {number}: reconnects", "P-9.1")(partial(_reconnects, number))
for number in (1000, *(int(code) for code in CloseCode if not code.retry), 4599):
    scenario(f"closed with {number}: does not reconnect", "P-9.2")(partial(_does_not_reconnect, number))


@scenario("goaway while waiting", "P-9.1", "P-9.3")
async def _goaway_while_waiting(run: ScenarioRun) -> None:
    connection = await run.waiting()
    await _goaway(run, connection)


@scenario("goaway in a pairing", "P-9.1", "P-9.3")
async def _goaway_while_talking(run: ScenarioRun) -> None:
    connection = await run.negotiated("offerer")
    await connection.send_leave("server_shutdown")
    await _goaway(run, connection)


async def _goaway(run: ScenarioRun, connection: ClientConnection) -> None:
    pause = run.timeouts.quiet + 0.5
    await connection.send_goaway(pause)
    begun = trio.current_time()
    await connection.close(CloseCode.SHUTDOWN)
    await run.expect_no_connection("P-9.3", pause - (trio.current_time() - begun) - _CLOCKS_DIFFER)
    await _expect_reconnect(run, connection)


_CLOCKS_DIFFER = 0.1
"""Seconds that a client's timer may be early, and a message be under way."""


@scenario("the connection is lost in a pairing", "P-9.1")
async def _lost_while_talking(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    connection.drop()
    await _expect_reconnect(run, connection)


TOKEN, NEXT_TOKEN = "token-of-the-first", "token-of-the-second"


def _resumable(token: str) -> dict[str, Any]:
    return {"features": (*FEATURES, "resume"), "resumeToken": token, "resumeSeconds": RESUME_SECONDS}


async def _expect_resume(run: ScenarioRun, role: Role) -> tuple[ClientConnection, ClientConnection]:
    """The connection is lost in a call, and the client sends `resume` over a second one; returns both."""
    connection = await run.joined(**_resumable(TOKEN))
    connection.answers_pings = False  # what was answered can't be reported as lost
    await run.pair(connection, role)
    await run.negotiate(connection, role)
    await connection.settle()
    connection.drop()
    second = await run.accept(await run.next_upgrade(run.timeouts.reconnect, "P-9.1"))
    await second.send_welcome(**_resumable(NEXT_TOKEN))
    resume = await second.expect("resume", "join", rules="P-9.1", within=run.timeouts.action)
    if not isinstance(resume, messages.Resume):
        raise NotApplicable("the client does not resume, which is optional")
    if (resume.token, resume.last_seq) != (TOKEN, connection.seq):
        second.fail(
            (), f"expected `resume` with the first token and lastSeq {connection.seq}, not {resume.last_seq}"
        )
    return connection, second


async def _resumes(role: Role, run: ScenarioRun) -> None:
    connection, second = await _expect_resume(run, role)
    await second.send_resumed(connection, "token-of-the-third", len(connection.received) - 1)
    lost = connection.received[-1]
    if await second.expect(lost.type, rules="P-13.4") != lost:
        second.fail("P-13.4", f"expected its last `{lost.type}` again: it was lost")
    await second.relay(messages.Chat("are you there?"))
    await second.expect_working_pairing("P-13.4")


for role in ROLES:
    scenario(f"the connection is lost and the session resumes, as {role}", "P-13.4", "P-13.9")(
        partial(_resumes, role)
    )


@scenario("the connection is lost and resuming fails", "P-8.4", "P-13.9")
async def _resume_fails(run: ScenarioRun) -> None:
    _, second = await _expect_resume(run, "answerer")
    await second.send_error(ErrorCode.RESUME_FAILED, "resume")
    await run.expect_rejoin(second, "P-8.4")
    await run.pair(second, "answerer")
    await run.negotiate(second, "answerer")


@scenario("the partner is away, then back", "P-13.10")
async def _partner_away(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    assert connection.peer is not None
    partner, room = connection.peer.id, connection.peer.room_id
    await connection.send(messages.Presence(partner, room, "away"))
    await connection.expect_open("P-13.10")
    await connection.send(messages.Presence(partner, room, "back"))
    await connection.expect_working_pairing("P-13.10")


@scenario("the partner is typing", "P-2.15")
async def _partner_types(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    for active in (True, True, False):
        await connection.relay(messages.Typing(active))
    await connection.relay(messages.Chat("typed"))
    await connection.expect_working_pairing("P-2.15")


@scenario("the server is unreachable for a while", "P-9.1")
async def _unreachable(run: ScenarioRun) -> None:
    connection = await run.waiting()
    connection.drop()
    pauses = []
    for _ in range(3):
        lost = trio.current_time()
        upgrade = await run.next_upgrade(run.timeouts.reconnect, "P-9.1")
        pauses.append(upgrade.arrived - lost)
        upgrade.drop()
    listed = ", ".join(f"{pause:.2f}" for pause in pauses)
    if (fault := fault_of_pauses(pauses)) is not None:
        raise ScenarioFailed(Violation(("P-9.1",), f"{fault}; it reconnected after {listed} s"))
    await _expect_reconnect(run, connection)


_AT_ONCE = 0.05
_NO_JITTER = 0.003


def fault_of_pauses(pauses: Sequence[float]) -> str | None:
    """What is wrong with three pauses between attempts to reconnect; None: three show no fault."""
    first, second, third = pauses
    if max(pauses) < _AT_ONCE:
        return "expected a pause before each attempt"
    if max(second, third) <= first:
        return "expected the pauses to grow from attempt to attempt"
    if abs(second / first - third / second) < _NO_JITTER * second / first:
        return "expected jitter; the pauses grow by exactly the same factor"
    return None
