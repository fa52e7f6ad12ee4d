"""A scripted server: it runs one scenario after the other with the client of one driver."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import attrs
import trio

from curhat_trio.conformance.client.connection import ClientConnection
from curhat_trio.conformance.client.drivers import Driver, Log
from curhat_trio.conformance.client.http_frontend import HttpFrontend, UpgradeRequest
from curhat_trio.conformance.client.monitor import ALWAYS_CHECKED
from curhat_trio.conformance.client.results import NotApplicable, ScenarioFailed, Violation
from curhat_trio.conformance.client.scenario_run import ScenarioRun
from curhat_trio.conformance.client.scenarios import Scenario
from curhat_trio.conformance.client.timeouts import Timeouts
from curhat_trio.conformance.client.transcript import Transcript
from curhat_trio.conformance.report import Kind, Outcome, Trial

ALWAYS = "at all times"
"""The name of trials for rules that hold in every scenario."""

_PENDING_UPGRADES = 64
_HOPELESS = 3
"""After so many scenarios without any connection the test ends."""

Verdict = Violation | NotApplicable | None
"""How a scenario ended; None: it passed, as far as it can tell."""


@attrs.define
class ScriptedServer:
    """Runs scenarios.

    Args:
        driver: Operates the client.
        url: Of this server: `http://HOST:PORT`.
        timeouts: How long to wait.
        log: Gets the progress.
        page: A folder with a page to serve at `/`.
    """

    driver: Driver
    url: str
    timeouts: Timeouts
    log: Log
    page: Path | None = None
    trials: list[Trial] = attrs.Factory(list)
    """One for each scenario so far."""
    has_connected: bool = False
    """Whether the client has connected in any scenario."""
    skip_scope: trio.CancelScope | None = None
    """Cancel it to skip the present scenario."""
    _upgrades: trio.MemoryReceiveChannel[UpgradeRequest] = attrs.field(init=False)
    frontend: HttpFrontend = attrs.field(init=False)
    """Serves the connections to this server."""
    _covered: set[str] = attrs.Factory(set)
    _violations: defaultdict[str, list[tuple[str, str, Transcript]]] = attrs.Factory(lambda: defaultdict(list))
    """By rule: the scenario's name, the detail, the transcript."""

    def __attrs_post_init__(self) -> None:
        send, self._upgrades = trio.open_memory_channel[UpgradeRequest](_PENDING_UPGRADES)
        self.frontend = HttpFrontend(send, self.page)

    async def play(self, scenarios: Sequence[Scenario]) -> None:
        """Run these, and leave a trial of each in `trials`. If the client does not connect, the first ones are
        enough."""
        for number, scenario in enumerate(scenarios, 1):
            trial = await self._try(scenario)
            self.trials.append(trial)
            self.log(f"[{number}/{len(scenarios)}] {trial.outcome:7} {trial.seconds:5.1f} s  {trial.name}")
            if trial.detail:
                self.log(f"    {trial.detail}")
            if len(self.never_connected()) == _HOPELESS:
                return

    def never_connected(self) -> list[Trial]:
        """The scenarios that failed, if the client has connected in none."""
        failed = [trial for trial in self.trials if trial.outcome is Outcome.FAILED]
        return [] if self.has_connected else failed

    def always_checked(self) -> list[Trial]:
        """A trial for each rule that the monitors check, over all scenarios so far."""
        return [self._always_checked(requirement) for requirement in ALWAYS_CHECKED]

    def _always_checked(self, requirement: str) -> Trial:
        if violations := self._violations[requirement]:
            where, detail, transcript = violations[0]
            others = len({name for name, _, _ in violations}) - 1
            also = f", and in {others} other scenarios" if others else ""
            detail = f"{detail} (in: {where}{also})"
            lines = tuple(transcript.lines)
            return Trial(ALWAYS, (requirement,), Outcome.FAILED, 0.0, detail, lines, Kind.CHECK)
        if requirement in self._covered:
            return Trial(ALWAYS, (requirement,), Outcome.PASSED, kind=Kind.CHECK)
        detail = "the scenarios gave no occasion to break it"
        return Trial(ALWAYS, (requirement,), Outcome.SKIPPED, 0.0, detail, kind=Kind.CHECK)

    async def _try(self, scenario: Scenario) -> Trial:
        if missing := scenario.needs - self.driver.actions:
            names = ", ".join(sorted(missing))
            detail = f"the client does not support: {names}; if it does, name it in --actions"
            return _trial(scenario.name, scenario.requirements, Outcome.SKIPPED, 0.0, detail)
        transcript = Transcript(trio.current_time())
        verdict: Verdict = NotApplicable("skipped by hand")
        connections: list[ClientConnection] = []
        with trio.CancelScope() as self.skip_scope:
            verdict = await self._run(scenario, transcript, connections)
        self.skip_scope = None
        seconds = trio.current_time() - transcript.began
        return self._judge(scenario, verdict, connections, transcript, seconds)

    async def _run(
        self, scenario: Scenario, transcript: Transcript, connections: list[ClientConnection]
    ) -> Verdict:
        verdict: Verdict = None
        async with trio.open_nursery() as readers:
            run = ScenarioRun(
                self.driver,
                self._upgrades,
                self.frontend,
                self.url,
                self.timeouts,
                transcript,
                readers,
                connections,
            )
            self.frontend.requested_paths.clear()
            try:
                await self.driver.start()
                await scenario.play(run)
            except ScenarioFailed as failure:
                verdict = failure.violation
            except NotApplicable as not_applicable:
                verdict = not_applicable
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                verdict = Violation((), "the client disconnected during the opening handshake")
            finally:
                with trio.CancelScope(shield=True):
                    await self._clean_up(connections)
                readers.cancel_scope.cancel()
        return verdict

    async def _clean_up(self, connections: Sequence[ClientConnection]) -> None:
        """End what is still open; a client that stays for the next scenario is asked to reconnect."""
        for connection in connections:
            if connection.ended is None and not connection.upgrade.finished.is_set():
                await connection.expect_pongs()
                if self.driver.keeps_client:
                    await connection.send_goaway(0)
                    await connection.close(4000)
            connection.drop()
        await self.driver.stop()
        if not self.driver.keeps_client:
            with suppress(trio.WouldBlock):
                while True:
                    self._upgrades.receive_nowait().drop()

    def _judge(
        self,
        scenario: Scenario,
        verdict: Verdict,
        connections: Sequence[ClientConnection],
        transcript: Transcript,
        seconds: float,
    ) -> Trial:
        violations = [violation for connection in connections for violation in connection.monitor.violations]
        for connection in connections:
            self._covered |= connection.monitor.covered
        for violation in violations:
            for requirement in violation.requirements:
                self._violations[requirement].append((scenario.name, violation.detail, transcript))
        self.has_connected |= bool(connections)
        lines = tuple(transcript.lines)
        if isinstance(verdict, Violation):
            return _trial(scenario.name, verdict.requirements, Outcome.FAILED, seconds, verdict.detail, lines)
        if isinstance(verdict, NotApplicable):
            return _trial(scenario.name, scenario.requirements, Outcome.SKIPPED, seconds, str(verdict))
        own = [violation for violation in violations if set(violation.requirements) & set(scenario.requirements)]
        if own:
            broken = tuple({rule: None for violation in own for rule in violation.requirements})
            detail = "; ".join(dict.fromkeys(violation.detail for violation in own))
            return _trial(scenario.name, broken, Outcome.FAILED, seconds, detail, lines)
        return _trial(scenario.name, scenario.requirements, Outcome.PASSED, seconds)


def _trial(
    name: str,
    rules: tuple[str, ...],
    outcome: Outcome,
    seconds: float,
    detail: str = "",
    transcript: tuple[str, ...] = (),
) -> Trial:
    return Trial(name, rules, outcome, seconds, detail, transcript, Kind.SCENARIO)
