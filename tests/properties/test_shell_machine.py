"""The real server without sockets: clients send and do anything, and everything is as in the model.

`server.serve` runs over wires in memory, on a clock that only the rules move, its tasks scheduled at random. After
every rule the server is at rest. Then sessions, deadlines, tokens, pool and counts, and what every client
received, byte for byte, must be those of `shell_model.Model`; and on the way there every single step must have
been its.

Many lose their connection and resume: most with their last token and number, some with another client's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from curhat_trio.protocol.messages import Chat, Join, Leave, Next, Resume
from curhat_trio.protocol.session import Connected, Negotiating, Paired, Waiting
from tests.properties import shell_actions
from tests.properties.shell import Shell, ShellClient
from tests.properties.shell_setup import KEPT_MESSAGES, MAX_CLIENTS, SETUPS, UNSOLICITED_PONG, ServerSetup


class LossAndResume:
    """A client that is lost and resumes, its partner if that is connected, and the connections over which it
    resumes.

    Args:
        ready: Those that are open already.
    """

    def __init__(
        self, machine: "ShellMachine", victim: ShellClient, partner: ShellClient | None, ready: list[ShellClient]
    ) -> None:
        self._machine = machine
        self._shell = machine.shell
        self._partner = partner
        self._ready = ready
        self._victim = self._last = victim
        self._token = victim.tokens[-1] if victim.tokens else "nobody's"
        self._resume = shell_actions.text(Resume(self._token, victim.last_seq))

    def it_sends(self) -> None:
        """Over the last connection, as if nothing had happened."""
        self._last.put(self._machine.segment(self._victim, [None]))

    def its_partner_sends(self) -> None:
        """Or a client connects that may become its partner."""
        if self._partner is not None:
            self._partner.put(self._machine.segment(self._partner, [None]))
        elif self._machine.may_connect_more:
            self._shell.connect("v1", shell_actions.text(Join()), None)

    def its_partner_sends_much(self, times: int = 5) -> None:
        if self._partner is not None:
            self._partner.put(times * shell_actions.text(Chat("much")))

    def its_partner_sends_too_much(self) -> None:
        """More than the replay buffer holds."""
        self.its_partner_sends_much(KEPT_MESSAGES + 1)

    def it_is_lost(self) -> None:
        self._last.vanish()

    def it_is_cut_off(self) -> None:
        self._last.cut_off()

    def it_resumes(self) -> None:
        self._resume_over_another(self._resume)

    def it_resumes_after_the_last_message(self) -> None:
        """With a number that was never sent."""
        self._resume_over_another(shell_actions.text(Resume(self._token, self._victim.last_seq + 3)))

    def it_resumes_late(self) -> None:
        """Not with the first message."""
        self._resume_over_another(shell_actions.text(Join()) + shell_actions.text(Leave()) + self._resume)

    def it_asks_for_another_session(self) -> None:
        """Although it has a session."""
        self._last.put(self._machine.segment(self._last, [shell_actions.ResumeRequest("anybody", 1)]))

    def _resume_over_another(self, frames: bytes) -> None:
        if self._ready:
            self._last = self._ready.pop()
            self._last.put(frames)
        elif self._machine.may_connect_more:
            self._last = self._shell.connect("v1", frames, self._victim.wire.window)
        self._last.ask(self._victim.last_seq)

    STEPS = (
        *(it_sends, its_partner_sends, its_partner_sends, its_partner_sends_much, its_partner_sends_too_much),
        *(it_is_lost, it_is_lost, it_is_cut_off),
        *(it_resumes, it_resumes, it_resumes, it_resumes, it_resumes_after_the_last_message, it_resumes_late),
        it_asks_for_another_session,
    )


class ShellMachine(RuleBasedStateMachine):
    shell: Shell

    def __init__(self) -> None:
        super().__init__()
        self.is_sound = False
        """The last rule came to its end."""

    @contextmanager
    def round(self) -> Iterator[Shell]:
        """Something happens, and then everything that follows from it, which is checked."""
        self.is_sound = False
        yield self.shell
        self.shell.settle_and_check()
        self.is_sound = True

    @initialize(
        setup=SETUPS,
        crowd=st.lists(shell_actions.CONNECT, min_size=2, max_size=5),
        ending=st.sampled_from(["all vanish", "drain", "cancel"]),
        last=st.lists(st.tuples(shell_actions.ACTION, shell_actions.TURNS), min_size=1, max_size=4),
    )
    def clients_connect(
        self,
        setup: ServerSetup,
        crowd: list[shell_actions.Connect],
        ending: Literal["all vanish", "drain", "cancel"],
        last: list[tuple[shell_actions.Action, int]],
    ) -> None:
        """Also decides how the run ends."""
        self.ending, self.last = ending, last
        self.shell = Shell(setup)
        with self.round():
            for connect in crowd:
                self.do(connect)

    @rule(actions=st.lists(st.tuples(shell_actions.ACTION, shell_actions.TURNS), min_size=1, max_size=6))
    def clients_act(self, actions: list[tuple[shell_actions.Action, int]]) -> None:
        """All before the server has settled."""
        with self.round():
            self.do_all(actions)

    @rule(frames=st.sampled_from([[None], [shell_actions.text(Next())]]))
    def all_send_at_once(self, frames: list[shell_actions.Sent]) -> None:
        """All clients that want a partner ask for one in the same moment."""
        with self.round():
            self.let_all_send(frames)

    @precondition(lambda self: self.pairs())
    @rule(
        who=shell_actions.WHO,
        beyond=st.integers(0, 2),
        size=st.sampled_from([1, 1, 400]),
        pause=st.sampled_from([2.0, 4.0]),
        reads_a_little=st.booleans(),
        reads_again=st.booleans(),
    )
    def a_client_reads_too_slowly(
        self, who: int, beyond: int, size: int, pause: float, reads_a_little: bool, reads_again: bool
    ) -> None:
        """The first message may fill the network; the next ones wait, as many as are allowed or a few more."""
        victim, partner = self.pairs()[who % len(self.pairs())]
        burst, each = self.shell.settings.message_burst, shell_actions.text(Chat(size * "x"))
        with self.round():
            victim.stop_reading()
            partner.put(each)
        for count in (burst, burst, beyond, 0):
            with self.round() as shell:
                shell.pass_time(pause)
                if reads_a_little:
                    victim.receive()
                partner.put(count * each)
        if reads_again:
            with self.round():
                victim.read_again()

    @precondition(lambda self: self.victims())
    @rule(
        who=shell_actions.WHO,
        new_connections=st.integers(0, 2),
        steps=st.lists(
            st.tuples(st.sampled_from(LossAndResume.STEPS), shell_actions.TURNS), min_size=2, max_size=7
        ),
    )
    def losses_cross_resumes(
        self, who: int, new_connections: int, steps: list[tuple[Callable[[LossAndResume], None], int]]
    ) -> None:
        """A client is lost and resumes, over several connections, while messages go in both directions."""
        with self.round():
            ready = [self.shell.connect("v1", b"", None) for _ in range(new_connections) if self.may_connect_more]
        victims = self.victims()
        with self.round() as shell:
            if not victims:
                return
            crossing = LossAndResume(self, *victims[who % len(victims)], ready)
            for step, turns in steps:
                step(crossing)
                shell.run_steps(turns)

    @rule(
        who=shell_actions.WHO,
        frames=st.sampled_from(
            [
                [],
                [],
                [],
                [None],
                [None, None],
                [UNSOLICITED_PONG],
                [shell_actions.ResumeRequest()],
                [shell_actions.ResumeRequest(), None],
            ]
        ),
        seconds=st.sampled_from([0.5, 1.5, 2.0, 5.0, 10.0, 19.5, 20.0, 30.0, 60.0]),
    )
    def time_passes(self, who: int, frames: list[shell_actions.Sent], seconds: float) -> None:
        """A deadline may pass just when a client sends something, or resumes; preferably one that owes a pong."""
        with self.round() as shell:
            late = [each for each in shell.clients if each.is_connected and each.connection.pong_by < inf]
            client = late[who % len(late)] if late else self.client_number(who)
            if client is not None:
                client.put(self.segment(client, frames))
            shell.pass_time(seconds)

    # ------------------------------------------------------------ actions

    @property
    def may_connect_more(self) -> bool:
        return sum(client.is_connected for client in self.shell.clients) < MAX_CLIENTS

    def victims(self) -> list[tuple[ShellClient, ShellClient | None]]:
        """Clients that wait, are paired, or may resume; with the partner, if that is connected."""
        model, clients = self.shell.model, self.shell.clients
        by_session = {client.model_client: client for client in clients if client.model_client is not None}
        found: list[tuple[ShellClient, ShellClient | None]] = []
        for client in clients:
            model_client = model.tokens.get(client.tokens[-1]) if client.tokens else client.model_client
            match model_client and model_client.endpoint.session.state:
                case Connected(first_message_by=None) | Waiting():
                    found.append((client, None))
                case Paired(pairing) | Negotiating(pairing):
                    partner = model.clients.get(pairing.partner)
                    found.append((client, None if partner is None else by_session.get(partner)))
        return found

    def pairs(self) -> list[tuple[ShellClient, ShellClient]]:
        return [(client, partner) for client, partner in self.victims() if partner is not None]

    def client_number(self, who: int) -> ShellClient | None:
        here = [client for client in self.shell.clients if client.is_connected]
        return here[who % len(here)] if here else None

    def let_all_send(self, frames: list[shell_actions.Sent]) -> None:
        for client in self.shell.clients:
            client.put(self.segment(client, frames))

    def do_all(self, actions: list[tuple[shell_actions.Action, int]]) -> None:
        for action, turns in actions:
            self.do(action)
            self.shell.run_steps(turns)

    def do(self, action: shell_actions.Action) -> None:
        if isinstance(action, shell_actions.Connect):
            return self._connect_new(action) if self.may_connect_more else None
        client = self.client_number(action.who)
        match action:
            case _ if client is None:
                pass
            case shell_actions.Send(_, frames, cut):
                data = self.segment(client, frames)
                if cut is not None:
                    client.put(data[: cut % len(data)])
                    self.shell.run_steps(2)
                client.put(data if cut is None else data[cut % len(data) :])
            case shell_actions.ChangeBehaviour(_, how):
                how(client)
        return None

    def _connect_new(self, action: shell_actions.Connect) -> None:
        asked = [
            self.resume(each).last_seq for each in action.frames if isinstance(each, shell_actions.ResumeRequest)
        ]
        client = self.shell.connect(action.profile, self.segment(None, action.frames), action.window)
        client.answers_pings = action.answers_pings
        for last_seq in asked:
            client.ask(last_seq)

    def segment(self, client: ShellClient | None, frames: list[shell_actions.Sent]) -> bytes:
        """The bytes that a client sends; None: one that has not connected yet."""
        model_client = None if client is None else client.model_client
        tag, data = 0 if client is None else len(client.texts), b""
        for each in frames:
            if isinstance(each, shell_actions.ResumeRequest):
                resume = self.resume(each)
                if client is not None:
                    client.ask(resume.last_seq)
                data += shell_actions.text(resume)
                model_client = self.shell.model.tokens.get(resume.token, model_client)
            else:
                data += shell_actions.text(shell_actions.fitting(model_client, tag)) if each is None else each
        return data

    def resume(self, request: shell_actions.ResumeRequest) -> Resume:
        """A `resume` with the token and number of some client."""
        known = [client for client in self.shell.clients if client.tokens]
        away = {client: self.is_away(client) for client in known}
        among = [
            client for client in known if request.whose == "anybody" or away[client] == (request.whose == "away")
        ]
        if not (among or known):
            return Resume("nobody's", 1)
        client = (among or known)[-1 - request.number % len(among or known)]
        token = {"last": client.tokens[-1], "first": client.tokens[0], "wrong": "nobody's"}[request.token]
        return Resume(token, max(0, client.last_seq + request.ahead))

    def is_away(self, client: ShellClient) -> bool:
        """Whether its session waits for it."""
        model_client = self.shell.model.tokens.get(client.tokens[-1])
        return model_client is not None and model_client.connection is None

    def teardown(self) -> None:
        if not hasattr(self, "shell"):
            return
        try:
            if self.is_sound:
                self.end_the_run()
        except BaseException:
            self.is_sound = False
            raise
        finally:
            with suppress(*() if self.is_sound else (BaseException,)):  # the failure is known already
                self.shell.close()

    def end_the_run(self) -> None:
        """During the last actions, unless all vanish; `Shell.close` cancels the server."""
        if self.ending == "all vanish":
            return self.shell.check_that_nothing_is_left()
        self.do_all(self.last)
        if self.ending == "cancel":
            self.let_all_send([None])
            self.shell.run_steps(self.last[-1][1])
        else:
            with self.round() as shell:
                shell.stop()
            for seconds in (1.0, shell.settings.drain_seconds):
                with self.round() as shell:
                    shell.pass_time(seconds)
            assert all(client.wire.is_closed for client in shell.clients)
        return None


ShellMachine.TestCase.settings = settings(max_examples=settings().max_examples, stateful_step_count=25)
TestShellMachine = ShellMachine.TestCase
