"""`curhat-trio conform --listen PORT`: a scripted server that puts a client under test through every situation.

Whoever has the client in hand is a `Person`: somebody at this terminal who is told what to press, or a command
that is started anew for every situation and reads on its standard input what its person does.
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE

import attrs
import trio

from curhat_trio.conformance.client.http_frontend import Caller, Doorway
from curhat_trio.conformance.report import Outcome, Report, Trial
from curhat_trio.conformance.client.scenarios import SITUATIONS, Situation
from curhat_trio.conformance.client.scenario_run import DEEDS, Deed, Person, Stage
from curhat_trio.conformance.client.connection import Broken, NotShown, Patience, Transcript, Visit
from curhat_trio.conformance.client.monitor import WATCHED, Breach
from curhat_trio.documents.requirements import Party, requirements

Tell = Callable[[str], None]
"""Where progress goes, line by line."""

_CALLERS = 64
_END_SECONDS = 2.0


# ---------------------------------------------------------------- playing the situations


@attrs.define
class ScriptedServer:
    """Plays one situation after the other with one person's client.

    Args:
        person: Who has the client in hand.
        url: Of this server: `http://HOST:PORT`.
        patience: How long to wait for anything.
        tell: Where progress goes.
        page: A folder with a page to serve at `/`.
    """

    person: Person
    url: str
    patience: Patience
    tell: Tell
    page: Path | None = None
    trials: list[Trial] = attrs.Factory(list)
    """What has been tried so far."""
    passing_over: trio.CancelScope | None = None
    """Cancel it to pass over the present situation."""
    _callers: trio.MemoryReceiveChannel[Caller] = attrs.field(init=False)
    doorway: Doorway = attrs.field(init=False)
    """Serves the connections to this server."""
    _seen: set[str] = attrs.Factory(set)
    _breaches: defaultdict[str, list[tuple[str, str, Transcript]]] = attrs.Factory(lambda: defaultdict(list))

    def __attrs_post_init__(self) -> None:
        send, self._callers = trio.open_memory_channel[Caller](_CALLERS)
        self.doorway = Doorway(send, self.page)

    async def play(self, situations: Sequence[Situation]) -> None:
        """Try these, and leave a trial of each in `trials`."""
        for number, situation in enumerate(situations, 1):
            trial = await self._try(situation)
            self.trials.append(trial)
            self.tell(f"[{number}/{len(situations)}] {trial.outcome:7} {trial.seconds:5.1f} s  {trial.name}")
            if trial.detail:
                self.tell(f"    {trial.detail}")

    def always(self) -> list[Trial]:
        """A trial for each rule that the watch looks after, over all situations so far."""
        return [self._watched(requirement) for requirement in WATCHED]

    def _watched(self, requirement: str) -> Trial:
        name = "at all times"
        if breaches := self._breaches[requirement]:
            where, detail, transcript = breaches[0]
            others = len({each[0] for each in breaches}) - 1
            also = f", and in {others} other situations" if others else ""
            detail = f"{detail} (in: {where}{also})"
            return Trial(name, (requirement,), Outcome.FAILED, 0.0, detail, tuple(transcript.lines))
        if requirement in self._seen:
            return Trial(name, (requirement,), Outcome.PASSED)
        return Trial(name, (requirement,), Outcome.SKIPPED, 0.0, "there was no occasion")

    async def _try(self, situation: Situation) -> Trial:
        if missing := situation.needs - self.person.can:
            wanted = ", ".join(sorted(missing))
            return Trial(
                situation.name, situation.requirements, Outcome.SKIPPED, 0.0, f"the client can't be told: {wanted}"
            )
        transcript = Transcript(trio.current_time())
        verdict: Breach | NotShown | None = NotShown("passed over by hand")
        visits: list[Visit] = []
        with trio.CancelScope() as self.passing_over:
            verdict = await self._play(situation, transcript, visits)
        self.passing_over = None
        seconds = trio.current_time() - transcript.began
        return self._judge(situation, verdict, visits, transcript, seconds)

    async def _play(
        self, situation: Situation, transcript: Transcript, visits: list[Visit]
    ) -> Breach | NotShown | None:
        """How it went: None is well."""
        verdict: Breach | NotShown | None = None
        async with trio.open_nursery() as readers:
            stage = Stage(
                self.person, self._callers, self.doorway, self.url, self.patience, transcript, readers, visits
            )
            self.doorway.asked_for.clear()
            try:
                await self.person.enter()
                await situation.play(stage)
            except Broken as broken:
                verdict = broken.breach
            except NotShown as not_shown:
                verdict = not_shown
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                verdict = Breach((), "the client went away in the middle of the opening handshake")
            finally:
                with trio.CancelScope(shield=True):
                    await self._dismiss(visits)
                readers.cancel_scope.cancel()
        return verdict

    async def _dismiss(self, visits: Sequence[Visit]) -> None:
        """End what is still open; a client that stays for the next situation is asked to come back."""
        for visit in visits:
            if visit.ended is None and not visit.caller.gone.is_set():
                await visit.hear_pongs()
                if self.person.stays:
                    await visit.goaway(0)
                    await visit.close(4000)
            visit.drop()
        await self.person.go()
        if not self.person.stays:
            with suppress(trio.WouldBlock):
                while True:
                    self._callers.receive_nowait().hang_up()

    def _judge(
        self,
        situation: Situation,
        verdict: Breach | NotShown | None,
        visits: Sequence[Visit],
        transcript: Transcript,
        seconds: float,
    ) -> Trial:
        breaches = [breach for visit in visits for breach in visit.watch.breaches]
        for visit in visits:
            self._seen |= visit.watch.seen
        for breach in breaches:
            for requirement in breach.requirements:
                self._breaches[requirement].append((situation.name, breach.detail, transcript))
        lines = tuple(transcript.lines)
        if isinstance(verdict, Breach):
            return Trial(situation.name, verdict.requirements, Outcome.FAILED, seconds, verdict.detail, lines)
        if isinstance(verdict, NotShown):
            return Trial(situation.name, situation.requirements, Outcome.SKIPPED, seconds, str(verdict))
        own = [breach for breach in breaches if set(breach.requirements) & set(situation.requirements)]
        if own:
            broken = tuple({rule: None for breach in own for rule in breach.requirements})
            detail = "; ".join(dict.fromkeys(breach.detail for breach in own))
            return Trial(situation.name, broken, Outcome.FAILED, seconds, detail, lines)
        return Trial(situation.name, situation.requirements, Outcome.PASSED, seconds)


# ---------------------------------------------------------------- persons


_ASKED = {
    "join": "have the client look for a partner (Start)",
    "leave": "leave the partner, or the wait, and stay connected",
    "next": "go on to the next partner (Next)",
    "chat": "write to the partner (or try to): ",
    "renegotiate": "make the client offer again: another camera, an ICE restart",
    "quit": "leave for good: close the client, or press Stop",
}


@attrs.define
class ByHand:
    """Somebody at this terminal; the client stays open from situation to situation."""

    url: str
    can: frozenset[Deed]
    tell: Tell
    stays: bool = True

    async def enter(self) -> None:
        self.tell(f"  please: have the client look for a partner at {self.url}, unless it does so by itself")

    async def do(self, deed: Deed, text: str = "") -> None:
        self.tell(f"  please: {_ASKED[deed]}{text}")

    async def go(self) -> None:
        pass


@attrs.define
class ByCommand:
    """A command that is started anew for every situation, and told on its standard input what its person does."""

    command: str
    url: str
    can: frozenset[Deed]
    tell: Tell
    stays: bool = False
    _process: trio.Process | None = None

    async def enter(self) -> None:
        words = [word.replace("{url}", self.url) for word in shlex.split(self.command)]
        environment = {**os.environ, "CURHAT_URL": self.url}
        self._process = await trio.lowlevel.open_process(
            words, stdin=PIPE, stdout=DEVNULL, env=environment, start_new_session=True
        )
        await self.do("join")

    async def do(self, deed: Deed, text: str = "") -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(trio.BrokenResourceError):  # it may have ended, or closed what it does not read
            await self._process.stdin.send_all(f"{deed} {text}".rstrip().encode() + b"\n")

    async def go(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is not None and process.returncode:
            self.tell(f"    the client ended by itself, with status {process.returncode}")
        _signal_group(process, signal.SIGTERM)
        with trio.move_on_after(_END_SECONDS):
            await process.wait()
        _signal_group(process, signal.SIGKILL)
        await process.wait()
        if process.stdin is not None:
            await process.stdin.aclose()


def _signal_group(process: trio.Process, number: signal.Signals) -> None:
    """Signal the command and what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


# ---------------------------------------------------------------- the command line


def main(arguments: Sequence[str]) -> int:
    """Put a client under test.

    Args:
        arguments: Of the command line, after `conform --listen`.

    Returns:
        0 if no MUST was seen broken and something was shown, 1 if not, 2 if it could not listen or write.
    """
    options = _parser().parse_args(arguments)
    chosen = [each for each in SITUATIONS if _is_chosen(each, options.only)]
    if not chosen:
        return _complain(f"--only {options.only}: no situation has this word or rule; see --list")
    if options.list:
        for each in chosen:
            print(f"{' '.join(each.requirements):12} {each.name}")
        return 0
    if options.client_command and (missing := _missing_program(options.client_command)) is not None:
        return _complain(f"--client-command: {missing!r} is no program that can be run here")
    try:
        listeners = _listen(options.host, options.port)
    except OSError as error:
        return _complain(f"can't listen on {options.host} port {options.port}: {error.strerror}")
    url = _url(listeners[0])
    server = ScriptedServer(_person(options, url), url, _patience(options), _tell, options.page)
    _tell(f"a scripted server for one client at {url.replace('http', 'ws', 1)}/ws; {len(chosen)} situations")
    trio.run(_run, server, listeners, chosen)
    return _report(server, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="curhat-trio conform --listen",
        description="A scripted server that puts a client through every situation of spec/protocol.md.",
        epilog="With --client-command every situation starts the command anew. On its standard input come lines: "
        "join (always the first), leave, next, chat TEXT, renegotiate, quit. Without it you are told here what "
        "to press; Enter passes over the present situation, Ctrl-C ends with a report of what there is.",
        allow_abbrev=False,
    )
    parser.add_argument("port", metavar="PORT", type=_port, help="TCP port to listen on; 0 takes any free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--client-command",
        metavar="CMD",
        help="the client; {url} and $CURHAT_URL are ws://HOST:PORT/ws",
    )
    parser.add_argument(
        "--can",
        metavar="DEED,...",
        type=_deeds,
        default=frozenset(DEEDS),
        help=f"what the client can be told after its first join (default all: {','.join(DEEDS)})",
    )
    parser.add_argument("--only", metavar="WORD", default="", help="situations with this word or rule only")
    parser.add_argument("--list", action="store_true", help="list the situations and end")
    parser.add_argument(
        "--patience", metavar="SECONDS", type=_seconds, default=5.0, help="for a program (default 5)"
    )
    parser.add_argument(
        "--person-patience",
        metavar="SECONDS",
        type=_seconds,
        help="for what a person was asked to do (default 120, with --client-command as --patience)",
    )
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        type=_seconds,
        default=2.5,
        help="how long to watch that something does not happen (default 2.5)",
    )
    parser.add_argument(
        "--comeback",
        metavar="SECONDS",
        type=_seconds,
        default=20.0,
        help="how long a client may take until it has come back by itself (default 20)",
    )
    parser.add_argument("--serve-page", dest="page", metavar="FOLDER", type=Path, help="serve this folder at /")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report as JSON too")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write the report as JUnit XML too")
    return parser


def _missing_program(command: str) -> str | None:
    """The command's program, if there is no such one."""
    program = next(iter(shlex.split(command)), "")
    return None if shutil.which(program) else program


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a TCP port, 0 to 65535")
    return int(text)


def _deeds(text: str) -> frozenset[Deed]:
    words = [word for word in text.split(",") if word]
    for word in words:
        if word not in DEEDS:
            raise argparse.ArgumentTypeError(f"{word!r}; expected some of {','.join(DEEDS)}, or nothing")
    return frozenset(deed for deed in DEEDS if deed in words)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}; expected seconds, more than 0 and at most a day")
    return value


def _is_chosen(situation: Situation, word: str) -> bool:
    return word.lower() in situation.name.lower() or word.upper() in situation.requirements


def _patience(options: argparse.Namespace) -> Patience:
    deed = options.person_patience or (options.patience if options.client_command else 120.0)
    return Patience(answer=options.patience, deed=deed, watch=options.watch, comeback=options.comeback)


def _person(options: argparse.Namespace, url: str) -> Person:
    socket_url = f"{url.replace('http', 'ws', 1)}/ws"
    if options.client_command:
        return ByCommand(options.client_command, socket_url, options.can, _tell)
    return ByHand(socket_url, options.can, _tell)


def _listen(host: str, port: int) -> list[trio.SocketListener]:
    async def listen() -> list[trio.SocketListener]:
        return list(await trio.open_tcp_listeners(port, host=host))

    return trio.run(listen)


async def _run(server: ScriptedServer, listeners: list[trio.SocketListener], chosen: Sequence[Situation]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_on_interrupt, nursery.cancel_scope)
        nursery.start_soon(trio.serve_listeners, server.doorway.serve, listeners)
        if server.person.stays and sys.stdin.isatty():
            nursery.start_soon(_pass_over_on_enter, server)
        await server.play(chosen)
        nursery.cancel_scope.cancel()


async def _end_on_interrupt(everything: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async for _number in signals:
            everything.cancel()


async def _pass_over_on_enter(server: ScriptedServer) -> None:
    while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        if server.passing_over is not None:
            server.passing_over.cancel()


def _report(server: ScriptedServer, options: argparse.Namespace) -> int:
    subject = options.client_command or "the client"
    shown = any(trial.outcome is Outcome.PASSED for trial in server.trials)
    report = Report(subject, Party.CLIENT, requirements(), (*server.trials, *server.always()))
    print(report.text(), end="")
    for file, write in ((options.json, report.json), (options.junit, report.junit)):
        if file is not None:
            try:
                file.write_bytes(write())
            except OSError as error:
                return _complain(f"can't write {file}: {error.strerror}")
    return report.exit_status if shown else 1


def _url(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _complain(line: str) -> int:
    _tell(f"curhat-trio conform --listen: {line}")
    return 2
