"""The scripted server tells a good client from a bad one, and says which rule the bad one breaks."""

from collections.abc import Awaitable, Callable, Sequence

import attrs
import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from curhat_trio.conformance.client.scripted_server import ByHand, ScriptedServer
from curhat_trio.conformance.report import Outcome, Report, Trial
from curhat_trio.conformance.client.scenarios import SITUATIONS, Situation
from curhat_trio.conformance.client.scenario_run import DEEDS, Deed, Person
from curhat_trio.conformance.client.connection import Patience
from curhat_trio.documents.requirements import Party, requirements
from tests.conformance.clients import BAD_CLIENTS, Client, Dial, InsistsThoughPolite

RULES = requirements()
NOT_SHOWN = {"P-11.1", "P-11.4", "P-3.17"}
"""What a client shows its person, and a page that came over HTTPS: the scripted server does not see that."""

Clock = trio.testing.MockClock


async def obey(client: Client, deed: Deed, text: str = "") -> None:
    """Do with this client what its person is asked to."""
    await (client.chat(text) if deed == "chat" else getattr(client, deed)())


@attrs.define
class Puppeteer:
    """A person with clients of one kind, a new one for each situation."""

    kind: type[Client]
    dial: Dial
    nursery: trio.Nursery
    can: frozenset[Deed]
    stays: bool = False
    client: Client = attrs.field(init=False)
    scope: trio.CancelScope = attrs.field(init=False)

    async def enter(self) -> None:
        self.client, self.scope = self.kind(self.dial), trio.CancelScope()
        self.nursery.start_soon(self._live, self.client, self.scope)
        await self.do("join")

    async def _live(self, client: Client, scope: trio.CancelScope) -> None:
        with scope:
            await client.live()

    async def do(self, deed: Deed, text: str = "") -> None:
        await obey(self.client, deed, text)

    async def go(self) -> None:
        self.scope.cancel()


class Reader:
    """Somebody with one client that stays open, who does what the lines on the terminal say."""

    def __init__(self, dial: Dial, nursery: trio.Nursery) -> None:
        self.client = Client(dial)
        self._nursery = nursery
        nursery.start_soon(self.client.live)

    def tell(self, line: str) -> None:
        words = {
            "look for a partner at": "join",
            "look for a partner (": "join",
            "leave the partner": "leave",
            "go on to the next": "next",
            "make the client offer": "renegotiate",
            "leave for good": "quit",
        }
        if "write to the partner" in line:
            self._nursery.start_soon(self.client.chat, line.partition("(or try to): ")[2])
        for part, deed in words.items():
            if part in line:
                self._nursery.start_soon(getattr(self.client, deed))


async def report_of(
    make_person: Callable[[Dial, trio.Nursery], Person],
    situations: Sequence[Situation] = SITUATIONS,
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair,
) -> Report:
    """Put somebody's client through these situations, over memory streams."""
    async with trio.open_nursery() as nursery:

        async def dial() -> trio.abc.Stream:
            client, served = make_pair()
            nursery.start_soon(server.doorway.serve, served)
            return client

        person = make_person(dial, nursery)
        server = ScriptedServer(person, "http://curhat.test", Patience(), lambda _line: None)
        await server.play(situations)
        nursery.cancel_scope.cancel()
    return Report("a client", Party.CLIENT, RULES, (*server.trials, *server.always()))


def play(kind: type[Client], can: Sequence[Deed] = DEEDS, only: str = "") -> Awaitable[Report]:
    """Put clients of this kind through the situations with this word."""
    situations = [situation for situation in SITUATIONS if only in situation.name]
    return report_of(lambda dial, nursery: Puppeteer(kind, dial, nursery, frozenset(can)), situations)


def failed(report: Report) -> list[Trial]:
    return [trial for trial in report.trials if trial.outcome is Outcome.FAILED]


def skipped(report: Report) -> set[str]:
    return {trial.name for trial in report.trials if trial.outcome is Outcome.SKIPPED}


async def test_a_good_client_passes_everything(autojump_clock: Clock) -> None:
    report = await play(Client)
    assert [(trial.name, trial.detail, trial.transcript) for trial in failed(report)] == []
    assert skipped(report) == set()
    outcomes = report.by_requirement()
    assert {rule for rule, outcome in outcomes.items() if outcome is not Outcome.PASSED} == NOT_SHOWN
    assert report.exit_status == 0


@pytest.mark.parametrize("kind", BAD_CLIENTS)
async def test_a_bad_client_is_told_the_rules_that_it_breaks(kind: type[Client], autojump_clock: Clock) -> None:
    report = await play(kind)
    assert {rule for trial in failed(report) for rule in trial.requirements} == set(kind.breaks)
    assert all(trial.requirements and trial.detail for trial in failed(report))
    binding = any(RULES[rule].level == "MUST" for rule in kind.breaks)
    assert report.exit_status == int(binding)


async def test_a_failure_comes_with_what_was_expected_and_what_was_said(autojump_clock: Clock) -> None:
    [trial] = failed(await play(InsistsThoughPolite, only="it is polite"))
    assert trial.detail == "expected `answer` within 5 s; none came"
    assert trial.transcript[0].endswith("> the client connects to /ws")
    assert any('< {"type":"offer"' in line for line in trial.transcript)
    assert not any("a=ice-ufrag" in line or "127.0.0.1" in line for line in trial.transcript)


async def test_somebody_at_the_terminal_gets_one_client_through_everything(autojump_clock: Clock) -> None:
    def make(dial: Dial, nursery: trio.Nursery) -> Person:
        reader = Reader(dial, nursery)
        return ByHand("ws://curhat.test/ws", frozenset(DEEDS), reader.tell)

    report = await report_of(make)
    assert [(trial.name, trial.detail, trial.transcript) for trial in failed(report)] == []
    assert skipped(report) == set()


async def test_a_client_that_only_joins_is_tried_as_far_as_that_goes(autojump_clock: Clock) -> None:
    report = await play(Client, can=())
    assert failed(report) == []
    assert report.exit_status == 0
    assert "its person chats" in skipped(report)
    assert "two first offers cross, and it is impolite" not in skipped(report)


async def test_a_client_that_never_asks_for_a_partner_fails_without_a_rule(autojump_clock: Clock) -> None:
    class NeverJoins(Client):
        async def say_join(self) -> None:
            pass

    [trial] = failed(report := await play(NeverJoins, only="connects and joins"))
    assert (trial.requirements, trial.detail) == ((), "expected `join` within 5 s; none came")
    assert report.exit_status == 1


async def test_a_client_that_does_not_come_fails_without_a_rule(autojump_clock: Clock) -> None:
    class StaysAway(Client):
        async def live(self) -> None:
            await trio.sleep_forever()

    [trial] = failed(await play(StaysAway, only="connects and joins"))
    assert trial.detail == "expected a connection of the client's within 5 s; none came"


async def test_who_hung_up_before_the_answer_is_not_taken_for_the_client(autojump_clock: Clock) -> None:
    """A browser that is closed just as it comes back still sends its request, when the next one is on its way."""

    class AfterSomebody(Puppeteer):
        async def enter(self) -> None:
            late = await self.dial()
            request = Request("curhat.test", "/ws?username=Eko", subprotocols=["curhat.v1"])
            await late.send_all(WSConnection(ConnectionType.CLIENT).send(request))
            await trio.testing.wait_all_tasks_blocked()
            await late.aclose()
            await super().enter()

    report = await report_of(
        lambda dial, nursery: AfterSomebody(Client, dial, nursery, frozenset(DEEDS)),
        [situation for situation in SITUATIONS if situation.name == "connects and joins"],
    )
    assert [(trial.detail, trial.transcript) for trial in failed(report)] == []


async def test_a_client_that_does_not_read_ends_its_situation_only(autojump_clock: Clock) -> None:
    class ReadsNothing(Client):
        async def on_join(self, message: dict[str, object]) -> None:
            await trio.sleep_forever()

    report = await report_of(
        lambda dial, nursery: Puppeteer(ReadsNothing, dial, nursery, frozenset()),
        [situation for situation in SITUATIONS if "nearly as long" in situation.name],
        trio.testing.lockstep_stream_pair,  # what is not read can't be sent
    )
    assert [trial.requirements for trial in failed(report)] == [("P-5.7",), ("P-5.3",)]
    assert any("does not read" in line for line in failed(report)[0].transcript)


async def test_a_situation_can_be_passed_over(autojump_clock: Clock) -> None:
    class Sleeper(Puppeteer):
        async def enter(self) -> None:
            server.passing_over.cancel()  # type: ignore[union-attr]

        async def go(self) -> None:
            pass

    async with trio.open_nursery() as nursery:

        async def dial() -> trio.abc.Stream:
            raise OSError

        server = ScriptedServer(
            Sleeper(Client, dial, nursery, frozenset(DEEDS)), "http://curhat.test", Patience(), lambda _line: None
        )
        await server.play(SITUATIONS[:1])
    assert [(trial.outcome, trial.detail) for trial in server.trials] == [(Outcome.SKIPPED, "passed over by hand")]


async def test_what_was_answered_is_not_told_as_lost(autojump_clock: Clock) -> None:
    """A client may take a pong for a proof that everything up to its ping has arrived."""

    class TrustsPongs(Client):
        proved = 0

        async def no_more_candidates(self) -> None:
            await super().no_more_candidates()
            await self.say("ping", data="all of it")

        async def on_pong(self, message: dict[str, object]) -> None:
            self.proved = len(self._words)

        async def say_again(self, heard: int) -> None:
            if heard >= self.proved:
                await super().say_again(heard)

    report = await play(TrustsPongs, only="goes on over another")
    assert [trial.outcome for trial in report.trials[:2]] == [Outcome.PASSED] * 2, report.text()
