"""`curhat-trio conform --listen` as its users have it: a port, a client started by a command, files, a status."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest

from curhat_trio.conformance.client.scripted_server import main

Try = Callable[..., int]


@pytest.fixture
def try_client() -> Try:
    """Put a client of this kind through the situations with this word, on a real port."""

    def try_(kind: str, only: str, *more: str) -> int:
        program = Path(__file__).with_name("clients.py")
        command = f"{sys.executable} {program} {{url}} {kind}"
        return main(["0", "--client-command", command, "--only", only, "--watch", "0.5", *more])

    return try_


def test_a_good_client_gets_status_0_and_files(
    try_client: Try, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json, junit = tmp_path / "report.json", tmp_path / "report.xml"
    assert try_client("Client", "P-4.9", "--json", str(json), "--junit", str(junit)) == 0
    told = capsys.readouterr()
    assert "  ok        P-4.9   MUST " in told.out
    assert "[2/2] passed" in told.err
    assert orjson.loads(json.read_bytes())["requirements"]["P-4.9"] == {"level": "MUST", "outcome": "passed"}
    assert ElementTree.fromstring(junit.read_bytes()).get("failures") == "0"


def test_a_bad_client_gets_status_1_and_the_reason(try_client: Try, capsys: pytest.CaptureFixture[str]) -> None:
    assert try_client("YieldsThoughImpolite", "two first offers cross") == 1
    told = capsys.readouterr()
    assert "FAILED two first offers cross, and it is impolite (P-5.9): expected no `answer`; one came" in told.out
    assert '> {"type":"answer"' in told.out


def test_a_program_that_ends_by_itself_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--client-command", "false", "--only", "connects and joins", "--patience", "1"]
    assert main(["0", *arguments]) == 1
    assert "the client ended by itself, with status 1" in capsys.readouterr().err


def test_what_a_client_cannot_be_told_is_passed_over(try_client: Try, capsys: pytest.CaptureFixture[str]) -> None:
    assert try_client("Client", "its person goes for good", "--can", "leave") == 1
    assert "the client can't be told: quit" in capsys.readouterr().err


def test_the_situations_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "--list", "--only", "p-5.10"]) == 0
    assert capsys.readouterr().out == "P-5.10       two offers cross, and it is polite\n"


def test_a_word_that_no_situation_has_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "--only", "telepathy"]) == 2
    assert "--only telepathy: no situation has this word" in capsys.readouterr().err


def test_a_port_that_is_taken_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(port)]) == 2
    assert f"can't listen on 127.0.0.1 port {port}: " in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--can", "dance"], ["--watch", "0"], ["--watch", "soon"], ["99999"]])
def test_arguments_that_make_no_sense_are_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, *([] if arguments == ["99999"] else ["0"])])
    assert "expected" in capsys.readouterr().err


def test_a_command_that_cannot_be_run_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "--client-command", "no-such-program {url}"]) == 2
    assert "--client-command: 'no-such-program' is no program" in capsys.readouterr().err


def test_an_interrupt_ends_with_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "--client-command", "sh -c 'kill -INT $PPID'"]) == 1
    told = capsys.readouterr()
    assert "0 passed, 0 failed" in told.out
    assert "[1/" not in told.err
