"""`curhat-trio conform URL` as a program: a server in another process, a report, an exit status."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import attrs
import pytest

from curhat_trio.cli import main
from curhat_trio.conformance.report import Outcome, Trial
from curhat_trio.conformance.server import command
from curhat_trio.conformance.server.random_conversations import Exploration
from curhat_trio.conformance.server.vectors import Step, Vector, read_library

SERVER = [sys.executable, "-m", "curhat_trio", "--port", "0", "--log-format", "json"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server with the settings of the README, on a port of its own."""
    with subprocess.Popen(SERVER, stderr=subprocess.PIPE, text=True, env={"PATH": "/usr/bin:/bin"}) as process:
        assert process.stderr is not None
        listening = next(line for line in map(json.loads, process.stderr) if line["event"] == "listening")
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        yield listening["url"].replace("http:", "ws:") + "ws"
        process.send_signal(signal.SIGTERM)
        rest.join()
        assert process.wait() == 0


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port that answers one connection with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_the_real_server_passes(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, junit = tmp_path / "report.json", tmp_path / "report.xml"
    files = ["--json", str(report), "--junit", str(junit)]
    assert main(["conform", url, "--examples", "5", "--seed", "1", *files]) == 0
    printed = capsys.readouterr()
    assert "  ok        P-3.12  MUST " in printed.out
    assert "BROKEN" not in printed.out
    assert "passed  leave ends a wait\n" in printed.err
    value = json.loads(report.read_text())
    skipped = {each["detail"].split()[0] for each in value["trials"] if each["outcome"] == "skipped"}
    assert skipped == {"for", "it", "the", "waits"}
    assert "the server would have to be configured: play it with --setup 'maxConnections=1'\n" in printed.out
    assert "seconds; --slow plays it\n" in printed.out
    last = value["trials"][-1]
    assert (last["name"], last["outcome"]) == ("5 random conversations (seed 1)", "passed")
    suite = ElementTree.fromstring(junit.read_bytes())
    assert suite.get("failures") == "0"


def test_only_the_chosen_vectors_are_played(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", url, "--only", "ends a wait"]) == 0
    assert capsys.readouterr().out.endswith("\n1 vector: 1 passed, 0 failed, 0 skipped\n")
    assert main(["conform", url, "--only", "P-2.5"]) == 0
    assert main(["conform", url, "--only", "there is none of this"]) == 2
    assert "no vector has this in its name or rules; see --list" in capsys.readouterr().err


def test_the_vectors_can_be_listed_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "--list", "--only", "P-13"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith(" heard counts what was read over all connections, but for resume") for line in lines)
    assert all("P-13." in line for line in lines)
    assert not any("P-1." in line.split() for line in lines)


def test_a_test_without_a_url_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["conform", "--only", "P-2.5"])
    assert "expected URL" in capsys.readouterr().err


@contextmanager
def own_server(*options: str) -> Iterator[tuple[str, int]]:
    """A server of one test: its URL and process id."""
    with subprocess.Popen(
        [*SERVER, *options], stderr=subprocess.PIPE, text=True, env={"PATH": "/usr/bin:/bin"}
    ) as process:
        assert process.stderr is not None
        listening = next(line for line in map(json.loads, process.stderr) if line["event"] == "listening")
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        yield listening["url"].replace("http:", "ws:") + "ws", process.pid
        process.terminate()
        rest.join()


def test_vectors_for_other_settings_are_played_with_setup(capsys: pytest.CaptureFixture[str]) -> None:
    with own_server("--allowed-origins", "https://chat.example") as (url, _):
        assert main(["conform", url, "--only", "P-2.16"]) == 1
        assert "--setup 'allowedOrigins=[\"https://chat.example\"]'" in capsys.readouterr().out
        assert main(["conform", url, "--setup", 'allowedOrigins=["https://chat.example"]']) == 0
        assert capsys.readouterr().out.endswith(" vectors: 2 passed, 0 failed, 0 skipped\n")
    assert main(["conform", "--list", "--setup", "maxConnections=77"]) == 2
    assert "no vector needs exactly this" in capsys.readouterr().err


def test_a_vector_that_stops_the_server_is_played_with_a_stop_command(capsys: pytest.CaptureFixture[str]) -> None:
    name = next(vector.name for vector in read_library().vectors if vector.stops_server)
    with own_server() as (url, pid):
        assert main(["conform", url, "--only", name]) == 1
        assert f"--only {name!r} and --stop-command" in capsys.readouterr().out
        assert main(["conform", url, "--only", name, "--stop-command", f"kill -TERM {pid}"]) == 0
    assert main(["conform", "ws://127.0.0.1:1/ws", "--stop-command", "true"]) == 2
    assert "name one vector" in capsys.readouterr().err


def test_a_failure_is_reported_and_the_status_is_1(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The vector wants the impossible; the server is right."""
    file = tmp_path / "mine.json"
    steps: list[Any] = [
        {"who": "ani", "opens": {}},
        {"who": "ani", "hears": {"type": "welcome", "sessionId": 7}, "shows": ["P-2.6"]},
    ]
    file.write_text(
        json.dumps({"vectors": [{"name": "mine", "shows": [], "clients": {"ani": "v1"}, "steps": steps}]})
    )
    assert main(["conform", url, "--vectors", str(file)]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("FAILED mine (P-2.6): step 2, ")
    assert "$.sessionId: expected 7, not '" in printed
    assert '    ani < {"type":"welcome"' in printed
    assert "  BROKEN    P-2.6 " in printed


def test_a_random_conversation_that_fails_is_saved(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = Vector("short", ("P-2.6",), {"ani": "v1"}, (Step("opens", {}, "ani"),))
    trial = Trial("short", ("P-2.6",), Outcome.FAILED, detail="no welcome")

    def explore(*_: Any, **__: Any) -> Exploration:
        return Exploration(7, shortest=(vector, trial))

    monkeypatch.setattr("curhat_trio.conformance.server.random_conversations.explore", explore)
    file = tmp_path / "found.json"
    assert main(["conform", url, "--save", str(file), "--time", "a moment=0.01"]) == 1
    assert f"FAILED short (P-2.6): no welcome; repeat it with --vectors {file}" in capsys.readouterr().out
    assert read_library(file).vectors == (vector,)


def test_the_vectors_are_played_without_hypothesis_too(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _name: None)
    library = read_library()
    monkeypatch.setattr(command, "read_library", lambda *_: attrs.evolve(library, vectors=library.vectors[:1]))
    assert main(["conform", url]) == 0
    printed = capsys.readouterr()
    assert "pip install 'curhat-trio[conform]'" in printed.err
    assert "\n1 vector: 1 passed, 0 failed, 0 skipped\n" in printed.out
    assert printed.out.endswith("\n1 run of random conversations: 0 passed, 0 failed, 1 skipped\n")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:8080/", "expected the URL of a WebSocket, such as ws://127.0.0.1:8080/ws"),
        ("ws://", "expected the URL of a WebSocket"),
        ("ws://127.0.0.1:port/ws", "Port could not be cast"),
        ("ws://127.0.0.1:1/ws", "can't connect to 127.0.0.1 port 1: Connection refused; is the server running"),
    ],
)
def test_without_a_server_the_status_is_2(url: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", url]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "got HTTP/1.1 404 Not Found; expected HTTP/1.1 101",
        ),
        (b"SSH-2.0-OpenSSH_9\r\n", "got something that is not HTTP"),
        (b"", "got a closed connection"),
    ],
)
def test_a_server_that_opens_no_websocket_is_an_error(
    answer: bytes, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(answer) as port:
        assert main(["conform", f"ws://127.0.0.1:{port}/ws"]) == 2
    assert reason in capsys.readouterr().err


def test_a_server_without_tls_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert main(["conform", f"wss://127.0.0.1:{port}/ws"]) == 2
    assert "TLS failed" in capsys.readouterr().err


def test_unknown_times_and_files_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "ws://127.0.0.1:1/ws", "--time", "soon=3"]) == 2
    assert "unknown class of time 'soon'; expected one of at once" in capsys.readouterr().err
    assert main(["conform", "ws://127.0.0.1:1/ws", "--vectors", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
