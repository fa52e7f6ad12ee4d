"""Connecting and joining, and whatever a later version of the protocol may add."""

from functools import partial
from typing import Any

from curhat_trio.conformance.client.results import NotApplicable
from curhat_trio.conformance.client.scenario_run import Role, ScenarioRun
from curhat_trio.conformance.client.scenarios.registry import ROLES, ScenarioGroup
from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import ErrorCode

scenario = ScenarioGroup()

UNKNOWN_FIELDS: dict[str, Any] = {"later": {"than": ["curhat.v1"]}, "payload2": None}
"""As a later version of the protocol may add them."""


@scenario("connects and joins", "P-2.2", "P-2.10", "P-3.4")
async def _connects_and_joins(run: ScenarioRun) -> None:
    connection = await run.joined()
    await connection.send_ready("r-1")
    await connection.expect_open("P-3.4", 0.5)


@scenario("sends the username in the URL", "P-2.7")
async def _username_in_the_url(run: ScenarioRun) -> None:
    await run.joined()
    if run.last_upgrade is None or run.last_upgrade.username is None:
        raise NotApplicable("the client sends no `username` in the query, which is optional")


@scenario("welcome has unknown fields", "P-2.15")
async def _unknown_in_welcome(run: ScenarioRun) -> None:
    connection = await run.connected(**UNKNOWN_FIELDS)
    await run.expect_join(connection, "P-2.15")


@scenario("welcome has unknown features", "P-3.21")
async def _unknown_features(run: ScenarioRun) -> None:
    connection = await run.connected(features=("chat", "next", "telepathy"))
    await run.expect_join(connection, "P-3.21")
    await run.pair(connection, "offerer")
    await connection.expect_offer("P-3.21")


@scenario("a message of unknown type while waiting", "P-2.15")
async def _unknown_while_waiting(run: ScenarioRun) -> None:
    connection = await run.connected()
    await connection.send_unknown("weather", forecast="rain")
    await run.expect_join(connection, "P-2.15")
    await connection.send_ready("r-1")
    await connection.send_unknown("weather", forecast="sun")
    await run.pair(connection, "offerer")
    await connection.expect_offer("P-2.15")


@scenario("answers have an id that the client did not ask for", "P-2.15")
async def _unknown_ids(run: ScenarioRun) -> None:
    connection = await run.joined()
    await connection.send_ready("r-1", id="of-no-join")
    await connection.send(messages.Pong(connection.monitor.heard), id="of-no-ping")
    await connection.send_error(ErrorCode.WRONG_STATE, "chat", id="of-no-chat")
    await connection.send_match("offerer", "r-1", id="of-nothing")
    await connection.relay_answer(await connection.expect_offer("P-2.15"), id="of-no-offer")
    await connection.expect_working_pairing("P-2.15")
    await connection.send_leave("left", id="of-no-leave")
    await run.pair_again(connection, "P-2.15")


async def _unknown_in_pairing(role: Role, run: ScenarioRun) -> None:
    connection = await run.paired(role)
    await connection.send_unknown("weather", forecast="rain", roomId="r-1", payload=[1])
    await connection.expect_open("P-2.15", 0.3)
    await run.negotiate(connection, role)
    await connection.send_unknown("weather")
    await connection.send_unknown("__proto__")
    await connection.expect_working_pairing("P-2.15")


async def _unknown_fields(role: Role, run: ScenarioRun) -> None:
    connection = await run.connected(**UNKNOWN_FIELDS)
    await run.expect_join(connection, "P-2.15")
    await connection.send_ready("r-1", **UNKNOWN_FIELDS)
    peer = await connection.send_match(role, "r-1", **UNKNOWN_FIELDS)
    if role == "offerer":
        await connection.relay_answer(await connection.expect_offer("P-2.15"), **UNKNOWN_FIELDS)
    else:
        await connection.relay(peer.offer(), **UNKNOWN_FIELDS)
        await connection.expect_answer("P-2.15")
    await connection.relay_candidates(**UNKNOWN_FIELDS)
    await connection.relay(messages.Chat("hello"), **UNKNOWN_FIELDS)
    await connection.send_error(ErrorCode.WRONG_STATE, "candidate", **UNKNOWN_FIELDS)
    await connection.send(messages.Pong(connection.monitor.heard), **UNKNOWN_FIELDS)
    await connection.expect_working_pairing("P-2.15")
    await connection.send_leave("left", **UNKNOWN_FIELDS)
    await connection.expect_open("P-2.15", 0.5)


for role in ROLES:
    scenario(f"a message of unknown type in a pairing, as {role}", "P-2.15")(partial(_unknown_in_pairing, role))
    scenario(f"unknown fields in every message, as {role}", "P-2.15")(partial(_unknown_fields, role))
