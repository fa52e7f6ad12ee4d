"""Every `error` in a pairing and while waiting."""

from functools import partial

from curhat_trio.conformance.client.scenario_run import ScenarioRun
from curhat_trio.conformance.client.scenarios.registry import ScenarioGroup
from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import ErrorCode

scenario = ScenarioGroup()


async def _error(code: str, ref: str | None, run: ScenarioRun) -> None:
    connection = await run.negotiated("offerer")
    await connection.send_error(code, ref, retry_after=0.2 if code == "rate_limited" else None)
    await connection.expect_open("P-8.4", 0.5)
    await connection.expect_working_pairing("P-8.4")


for code, ref in (
    *(("bad_message", "offer"), ("bad_message", None), ("unknown_type", "status"), ("wrong_state", "candidate")),
    *(
        ("not_your_turn", "offer"),
        ("unsupported", "chat"),
        ("rate_limited", "candidate"),
        ("unheard_of", "answer"),
    ),
):
    also = {"wrong_state": ("P-4.2",), "unheard_of": ("P-3.21",)}
    rules = ("P-8.4", *also.get(code, ()))
    scenario(f"error {code}, ref {ref or 'absent'}", *rules)(partial(_error, code, ref))


@scenario("every error code while waiting", "P-8.4")
async def _errors_while_waiting(run: ScenarioRun) -> None:
    connection = await run.waiting()
    for code in ErrorCode:
        await connection.send_error(code, "ping", retry_after=0.2 if code is ErrorCode.RATE_LIMITED else None)
    await connection.expect_open("P-8.4", 0.5)
    await run.pair(connection, "answerer")
    await run.negotiate(connection, "answerer")


@scenario("join is rate limited", "P-7.7", "P-8.4")
async def _join_rate_limited(run: ScenarioRun) -> None:
    connection = await run.joined()
    await run.expect_again(connection, "join")
    await run.pair(connection, "answerer")
    await run.negotiate(connection, "answerer")


@scenario("its offer is rate limited", "P-7.7", "P-8.4")
async def _offer_rate_limited(run: ScenarioRun) -> None:
    connection = await run.paired("offerer")
    await connection.expect_offer()
    offer = await run.expect_again(connection, "offer")
    assert isinstance(offer, messages.Offer)
    await connection.relay_answer(offer)
    await connection.expect_working_pairing("P-8.4")


@scenario("a late candidate crosses the partner's leave", "P-4.2")
async def _late_candidate(run: ScenarioRun) -> None:
    connection = await run.negotiated("offerer")
    await connection.send_leave("left")
    for ref in ("candidate", "status", "answer"):
        await connection.send_error(ErrorCode.WRONG_STATE, ref)
    await run.pair_again(connection, "P-4.2")
