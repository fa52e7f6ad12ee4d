"""What the user does with the client."""

from functools import partial

from curhat_trio.conformance.client.connection import CLIENT_ID
from curhat_trio.conformance.client.drivers import Action
from curhat_trio.conformance.client.scenario_run import Role, ScenarioRun
from curhat_trio.conformance.client.scenarios.registry import ROLES, ScenarioGroup
from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import ErrorCode

scenario = ScenarioGroup()


@scenario("the user leaves and joins again", "P-4.8", needs=["leave"])
async def _leaves(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    old = connection.peer
    assert old is not None
    await run.perform("leave")
    await connection.expect("leave", rules=(), within=run.timeouts.action)
    await connection.relay(messages.Chat("too late"))  # sent before the peer received the leave
    await connection.relay(old.offer())
    await connection.send_leave("left", by=CLIENT_ID)
    await run.pair_again(connection, "P-4.8")
    await run.expect_old_room_ignored(connection, old)
    await connection.expect_working_pairing("P-4.8")


@scenario("the user stops waiting and joins again", "P-4.8", needs=["leave"])
async def _stops_waiting(run: ScenarioRun) -> None:
    connection = await run.waiting()
    await run.perform("leave")
    await connection.expect("leave", rules=(), within=run.timeouts.action)
    await connection.send_match("answerer", "r-1")  # the match crossed the leave
    await connection.send_leave("left", by=CLIENT_ID)
    await run.pair_again(connection, "P-4.8")


async def _next(role: Role, run: ScenarioRun) -> None:
    connection = await run.negotiated("offerer")
    old = connection.peer
    assert old is not None
    await run.perform("next")
    await connection.expect("next", rules=(), within=run.timeouts.action)
    await connection.relay(old.offer())
    await connection.send_leave("next", by=CLIENT_ID)
    await run.pair(connection, role)
    await run.expect_old_room_ignored(connection, old)
    await run.negotiate(connection, role)
    await connection.expect_working_pairing("P-4.8")


for role in ROLES:
    scenario(f"the user asks for the next partner, as {role}", "P-4.8", needs=["next"])(partial(_next, role))


async def _crossed(action: Action, run: ScenarioRun) -> None:
    """The partner's leave crosses the client's own, which is answered by the error alone."""
    connection = await run.negotiated("answerer")
    await run.perform(action)
    await connection.expect(action, rules=(), within=run.timeouts.action)
    await connection.send_leave("next")
    await connection.send_error(ErrorCode.WRONG_STATE, action)
    await run.pair_again(connection, "P-4.9")
    await connection.expect_working_pairing("P-4.9")


scenario("leave crosses the partner's leave", "P-4.9", needs=["leave"])(partial(_crossed, "leave"))
scenario("next crosses the partner's leave", "P-4.9", needs=["next"])(partial(_crossed, "next"))


@scenario("the user sends chat", "P-3.4", needs=["chat"])
async def _chats(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    await run.perform("chat", "Hello, peer!")
    await connection.expect("chat", rules=(), within=run.timeouts.action)


@scenario("the user writes more than the size limit allows", "P-2.12", needs=["chat"])
async def _writes_too_much(run: ScenarioRun) -> None:
    connection = await run.joined(limits=messages.Limits(message_bytes=1024))
    await run.pair(connection, "answerer")
    await run.perform("chat", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 600)  # 600 characters, 1200 bytes
    await connection.expect_open("P-2.12")


@scenario("the server has neither chat nor next", "P-3.2", needs=["chat", "next"])
async def _has_no_features(run: ScenarioRun) -> None:
    connection = await run.joined(features=())
    await run.pair(connection, "answerer")
    await run.negotiate(connection, "answerer")
    for action in ("chat", "next"):
        await run.perform(action, "Can you read this?" if action == "chat" else "")
        await connection.expect_none(action, rules="P-3.2")
    if any(isinstance(message, messages.Leave) for message in connection.received):
        # This is how it gets to the next partner without `next`.
        await connection.send_leave("left", by=CLIENT_ID)
        await run.pair_again(connection, "P-3.2")


@scenario("the user quits", "P-9.4", needs=["quit"])
async def _quits(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    await run.perform("quit")
    ended = await connection.expect_end("P-9.4", run.timeouts.action)
    if ended.code is None:
        connection.fail("P-9.4", f"expected a close frame; the connection ended {ended}")
    await run.expect_no_connection("P-9.4")
