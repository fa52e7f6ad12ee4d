"""Pings, close codes, lost connections and resumed sessions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import trio

from curhat_trio.conformance.client.connection import FEATURES, RESUME_SECONDS, ClientConnection
from curhat_trio.conformance.client.http_frontend import UpgradeRequest
from curhat_trio.conformance.client.results import NotApplicable, ScenarioFailed, Violation
from curhat_trio.conformance.client.scenario_run import CLOCKS_DIFFER, Role, ScenarioRun
from curhat_trio.conformance.client.scenarios.registry import ROLES, ScenarioGroup
from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import GIVEN_UP, CloseCode, ErrorCode

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
    await connection.send(messages.Pong(connection.monitor.heard))
    await connection.send(messages.Pong(connection.monitor.heard, "what?"))
    await run.pair(connection, "offerer")
    await connection.expect_offer()


async def _expect_reconnect(run: ScenarioRun, rule: str = "P-9.1") -> None:
    """The client reconnects and joins again by itself."""
    second = await run.accept(await run.next_upgrade(run.timeouts.reconnect, rule))
    await second.send_welcome()
    await second.send_ping()
    await run.expect_join(second, rule)


async def _reconnects(code: int, rule: str, run: ScenarioRun) -> None:
    connection = await run.waiting()
    await connection.close(code)
    await _expect_reconnect(run, rule)


async def _does_not_reconnect(code: int, rule: str, run: ScenarioRun) -> None:
    connection = await run.waiting()
    if code == CloseCode.PROTOCOL_ERRORS:
        await connection.send_error(ErrorCode.BAD_MESSAGE, fatal=True)
    if code not in set(CloseCode):
        await connection.send_error("unheard_of", fatal=True)
    await connection.close(code)
    await run.expect_no_connection(rule)


_TEMPORARY = [
    code for code in CloseCode if code.retry and code not in (CloseCode.SHUTDOWN, CloseCode.RATE_LIMITED)
]
_OF_PROXIES = (1001, 1005, 1011, 1012, 1013, 1014)
"""Close codes below 4000 after which a client reconnects too (P-9.1)."""
_PERMANENT = [code for code in CloseCode if not code.retry]
for number, rules in (
    *((int(code), ["P-9.1"]) for code in _TEMPORARY),
    *((code, ["P-9.1"]) for code in _OF_PROXIES),
    (4099, ["P-3.21", "P-9.1"]),
):
    scenario(f"closed with {number}: reconnects", *rules)(partial(_reconnects, number, rules[0]))
for number, rules in (
    *((int(code), ["P-9.2"]) for code in (1000, *_PERMANENT)),
    *((code, ["P-3.21", "P-9.2"]) for code in (1008, 3000, 4599)),
):
    scenario(f"closed with {number}: does not reconnect", *rules)(partial(_does_not_reconnect, number, rules[0]))


@scenario("closed with 4003: reconnects after a pause", "P-9.7", "P-9.1")
async def _reconnects_late(run: ScenarioRun) -> None:
    connection = await run.waiting()
    await connection.send_error(ErrorCode.RATE_LIMITED, "candidate", fatal=True, retry_after=_LONG_PAUSE)
    closed = trio.current_time()
    await connection.close(CloseCode.RATE_LIMITED)
    await run.expect_no_connection("P-9.7", closed + _LONG_PAUSE - CLOCKS_DIFFER - trio.current_time())
    await _expect_reconnect(run)


_LONG_PAUSE = 11.0
"""The `retryAfterSeconds` of the fatal error; without one the pause is 10 s."""


@scenario("goaway while waiting", "P-9.1", "P-9.3")
async def _goaway_while_waiting(run: ScenarioRun) -> None:
    connection = await run.waiting()
    await _goaway(run, connection)


@scenario("goaway for an unknown reason", "P-3.21", "P-9.1", "P-9.3")
async def _goaway_for_an_unknown_reason(run: ScenarioRun) -> None:
    connection = await run.waiting()
    await _goaway(run, connection, reason="moved_to_another_town")


@scenario("goaway in a pairing", "P-9.1", "P-9.3")
async def _goaway_while_talking(run: ScenarioRun) -> None:
    connection = await run.negotiated("offerer")
    await connection.send_leave("server_shutdown")
    await _goaway(run, connection)


async def _goaway(run: ScenarioRun, connection: ClientConnection, **more: Any) -> None:
    pause = run.timeouts.quiet + 0.5
    await connection.send_goaway(pause, **more)
    begun = trio.current_time()
    await connection.close(CloseCode.SHUTDOWN)
    await run.expect_no_connection("P-9.3", pause - (trio.current_time() - begun) - CLOCKS_DIFFER)
    await _expect_reconnect(run)


@scenario("the connection is lost in a pairing", "P-9.1")
async def _lost_while_talking(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    connection.drop()
    await _expect_reconnect(run)


# ---------------------------------------------------------------- resuming

TOKEN, SECOND_TOKEN, THIRD_TOKEN = "token-of-the-first", "token-of-the-second", "token-of-the-third"
FRESH_TOKEN = "token-of-a-fresh-session"


def _resumable(token: str) -> dict[str, Any]:
    return {"features": (*FEATURES, "resume"), "resumeToken": token, "resumeSeconds": RESUME_SECONDS}


async def _talking(run: ScenarioRun, role: Role, **welcome: Any) -> ClientConnection:
    """A client in a call that can be resumed."""
    connection = await run.joined(**_resumable(TOKEN), **welcome)
    connection.answers_pings = False  # what was answered can't be reported as lost
    await run.pair(connection, role)
    await run.negotiate(connection, role)
    await connection.settle()
    return connection


async def _expect_resume(
    run: ScenarioRun,
    connection: ClientConnection,
    token: str,
    seq_rules: Sequence[str] = (),
    upgrade: UpgradeRequest | None = None,
) -> ClientConnection:
    """The connection is gone; the client connects again, and sends `resume` with this token.

    `seq_rules` are those that it breaks with another `lastSeq` than that of its last message; `upgrade` is its
    request, if that has arrived already.
    """
    second = await run.accept(upgrade or await run.next_upgrade(run.timeouts.reconnect, "P-9.1"))
    await second.send_welcome(**_resumable(FRESH_TOKEN))
    resume = await second.expect("resume", "join", rules="P-9.1", within=run.timeouts.action)
    if not isinstance(resume, messages.Resume):
        raise NotApplicable("the client does not resume, which is optional")
    if resume.token != token:
        second.fail("P-13.5", "expected `resume` with the token of the last `resumed` or, without one, `welcome`")
    if resume.last_seq != connection.seq:
        second.fail(seq_rules, f"expected `resume` with lastSeq {connection.seq}, not {resume.last_seq}")
    return second


async def _expect_lost_message_again(connection: ClientConnection, second: ClientConnection, *rules: str) -> None:
    """The session resumes, but the client's last message was lost."""
    await second.send_resumed(connection, SECOND_TOKEN, len(connection.received) - 1)
    lost = connection.received[-1]
    if await second.expect(lost.type, rules=rules) != lost:
        second.fail(rules, f"expected its last `{lost.type}` again, and nothing before it: only that was lost")


async def _resumes(role: Role, run: ScenarioRun) -> None:
    connection = await _talking(run, role)
    connection.drop()
    second = await _expect_resume(run, connection, TOKEN)
    await _expect_lost_message_again(connection, second, "P-13.4")
    # It is lost again at once. Now it needs the token of `resumed`, whose `seq` is not the session's.
    await second.settle()
    second.drop()
    third = await _expect_resume(run, second, SECOND_TOKEN, ["P-13.16"])
    await third.send_resumed(second, THIRD_TOKEN, second.monitor.heard)
    await third.expect_none("answer", rules="P-13.4", seconds=0.5)
    await third.relay(messages.Chat("are you there?"))
    await third.expect_working_pairing("P-13.4")


for role in ROLES:
    scenario(
        f"the connection is lost twice and the session resumes, as {role}", "P-13.4", "P-13.5", "P-13.9", "P-13.16"
    )(partial(_resumes, role))


@scenario("a pong has counted what was received, then the connection is lost", "P-13.4", "P-13.14")
async def _acknowledged(run: ScenarioRun) -> None:
    connection = await _talking(run, "answerer")
    await connection.send(messages.Pong(len(connection.received)))
    await connection.settle()
    await connection.relay_offer()
    await connection.expect_answer()
    await connection.settle()
    connection.drop()
    second = await _expect_resume(run, connection, TOKEN)
    await _expect_lost_message_again(connection, second, "P-13.4", "P-13.14")
    await second.expect_working_pairing("P-13.4")


@scenario("pings are not answered any more", "P-13.12")
async def _not_answered(run: ScenarioRun) -> None:
    connection = await _talking(run, "answerer", ping_seconds=1.0)
    connection.answers_websocket_pings = False
    upgrade = None
    try:
        # A client may keep the old connection until its session goes on over the new one.
        upgrade = await run.next_upgrade(run.timeouts.give_up)
    except ScenarioFailed as failure:
        if connection.ended is None:
            what = "the client gives up no connection whose pings are not answered, which is optional"
            raise NotApplicable(what) from failure
    second = await _expect_resume(run, connection, TOKEN, upgrade=upgrade)
    ended = connection.ended
    await second.send_resumed(connection, SECOND_TOKEN, connection.monitor.heard)
    await second.expect_working_pairing("P-13.12")
    if ended is None:
        ended = await connection.wait_for_end(run.timeouts.quiet)
    if ended is not None and ended.code not in (None, GIVEN_UP):
        second.fail("P-13.12", f"expected close code {GIVEN_UP}, or none, of what it gave up; it ended {ended}")


@scenario("the connection is lost and resuming fails", "P-8.4", "P-13.9")
async def _resume_fails(run: ScenarioRun) -> None:
    connection = await _talking(run, "answerer")
    connection.drop()
    second = await _expect_resume(run, connection, TOKEN)
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


@scenario("the partner is typing, and switches the camera off", "P-2.15")
async def _partner_types(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    for active in (True, True, False):
        await connection.relay(messages.Typing(active))
    await connection.relay(messages.Media(audio=True, video=False))
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
    await _expect_reconnect(run)


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
