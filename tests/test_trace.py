"""Traces: what is in them, what is never in them, and that check-trace accepts the good ones and no other."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from curhat_trio.cli import main
from curhat_trio.protocol import endpoint, events
from curhat_trio.protocol.codec import decode
from curhat_trio.protocol.effects import Ticket
from curhat_trio.protocol.errors import CloseCode, ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import FROM_CLIENT, FROM_SERVER, OPTIONAL, RELAYED
from curhat_trio.protocol.session import TABLE
from curhat_trio.trace.checker import Refused, check_trace
from curhat_trio.trace.lines import Names, Terms, event_line
from curhat_trio.trace.writer import TraceWriter
from tests.peers import open_peer, running_server
from tests.trace_mutations import Line, altered, moved, mutations
from tests.trace_scenarios import MARK, SCENARIOS, fragile_step, trace_of, trace_text
from tests.vocabulary import CLIENT_MESSAGES, text

NAMES = list(SCENARIOS)
TERMS = Terms(widens=True, resumes=True, relay_only=False)
BEGIN = b'{"n": 1, "what": "begin", "format": 4, "widens": true, "resumes": true, "relay_only": false}\n'


def as_text(lines: list[Line]) -> bytes:
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def is_accepted(lines: list[Line]) -> bool:
    try:
        check_trace(as_text(lines))
    except Refused:
        return False
    return True


def refusal(text: bytes, **options: bool) -> Refused:
    with pytest.raises(Refused) as refused:
        check_trace(text, **options)
    return refused.value


# ---------------------------------------------------------------- good traces


@pytest.mark.parametrize("name", NAMES)
def test_the_trace_of_a_server_is_accepted(name: str) -> None:
    assert check_trace(trace_text(name).encode()) == len(trace_of(name))


def test_the_scenarios_cover_every_kind_of_line_event_and_message() -> None:
    lines = [line for name in NAMES for line in trace_of(name)]
    steps = [line for line in lines if line["what"] == "step"]
    assert {line["what"] for line in lines} == {
        *("begin", "attached", "received", "step", "queued", "missed", "bug", "detached"),
        *("served", "widened", "draining", "end"),
    }
    kinds = {kind.type if hasattr(kind, "type") else kind.__name__ for _, kind in TABLE}
    assert {step["event"]["type"] for step in steps} == kinds
    assert {message["type"] for step in steps for message in step.get("sends", [])} == {
        *FROM_SERVER,
        *RELAYED,
    }
    for field in (
        "away",
        "failing",
        "silent",
        "polite",
        "view",
        "described",
        "held",
        "hold",
        "signals",
        "answers_only",
        "last",
        "rate_limited",
    ):
        assert any(field in step["after"] for step in steps), field


# ---------------------------------------------------------------- mutated ones


def test_a_trace_with_any_mutation_of_any_line_is_refused() -> None:
    """All mutations of one trace; spec/model/mutated_traces.py has those of all traces, and asks TLC too."""
    mutated = list(mutations(trace_of("wishes")))
    assert len(mutated) > 5000
    assert [mutation.what for mutation in mutated if is_accepted(mutation.lines)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_trace_with_any_line_moved_is_refused(name: str) -> None:
    lines = trace_of(name)
    for number in range(len(lines)):
        assert [what for what, mutated in moved(lines, number) if is_accepted(mutated)] == []


@given(st.data())
def test_a_trace_with_some_line_altered_is_refused(data: st.DataObject) -> None:
    lines = trace_of(data.draw(st.sampled_from(NAMES)))
    number = data.draw(st.integers(0, len(lines) - 1))
    mutation = data.draw(st.sampled_from(list(altered(lines, number))))
    assert not is_accepted(mutation.lines), mutation.what


@pytest.mark.parametrize(
    ("text", "number", "expected"),
    [
        (b"", 1, "another line"),
        (b"\n", 1, "a JSON object"),
        (b"{}\n", 1, "a JSON object"),
        (b"\xff\n", 1, "a JSON object"),
        (b'{"n": 1}\n', 1, "`begin`"),
        (b'{"n": 1, "what": "begin", "format": 2, "inbox": 9, "widens": true}\n', 1, "format 4"),
        (b'{"n": 1, "what": "begin", "format": 4, "widens": true}\n', 1, "true or false"),
        (BEGIN.replace(b"true", b"1", 1), 1, "true or false"),
        (BEGIN.replace(b"1", b"true", 1), 1, "n 1"),
        (BEGIN, 2, "another line"),
    ],
)
def test_a_file_that_is_not_a_trace_is_refused(text: bytes, number: int, expected: str) -> None:
    refused = refusal(text)
    assert refused.number == number
    assert expected in refused.expected


def test_a_refusal_names_the_line_what_was_expected_and_what_was_found() -> None:
    lines = trace_of("a call")
    number = next(line["n"] for line in lines if line["what"] == "detached")
    lines[number - 1] = lines[number - 1] | {"sent": 99}
    text = str(refusal(as_text(lines)))
    assert text.startswith(f"line {number}: expected sent ")
    assert ", not 99; found {" in text


def test_a_trace_without_its_end_is_accepted_only_with_cut_short() -> None:
    text = trace_text("a call").encode()
    for length in range(0, len(text) - 1, 97):
        assert refusal(text[:length])
        assert check_trace(text[:length], cut_short=True) == text[:length].count(b"\n")
    assert refusal(text.replace(b'"profile":"v1"', b'"profile":"v2"'), cut_short=True).number == 2


@pytest.mark.parametrize("name", NAMES)
def test_nothing_may_follow_the_end(name: str) -> None:
    text = trace_text(name).encode()
    assert refusal(text + b"more").expected == "nothing after the line `end`"
    assert refusal(text + text).expected == "nothing after the line `end`"


def numbered(lines: list[Line]) -> list[Line]:
    return [{**line, "n": number} for number, line in enumerate(lines, 1)]


def test_a_session_that_has_sent_a_message_has_a_slot() -> None:
    """So it can't be closed for the lack of one, nor with a code for which there is no reason."""
    lines = trace_of("a full house")
    closed = next(line for line in lines if line.get("closes", 0) is None and line["session"] == "s1")
    number = closed["n"]
    for code in (4507, 4000, 4004, 4505, 4502):
        forced = {**closed, "event": {"type": "ClosingForced", "code": code}, "closes": code}
        mutated = [*lines[: number - 1], forced, {**lines[number], "code": code}, *lines[number + 1 :]]
        assert refusal(as_text(mutated)).number == number


def test_a_client_that_is_away_sends_nothing() -> None:
    lines = trace_of("lost connections")
    received, step = next(
        (line, lines[line["n"]])
        for line in lines
        if line["what"] == "received" and line["event"]["type"] == "status"
    )
    lost = next(
        line["n"]
        for line in lines[step["n"] :]
        if line["what"] == "step" and line["session"] == received["session"] and line["after"].get("away")
    )
    connected, away = ({**step, "before": end, "after": end} for end in (step["after"], lines[lost - 1]["after"]))
    assert is_accepted(numbered([*lines[: lost - 1], received, connected, *lines[lost - 1 :]]))
    followed = next(line["n"] for line in lines[lost:] if line["what"] == "step")
    mutated = numbered([*lines[:followed], received, away, *lines[followed:]])
    refused = refusal(as_text(mutated))
    assert refused.number == followed + 1
    assert refused.expected == "a message of a client that is connected"


def test_a_session_is_closed_only_after_its_client_has_missed_a_message() -> None:
    """It is closed at once, before the consequences of the last message."""
    lines = trace_of("too much")
    closed = next(
        line
        for line in lines
        if line["what"] == "step" and line["before"].get("away") and line["after"]["state"] == "closed"
    )
    missing, before = closed["n"] - 1, closed["n"] - 2
    assert lines[before]["sends"], "one message too many"
    nothing_missed = next(line["n"] for line in lines if line.get("after", {}).get("away"))
    given_up = [{**closed, "before": lines[nothing_missed - 1]["after"]}]
    assert is_accepted(lines)
    mutated = numbered([*lines[:nothing_missed], *given_up, *lines[nothing_missed:]])
    assert refusal(as_text(mutated)).number == nothing_missed + 1
    assert missing > nothing_missed


@pytest.mark.parametrize(
    "broken",
    [
        events.ConnectionOpened,
        events.ConnectionLost,
        events.SessionResumed,
        events.SessionSuperseded,
        events.PeerPresence,
    ],
)
async def test_a_trace_is_accepted_whichever_step_a_bug_interrupts(
    broken: type, tmp_path: Path, autojump_clock: MockClock
) -> None:
    file = tmp_path / "trace.ndjson"
    async with running_server(trace_file=file) as server:
        server.allows_warnings = True
        ann = await open_peer(await server.dial())
        token = (await ann.receive("welcome"))["resumeToken"]
        bob = await server.connect()
        await ann.send("join")
        await ann.receive("ready")
        await bob.send("join")
        await ann.receive("join")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(endpoint, "step", fragile_step(lambda event: isinstance(event, broken)))
            await ann.disconnect()
            again = await open_peer(await server.dial())
            with suppress(trio.BrokenResourceError):  # it may be closed already
                await again.send("resume", token=token, lastSeq=2)
            await trio.testing.wait_all_tasks_blocked()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    (bug,) = (line for line in lines if line["what"] == "bug")
    assert bug["event"]["type"] == broken.__name__
    assert check_trace(file.read_bytes()) == len(lines)


def test_after_a_bug_the_rest_is_not_done() -> None:
    """A bug without an event may come between a step and what is forwarded; not in place of a step."""
    lines = trace_of("a call")
    forwards = next(
        line["n"] for line in lines if "forwards" in line and line["forwards"][0]["event"]["type"] == "PeerSent"
    )
    bug = {"what": "bug", "session": lines[forwards - 1]["session"]}
    refused = refusal(as_text(numbered([*lines[:forwards], bug])))
    assert refused.number == forwards + 2, "the end of the file, where the session is to be closed"
    refused = refusal(as_text(numbered([*lines[: forwards - 1], bug])))
    assert refused.number == forwards


# ---------------------------------------------------------------- the drain and the end


def place_of(lines: list[Line], what: str) -> int:
    """The index of the first line of a kind."""
    return next(place for place, line in enumerate(lines) if line["what"] == what)


def test_a_trace_ends_only_after_every_session_has_ended() -> None:
    lines = trace_of("wishes")
    connected = place_of(lines, "received")
    refused = refusal(as_text(numbered([*lines[:connected], lines[-1]])))
    assert (refused.number, refused.expected) == (connected + 1, "s1, s2, s3 detached before the end")


@pytest.mark.parametrize("name", NAMES)
def test_the_last_line_repeats_the_first_and_says_whether_the_server_drained(name: str) -> None:
    *lines, end = trace_of(name)
    assert end["drained"] == any(line["what"] == "draining" for line in lines)
    for field in ("widens", "resumes", "relay_only", "drained"):
        refused = refusal(as_text([*lines, {**end, field: not end[field]}]))
        assert refused.number == len(lines) + 1
        assert refused.expected.startswith(f"{field} ")


def test_a_server_drains_once() -> None:
    *lines, end = trace_of("a drain")
    assert is_accepted(numbered([*lines, end]))
    refused = refusal(as_text(numbered([*lines, {"what": "draining"}, end])))
    assert (refused.number, refused.expected) == (len(lines) + 1, "no second drain")


def test_a_drain_closes_every_session_in_the_order_in_which_they_began() -> None:
    lines = trace_of("a drain")
    first = place_of(lines, "draining") + 1
    closings = [line for line in lines[first:] if line["what"] == "queued"][:4]
    assert [line["to"] for line in closings] == ["s1", "s2", "s3", "s4"]
    assert all(line["event"] == {"type": "ClosingForced", "code": 4000} for line in closings)
    assert lines[first : first + 4] == closings
    for order in ([1, 0, 2, 3], [0, 1, 3, 2], [0, 1, 2]):
        mutated = [*lines[:first], *(closings[place] for place in order), *lines[first + 4 :]]
        assert not is_accepted(numbered(mutated)), order


# ---------------------------------------------------------------- what is never in them

_SHORT_NAME = re.compile(r"s\d+(/\d+)?|[utn]\d+")
_KNOWN_STRINGS = {
    *re.findall(
        r"\w+",
        """
        begin attached received step queued missed bug detached served widened draining end
        client queue server v1 legacy offerer answerer other local remote first long
        connected waiting paired negotiating closed failed media_connected media_failed
        welcome ready pong error goaway peer away back resumed Enter Withdraw Suspend Reinstate
        host srflx prflx relay gathering checking dtls candidate_withheld
        media_connected_host media_connected_srflx media_connected_prflx media_connected_relay
        media_failed_gathering media_failed_checking media_failed_dtls media_failed_lost lost
        """,
    ),
    *(kind.type if hasattr(kind, "type") else kind.__name__ for _, kind in TABLE),
    *FROM_CLIENT,
    *OPTIONAL,
    *map(str, ErrorCode),
    *map(str, LeaveReason),
}
"""All strings in a trace but short names."""


def strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            yield from (string for inner in value.values() for string in strings(inner))
        case list():
            yield from (string for inner in value for string in strings(inner))


def has_known_strings_only(line: Any) -> bool:
    return all(string in _KNOWN_STRINGS or _SHORT_NAME.fullmatch(string) for string in strings(line))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_private_is_in_a_trace(name: str) -> None:
    assert MARK not in trace_text(name)
    assert "192.0.2.1" not in trace_text(name)
    assert [line for line in trace_of(name) if not has_known_strings_only(line)] == []


ROOM = RoomId("a secret room")
RELAYED_MESSAGE = st.one_of(*(CLIENT_MESSAGES[kind] for kind in RELAYED.values()))


def fault_of(name: str) -> Fault:
    fault = decode(json.dumps({"type": name}), "v1")
    assert isinstance(fault, Fault)
    return fault


MESSAGE = st.one_of(*CLIENT_MESSAGES.values())
UNREADABLE = text(1, 40).map(lambda name: events.InvalidMessage(fault_of(f"unknown {name}")))


@given(
    MESSAGE.map(lambda message: events.MessageReceived(message, 0.0))
    | RELAYED_MESSAGE.map(lambda message: events.PeerSent(ROOM, message))
    | UNREADABLE
)
def test_the_line_of_any_event_has_known_strings_only(event: events.Event) -> None:
    names = Names()
    names.begin_wait(Ticket(ROOM, ClientId("a secret id"), "a name", "v1", None, frozenset(), None))
    assert has_known_strings_only(event_line(event, names))


# ---------------------------------------------------------------- writing them


def begin(tmp_path: Path) -> TraceWriter:
    return TraceWriter.open(str(tmp_path / "trace.ndjson"), TERMS)


def test_a_missed_event_is_written_without_the_event(tmp_path: Path) -> None:
    with begin(tmp_path) as trace:
        trace.queued(ClientId("x"), events.ConnectionClosed())
        trace.missed(ClientId("x"))
    _, queued, missed, _ = (tmp_path / "trace.ndjson").read_text().splitlines()
    assert json.loads(queued) == {"n": 2, "what": "queued", "to": "s1", "event": {"type": "ConnectionClosed"}}
    assert json.loads(missed) == {"n": 3, "what": "missed", "to": "s1"}


def test_a_full_disk_ends_the_trace_and_nothing_else() -> None:
    with TraceWriter.open("/dev/full", TERMS) as trace:
        trace.drained()
        trace.missed(ClientId("x"))
        trace.draining()


def test_a_full_disk_in_the_middle_of_a_line_ends_the_trace_and_nothing_else() -> None:
    with TraceWriter.open("/dev/full", TERMS) as trace:
        for _ in range(10_000):
            trace.missed(ClientId("x"))


def test_a_drain_is_flushed_to_the_file(tmp_path: Path) -> None:
    with begin(tmp_path) as trace:
        trace.draining()
        trace.drained()
        assert len((tmp_path / "trace.ndjson").read_text().splitlines()) == 2


# ---------------------------------------------------------------- the command


def test_the_command_accepts_files_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(NAMES):
        (tmp_path / f"{number}.ndjson").write_text(trace_text(name))
    assert main(["check-trace", str(tmp_path), str(tmp_path / "0.ndjson")]) == 0
    assert f"{len(NAMES) + 1} of {len(NAMES) + 1} traces accepted" in capsys.readouterr().out


def test_the_command_names_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.ndjson", tmp_path / "bad.ndjson"
    good.write_text(trace_text("a call"))
    bad.write_bytes(as_text(trace_of("a call")[:-1]))
    assert main(["check-trace", str(bad), str(good)]) == 1
    refused, summary = capsys.readouterr().out.splitlines()
    assert refused.startswith(f"{bad}: line {len(trace_of('a call'))}: expected another line")
    assert summary.startswith("1 of 2 traces accepted")
    assert main(["check-trace", "--cut-short", str(bad), str(good)]) == 0


def test_the_command_explains_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "absent", tmp_path):
        assert main(["check-trace", str(path)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert len(printed.err.splitlines()) == 1


def test_the_codes_in_a_trace_are_close_codes() -> None:
    codes = {line["code"] for name in NAMES for line in trace_of(name) if line["what"] == "detached"}
    assert codes <= {None, *map(int, CloseCode)}
    assert {None, 4000, 4001, 4004, 4505, 4507, 4502, 1003} <= codes
