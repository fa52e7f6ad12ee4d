"""The command `curhat-trio load`: options, errors, exit statuses, the table, JSON, Ctrl-C."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from curhat_trio.cli import main
from curhat_trio.config import load_settings
from curhat_trio.load.command import INTERRUPTED
from curhat_trio.load.plan import LIFTED_LIMITS, Plan
from curhat_trio.load.progress import describe
from curhat_trio.load.run import Run
from curhat_trio.load.target import Target

PYTHON = [sys.executable, "-m", "curhat_trio"]
URL = "ws://127.0.0.1:9/ws"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server on a free port with the settings that the help recommends."""
    command, environment = (
        [*PYTHON, "--port", "0", "--log-format", "json"],
        {"PATH": "/usr/bin:/bin", **LIFTED_LIMITS},
    )
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        listening = next(line for line in map(json.loads, process.stderr) if line["event"] == "listening")
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        yield listening["url"].replace("http:", "ws:") + "ws"
        process.send_signal(signal.SIGTERM)
        rest.join()


def test_a_run_without_faults_writes_a_table_and_json(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "load.json"
    assert main(["load", url, "--pairs", "2", "--messages", "6", "--quiet", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert "2 pairs (v1), 6 messages of 300 bytes each" in printed.out
    assert printed.out.endswith("no faults\n")
    assert printed.err == ""
    summary = json.loads(file.read_text())
    assert summary["messages"]["received"] == 12
    assert set(summary["faults"].values()) == {0}


def test_json_can_replace_the_table(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", url, "--pairs", "1", "--quiet", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["pairs"] == 1


def test_a_server_without_websockets_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(3):  # the check that the server is there, and two clients
                connection, _ = listener.accept()
                with connection:
                    if connection.recv(65536):
                        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        assert main(["load", f"ws://127.0.0.1:{port}/ws", "--pairs", "1", "--quiet"]) == 2
        thread.join()
    assert "404 Not Found" in capsys.readouterr().err


def test_ctrl_c_ends_the_run_with_the_table_so_far(url: str) -> None:
    command = [*PYTHON, "load", url, "--pairs", "1", "--messages", "4", "--idle", "1", "--hold", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "holding idle connections" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate()
    assert "interrupted" in printed
    assert printed.endswith("no faults\n")
    assert process.returncode == INTERRUPTED


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "URL"),
        ([URL, "--pairs", "5001"], "5001 is out of range; expected 0 to 5,000"),
        ([URL, "--pairs", "some"], "invalid number value: 'some'"),
        ([URL, "--messages", "1"], "1 is out of range; expected 2 to 100,000"),
        ([URL, "--profile", "v2"], "invalid choice: 'v2'"),
        ([URL, "--message", "5"], "unrecognized arguments: --message 5"),
    ],
)
def test_an_invalid_option_is_reported_in_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["load", *arguments])
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert expected in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([URL, "--size", "1025", "--burst", "2"], "too large for a candidate"),
        ([URL, "--pairs", "0"], "nothing to do"),
        ([URL, "--hold", "3"], "--hold has no effect without --idle"),
        ([URL, "--server-pid", "4194304"], "there is no process 4194304"),
        ([URL, "--json", "/nowhere/load.json"], "No such file or directory"),
        (["http://127.0.0.1/ws"], "is not a WebSocket URL"),
        (["wss://127.0.0.1/ws"], "TLS is not supported"),
        (["ws://127.0.0.1:port/ws"], "is not a valid URL"),
        (["ws:///ws"], "is not a WebSocket URL"),
        (["ws://two..dots/ws"], "not a valid host name"),
        (["ws://192.0.2.1/ws"], "is not a loopback address"),
        (["ws://[2001:db8::1]:80/ws"], "is not a loopback address"),
        (["ws://0.0.0.0:8080/ws"], "is not a loopback address"),
    ],
)
def test_conflicting_options_and_other_machines_are_refused(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert expected in complaint
    assert complaint.count("\n") == 1


def test_a_host_name_with_an_address_of_another_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def resolve(*_arguments: object, **_named: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("127.0.0.1", "192.0.2.1")
        ]

    monkeypatch.setattr("trio.socket.getaddrinfo", resolve)
    assert main(["load", "ws://two.test/ws"]) == 2
    assert "two.test (192.0.2.1) is not a loopback address" in capsys.readouterr().err


def test_a_port_without_a_server_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert main(["load", f"ws://127.0.0.1:{port}/ws"]) == 2
    assert "can't connect" in capsys.readouterr().err


def test_without_the_websockets_package_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("curhat_trio.load.command.find_spec", lambda _name: None)
    assert main(["load", URL]) == 2
    assert "pip install 'curhat-trio[load]'" in capsys.readouterr().err


def test_the_settings_in_the_help_exist_and_are_valid(capsys: pytest.CaptureFixture[str]) -> None:
    load_settings([], LIFTED_LIMITS)  # an unknown variable would be ignored
    with pytest.raises(SystemExit):
        main(["--help"])
    server_help = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["load", "--help"])
    help_text = capsys.readouterr().out
    for name, value in LIFTED_LIMITS.items():
        assert name in server_help
        assert f"{name}={value}" in help_text


@pytest.mark.parametrize("burst", [1, 3, 8])
@pytest.mark.parametrize("messages", [2, 3, 15, 16])
def test_turns_cover_the_whole_conversation(burst: int, messages: int) -> None:
    plan = Plan(messages=messages, burst=burst)
    turns: list[int] = []
    position = 0
    while position < messages:
        end = plan.end_of_turn(position)
        assert {plan.is_initiators(each) for each in range(position, end)} == {len(turns) % 2 == 0}
        turns.append(end - position)
        position = end
    assert position == messages
    assert turns[:2] == [1, 1]
    assert set(turns[2:-1]) <= {burst}


def test_progress_line() -> None:
    run = Run(Plan(), Target(socket.AF_INET, ("127.0.0.1", 9), "127.0.0.1:9", "/ws"), "run")
    run.statistics.received = 12345
    assert describe(run, 3.2) == "connecting, 3 s: 0 connections, 0 pairs, 12,345 messages, 0 faults"
