"""`curhat-trio conform --listen` as a program: a port, a client started by a command, files, an exit status."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest

from curhat_trio.conformance.client.command import main

Try = Callable[..., int]


@pytest.fixture
def try_client() -> Try:
    """Run the scenarios with this in name or rules with a client of this kind, on a real port."""

    def try_(kind: str, only: str, *more: str) -> int:
        program = Path(__file__).with_name("bad_clients.py")
        command = f"{sys.executable} {program} {{url}} {kind}"
        return main(["0", "--client-command", command, "--only", only, "--quiet-time", "0.5", *more])

    return try_


def test_a_good_client_has_status_0_and_report_files(
    try_client: Try, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json, junit = tmp_path / "report.json", tmp_path / "report.xml"
    assert try_client("Client", "P-4.9", "--json", str(json), "--junit", str(junit)) == 0
    printed = capsys.readouterr()
    assert "  ok        P-4.9   MUST " in printed.out
    assert "[2/2] passed" in printed.err
    assert orjson.loads(json.read_bytes())["requirements"]["P-4.9"] == {"level": "MUST", "outcome": "passed"}
    assert ElementTree.fromstring(junit.read_bytes()).get("failures") == "0"


def test_a_bad_client_has_status_1_and_a_reason(try_client: Try, capsys: pytest.CaptureFixture[str]) -> None:
    assert try_client("YieldsThoughImpolite", "initial offers collide") == 1
    printed = capsys.readouterr()
    assert (
        "FAILED initial offers collide, and the client is impolite (P-5.9): expected no `answer`; one arrived"
        in printed.out
    )
    assert '> {"type":"answer"' in printed.out


def test_a_program_that_exits_by_itself_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--client-command", "false", "--only", "connects and joins", "--timeout", "1"]
    assert main(["0", *arguments]) == 2
    assert "expected the client to connect within 1 s; it exited with status 1" in capsys.readouterr().err


def test_a_client_that_crashes_at_once_ends_the_test_soon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    assert main(["0", "--client-command", "sh -c 'exit 3'", "--timeout", "3600", "--json", str(file)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "the client never connected, in 3 scenarios, so nothing was tested: " in printed.err
    assert printed.err.endswith("; it exited with status 3\n")
    assert len(orjson.loads(file.read_bytes())["trials"]) > 3


def test_a_client_that_never_connects_ends_the_test_soon(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "--client-command", "sleep 60", "--timeout", "0.1"]) == 2
    assert "the client never connected, in 3 scenarios" in capsys.readouterr().err


def test_a_crash_after_the_connection_is_lost_is_not_waited_for(
    try_client: Try, capsys: pytest.CaptureFixture[str]
) -> None:
    assert try_client("CrashesWhenTheConnectionIsLost", "lost in a pairing", "--reconnect-timeout", "3600") == 1
    assert "expected the client to connect within 3600 s; it exited with status 5\n" in capsys.readouterr().out


def test_actions_that_a_client_does_not_support_are_skipped(
    try_client: Try, capsys: pytest.CaptureFixture[str]
) -> None:
    assert try_client("Client", "the user quits", "--actions", "leave") == 1
    assert "the client does not support: quit; if it does, name it in --actions" in capsys.readouterr().err


def test_the_scenarios_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "p-5.10"]) == 0
    assert capsys.readouterr().out == "P-5.10           offers collide, and the client is polite\n"


def test_a_section_chooses_the_scenarios_of_all_its_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "P-1"]) == 2
    assert main(["--list", "--only", "P-13"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert all("P-13." in line for line in lines)


def test_a_filter_that_matches_no_scenario_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "--only", "telepathy"]) == 2
    assert "--only telepathy: no scenario has this in its name or rules" in capsys.readouterr().err


def test_a_port_that_is_taken_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(port)]) == 2
    assert f"can't listen on 127.0.0.1 port {port}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--actions", "dance"], ["--quiet-time", "0"], ["--quiet-time", "soon"], ["99999"]]
)
def test_invalid_arguments_are_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, *([] if arguments == ["99999"] else ["0"])])
    assert "expected" in capsys.readouterr().err


def test_a_command_that_does_not_exist_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "--client-command", "no-such-program {url}"]) == 2
    assert "--client-command: program 'no-such-program' not found" in capsys.readouterr().err


def test_a_test_without_a_port_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "P-5.9"])
    assert "expected PORT" in capsys.readouterr().err


def test_an_interrupt_ends_with_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "--client-command", "sh -c 'kill -INT $PPID'"]) == 1
    printed = capsys.readouterr()
    assert "0 passed, 0 failed" in printed.out
    assert "[1/" not in printed.err
