"""The end of a pairing, and what arrives from a room that is over."""

from functools import partial

from curhat_trio.conformance.client.fake_peer import FakePeer
from curhat_trio.conformance.client.scenario_run import Role, ScenarioRun
from curhat_trio.conformance.client.scenarios.registry import ROLES, ScenarioGroup
from curhat_trio.conformance.client.state_tracker import CROSSING_SECONDS
from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId

scenario = ScenarioGroup()


@scenario("the room changes while the client waits", "P-4.8")
async def _room_changes(run: ScenarioRun) -> None:
    connection = await run.waiting()
    old = FakePeer(ClientId("c-nobody"), "Nobody", RoomId("r-1"))
    await run.pair(connection, "answerer")
    await connection.relay(old.offer(), old)
    await connection.expect_none("answer", rules="P-4.8")
    await run.negotiate(connection, "answerer")


async def _left(reason: str, role: Role, rule: str, run: ScenarioRun) -> None:
    """A second partner follows a first; messages of the first arrive late, and twice."""
    connection = await run.negotiated("offerer")
    old = connection.peer
    assert old is not None
    await connection.send_leave(reason)
    await connection.expect_open((), 0.2)
    await run.expect_rejoin(connection, rule)
    await connection.relay(old.offer(), old)
    await run.pair(connection, role)
    await run.expect_old_room_ignored(connection, old)
    await run.negotiate(connection, role)
    await run.expect_old_room_ignored(connection, old)
    await connection.expect_working_pairing("P-4.8")


_REASONS = [reason for reason in LeaveReason if reason is not LeaveReason.SERVER_SHUTDOWN]
for number, reason in enumerate([*_REASONS, "moved_to_another_town"]):
    role = ROLES[number % 2]
    rules = ("P-4.8",) if reason in _REASONS else ("P-3.21", "P-4.8")
    scenario(f"the partner leaves ({reason}), the next is found, as {role}", *rules)(
        partial(_left, str(reason), role, rules[0])
    )


@scenario("the partner leaves before any offer", "P-4.8")
async def _left_before_offer(run: ScenarioRun) -> None:
    connection = await run.paired("answerer")
    await connection.send_leave("negotiation_timeout")
    await run.pair_again(connection, "P-4.8")


@scenario("the partner leaves, and no other is found for a while", "P-4.10")
async def _left_alone(run: ScenarioRun) -> None:
    connection = await run.negotiated("offerer")
    await connection.send_leave("left")
    await connection.expect_open("P-4.10", CROSSING_SECONDS + run.timeouts.quiet)


@scenario("the partner sends chat", "P-3.4")
async def _partner_chats(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    for text in ("hi!", "\N{SMILING FACE WITH OPEN MOUTH}" * 2000, "\x00\u202e{}\n", " "):
        await connection.relay(messages.Chat(text))
    await connection.expect_working_pairing("P-5.7")


@scenario("the partner's name and chat contain markup", "P-11.2")
async def _markup(run: ScenarioRun) -> None:
    tag = f'<img src="{run.url}/rendered/%s" onerror="1">'
    connection = await run.paired("answerer", name=tag % "name")
    await run.negotiate(connection, "answerer")
    await connection.relay(messages.Chat(tag % "chat"))
    await connection.expect_open("P-11.2")
    for path in run.frontend.requested_paths:
        if path.startswith("/rendered/"):
            connection.fail("P-11.2", f"the client rendered the partner's {path.rpartition('/')[2]} as markup")
