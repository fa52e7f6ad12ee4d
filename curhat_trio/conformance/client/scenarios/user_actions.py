"""What the user does with the client."""

from functools import partial

from curhat_trio.conformance.client.connection import CLIENT_ID, FEATURES, ClientConnection
from curhat_trio.conformance.client.drivers import Action
from curhat_trio.conformance.client.scenario_run import Role, ScenarioRun
from curhat_trio.conformance.client.scenarios.registry import ROLES, ScenarioGroup
from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import ErrorCode

scenario = ScenarioGroup()


@scenario("the user leaves and joins again", "P-4.8", "P-4.11", needs=["leave"])
async def _leaves(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    old = connection.peer
    assert old is not None
    await run.perform("leave")
    await connection.expect("leave", rules=(), within=run.timeouts.action)
    await _expect_late_messages_ignored(connection)
    await connection.send_leave("left", by=CLIENT_ID)
    await run.pair_again(connection, "P-4.8")
    await run.expect_old_room_ignored(connection, old)
    await connection.expect_working_pairing("P-4.8")


async def _expect_late_messages_ignored(connection: ClientConnection) -> None:
    """Until its own `leave` is answered, what still arrives belongs to a pairing that is over for the client."""
    await connection.relay_late_messages()
    await connection.send_error(ErrorCode.WRONG_STATE, "candidate")
    await connection.expect_none("answer", rules="P-4.11", seconds=0.5)


@scenario("the user stops waiting and joins again", "P-4.11", needs=["leave"])
async def _stops_waiting(run: ScenarioRun) -> None:
    connection = await run.waiting()
    await run.perform("leave")
    await connection.expect("leave", rules=(), within=run.timeouts.action)
    await connection.send_match("answerer", "r-1")  # the match crossed the leave
    await connection.relay_offer()
    await connection.expect_none("answer", rules="P-4.11", seconds=0.5)
    await connection.send_leave("left", by=CLIENT_ID)
    await run.pair_again(connection, "P-4.11")


async def _next(role: Role, run: ScenarioRun) -> None:
    connection = await run.negotiated("offerer")
    old = connection.peer
    assert old is not None
    await run.perform("next")
    await connection.expect("next", rules=(), within=run.timeouts.action)
    await _expect_late_messages_ignored(connection)
    await connection.send_leave("next", by=CLIENT_ID)
    await run.pair(connection, role)
    await run.expect_old_room_ignored(connection, old)
    await run.negotiate(connection, role)
    await connection.expect_working_pairing("P-4.8")


for role in ROLES:
    scenario(f"the user asks for the next partner, as {role}", "P-4.8", "P-4.11", needs=["next"])(
        partial(_next, role)
    )


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


@scenario("the user writes more characters than the limit allows", "P-2.18", "P-3.4", needs=["chat"])
async def _writes_too_many_characters(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    # Whoever counts UTF-16 code units, and cuts there, cuts one of these in half.
    await run.perform("chat", "x" + "\N{GRINNING FACE}" * 2100)
    await connection.expect_open("P-3.4")


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


@scenario("the user switches the microphone off and on", "P-3.20", needs=["media"])
async def _mutes(run: ScenarioRun) -> None:
    connection = await run.joined(features=(*FEATURES, "media"))
    await run.pair(connection, "answerer")
    await run.negotiate(connection, "answerer")
    begin = len(connection.received)
    await run.perform("media", "off")
    await _expect_audio(connection, False, begin)
    await connection.send_leave("left")
    await run.expect_rejoin(connection, "P-3.20")
    begin = len(connection.received)
    await run.pair(connection, "answerer")
    await run.negotiate(connection, "answerer")
    await _expect_audio(connection, False, begin)  # the next partner has to know
    begin = len(connection.received)
    await run.perform("media", "on")
    await _expect_audio(connection, True, begin)


async def _expect_audio(connection: ClientConnection, audio: bool, begin: int) -> None:
    """A `media` with this `audio` among what was received from `begin` on, or next."""
    sent = [message for message in connection.received[begin:] if isinstance(message, messages.Media)]
    message = sent[-1] if sent else await connection.expect("media", rules="P-3.20")
    if not isinstance(message, messages.Media) or message.audio is not audio:
        connection.fail("P-3.20", f"expected `media` with audio {audio}")


@scenario("the server has no media messages", "P-3.2", needs=["media"])
async def _has_no_media_messages(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    await run.perform("media", "off")
    await connection.expect_none("media", rules="P-3.2")


@scenario("the user quits", "P-9.4", needs=["quit"])
async def _quits(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    await run.perform("quit")
    ended = await connection.expect_end("P-9.4", run.timeouts.action)
    if ended.code is None:
        connection.fail("P-9.4", f"expected a close frame; the connection ended {ended}")
    await run.expect_no_connection("P-9.4")
