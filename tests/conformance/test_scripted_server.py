"""The scripted server passes a good client, and reports which rule a bad one breaks."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from curhat_trio.conformance.client.drivers import ALL_ACTIONS, Action, Driver, ManualDriver
from curhat_trio.conformance.client.scenarios import SCENARIOS, Scenario
from curhat_trio.conformance.client.scenarios.reconnecting import fault_of_pauses
from curhat_trio.conformance.client.scripted_server import ScriptedServer
from curhat_trio.conformance.client.timeouts import Timeouts
from curhat_trio.conformance.report import Outcome, Report, Trial
from curhat_trio.documents.requirements import Party, requirements
from tests.conformance.bad_clients import BAD_CLIENTS, InsistsThoughPolite
from tests.conformance.clients import Client, Dial

RULES = requirements()
NOT_SHOWN = {"P-11.1", "P-11.4", "P-3.17"}
"""What a client shows its user, and pages over HTTPS: that can't be seen."""

Clock = trio.testing.MockClock


async def perform(client: Any, action: Action, text: str = "") -> None:
    """Have this client perform an action."""
    await getattr(client, action)(*[text] * (action in ("chat", "media")))


@attrs.define
class InMemoryDriver:
    """Clients of one kind, a new one for each scenario."""

    make_client: Callable[[Dial], Any]
    """Returns what has a method `live`, and one for each of `actions`."""
    dial: Dial
    nursery: trio.Nursery
    actions: frozenset[Action]
    keeps_client: bool = False
    client: Any = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(init=False)

    async def start(self) -> None:
        self.client, self.scope = self.make_client(self.dial), trio.CancelScope()
        self.nursery.start_soon(self._live, self.client, self.scope)
        await self.perform("join")

    async def _live(self, client: Any, scope: trio.CancelScope) -> None:
        with scope:
            await client.live()

    async def perform(self, action: Action, text: str = "") -> None:
        await perform(self.client, action, text)

    async def stop(self) -> None:
        self.scope.cancel()

    async def wait_for_failure(self) -> str:
        await trio.sleep_forever()
        raise AssertionError


class TerminalUser:
    """One client that stays open, and a user who follows the instructions on the terminal."""

    def __init__(self, dial: Dial, nursery: trio.Nursery) -> None:
        self.client = Client(dial)
        self._nursery = nursery
        nursery.start_soon(self.client.live)

    def log(self, line: str) -> None:
        instructions = {
            "look for a partner at": "join",
            "look for a partner (": "join",
            "leave the partner": "leave",
            "go on to the next": "next",
            "make the client offer": "renegotiate",
            "leave for good": "quit",
        }
        if "switch the microphone" in line:
            self._nursery.start_soon(self.client.media, line.rpartition(" ")[2])
        if "send the partner this" in line:
            self._nursery.start_soon(self.client.chat, line.partition("or try to: ")[2])
        for part, action in instructions.items():
            if part in line:
                self._nursery.start_soon(getattr(self.client, action))


async def report_of(
    make_driver: Callable[[Dial, trio.Nursery], Driver],
    scenarios: Sequence[Scenario] = SCENARIOS,
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair,
) -> Report:
    """Run these scenarios, over memory streams."""
    async with trio.open_nursery() as nursery:

        async def dial() -> trio.abc.Stream:
            client, served = make_pair()
            nursery.start_soon(server.frontend.serve, served)
            return client

        driver = make_driver(dial, nursery)
        server = ScriptedServer(driver, "http://curhat.test", Timeouts(), lambda _line: None)
        await server.play(scenarios)
        nursery.cancel_scope.cancel()
    return Report("a client", Party.CLIENT, RULES, (*server.trials, *server.always_checked()))


def play(kind: type[Client], actions: Sequence[Action] = ALL_ACTIONS, only: str = "") -> Awaitable[Report]:
    """Run the scenarios with this in their name with clients of this kind."""
    scenarios = [scenario for scenario in SCENARIOS if only in scenario.name]
    return report_of(lambda dial, nursery: InMemoryDriver(kind, dial, nursery, frozenset(actions)), scenarios)


def failed(report: Report) -> list[Trial]:
    return [trial for trial in report.trials if trial.outcome is Outcome.FAILED]


def skipped(report: Report) -> set[str]:
    return {trial.name for trial in report.trials if trial.outcome is Outcome.SKIPPED}


async def test_a_good_client_passes_every_scenario(autojump_clock: Clock) -> None:
    report = await play(Client)
    assert [(trial.name, trial.detail, trial.transcript) for trial in failed(report)] == []
    assert skipped(report) == set()
    outcomes = report.by_requirement()
    assert {rule for rule, outcome in outcomes.items() if outcome is not Outcome.PASSED} == NOT_SHOWN
    assert report.exit_status == 0


@pytest.mark.parametrize("kind", BAD_CLIENTS)
async def test_a_bad_client_fails_with_the_rules_that_it_breaks(kind: type[Client], autojump_clock: Clock) -> None:
    report = await play(kind)
    assert {rule for trial in failed(report) for rule in trial.requirements} == set(kind.breaks)
    assert all(trial.requirements and trial.detail for trial in failed(report))
    binding = any(RULES[rule].level == "MUST" for rule in kind.breaks)
    assert report.exit_status == int(binding)


async def test_a_failure_has_a_reason_and_a_transcript(autojump_clock: Clock) -> None:
    [trial] = failed(await play(InsistsThoughPolite, only="client is polite"))
    assert trial.detail == "expected `answer` within 5 s; none arrived"
    assert trial.transcript[0].endswith("> the client connects to /ws")
    assert any('< {"type":"offer"' in line for line in trial.transcript)
    assert not any("a=ice-ufrag" in line or "127.0.0.1" in line for line in trial.transcript)


async def test_a_user_at_the_terminal_passes_every_scenario_with_one_client(autojump_clock: Clock) -> None:
    def make(dial: Dial, nursery: trio.Nursery) -> Driver:
        user = TerminalUser(dial, nursery)
        return ManualDriver("ws://curhat.test/ws", frozenset(ALL_ACTIONS), user.log)

    report = await report_of(make)
    assert [(trial.name, trial.detail, trial.transcript) for trial in failed(report)] == []
    assert skipped(report) == set()


async def test_scenarios_that_need_more_than_join_are_skipped_without_it(autojump_clock: Clock) -> None:
    report = await play(Client, actions=())
    assert failed(report) == []
    assert report.exit_status == 0
    assert "the user sends chat" in skipped(report)
    assert "initial offers collide, and the client is impolite" not in skipped(report)


async def test_a_client_that_never_joins_fails_without_a_rule(autojump_clock: Clock) -> None:
    class NeverJoins(Client):
        async def send_join(self) -> None:
            pass

    [trial] = failed(report := await play(NeverJoins, only="connects and joins"))
    assert (trial.requirements, trial.detail) == ((), "expected `join` within 5 s; none arrived")
    assert report.exit_status == 1


async def test_a_client_that_does_not_connect_fails_without_a_rule(autojump_clock: Clock) -> None:
    class StaysAway(Client):
        async def live(self) -> None:
            await trio.sleep_forever()

    [trial] = failed(await play(StaysAway, only="connects and joins"))
    assert trial.detail == "expected the client to connect within 5 s; it did not"


async def test_a_request_that_was_abandoned_is_not_taken_for_the_client(autojump_clock: Clock) -> None:
    """A browser that is closed while it reconnects still sends its request, before the next one connects."""

    class AfterAnAbandonedRequest(InMemoryDriver):
        async def start(self) -> None:
            late = await self.dial()
            request = Request("curhat.test", "/ws?username=Eko", subprotocols=["curhat.v1"])
            await late.send_all(WSConnection(ConnectionType.CLIENT).send(request))
            await trio.testing.wait_all_tasks_blocked()
            await late.aclose()
            await super().start()

    report = await report_of(
        lambda dial, nursery: AfterAnAbandonedRequest(Client, dial, nursery, frozenset(ALL_ACTIONS)),
        [scenario for scenario in SCENARIOS if scenario.name == "connects and joins"],
    )
    assert [(trial.detail, trial.transcript) for trial in failed(report)] == []


async def test_a_client_that_does_not_read_fails_its_scenario_only(autojump_clock: Clock) -> None:
    class ReadsNothing(Client):
        async def on_join(self, message: dict[str, object]) -> None:
            await trio.sleep_forever()

    report = await report_of(
        lambda dial, nursery: InMemoryDriver(ReadsNothing, dial, nursery, frozenset()),
        [scenario for scenario in SCENARIOS if "close to the size limit" in scenario.name],
        trio.testing.lockstep_stream_pair,  # what is not read can't be sent
    )
    assert [trial.requirements for trial in failed(report)] == [("P-5.7",), ("P-5.3",)]
    assert any("does not read" in line for line in failed(report)[0].transcript)


async def test_a_scenario_can_be_skipped_by_hand(autojump_clock: Clock) -> None:
    class SkippingDriver(InMemoryDriver):
        async def start(self) -> None:
            server.skip_scope.cancel()  # type: ignore[union-attr]

        async def stop(self) -> None:
            pass

    async with trio.open_nursery() as nursery:

        async def dial() -> trio.abc.Stream:
            raise OSError

        server = ScriptedServer(
            SkippingDriver(Client, dial, nursery, frozenset(ALL_ACTIONS)),
            "http://curhat.test",
            Timeouts(),
            lambda _line: None,
        )
        await server.play(SCENARIOS[:1])
    assert [(trial.outcome, trial.detail) for trial in server.trials] == [(Outcome.SKIPPED, "skipped by hand")]


async def test_a_message_before_an_answered_ping_is_not_reported_as_lost(autojump_clock: Clock) -> None:
    """A pong proves to a client that everything before its ping has arrived."""

    class TrustsPongs(Client):
        acknowledged = 0

        async def no_more_candidates(self) -> None:
            await super().no_more_candidates()
            await self.send("ping", data="all of it")

        async def on_pong(self, message: dict[str, Any]) -> None:
            self.acknowledged = message["heard"]

        async def resend(self, heard: int) -> None:
            if heard >= self.acknowledged:
                await super().resend(heard)

    report = await play(TrustsPongs, only="session resumes")
    assert [trial.outcome for trial in report.trials[:2]] == [Outcome.PASSED] * 2, report.text()


@pytest.mark.parametrize(
    ("pauses", "expected"),
    [
        ([0.0, 0.01, 0.02], "a pause"),
        ([1.0, 0.9, 0.8], "to grow"),
        ([1.0, 2.0, 4.0], "jitter"),
        ([0.7, 1.9, 2.4], None),
        ([0.7, 0.6, 2.4], None),
    ],
)
def test_three_pauses_show_whether_they_grow_and_have_jitter(pauses: list[float], expected: str | None) -> None:
    fault = fault_of_pauses(pauses)
    assert (fault is None) if expected is None else (fault is not None and expected in fault)
