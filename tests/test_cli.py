"""`python -m curhat_trio` as its operator sees it: a process, its log on stderr, signals and exit statuses."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from tests.peers import ANSWER, CANDIDATE, OFFER, HttpClient, HttpResponse, Peer, open_peer
from tests.trace_files import new_trace_file, was_killed

COMMAND = [sys.executable, "-m", "curhat_trio"]
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
PATIENCE = 20.0


class ServerProcess:
    """A running server and its log."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self.raw_log = b""
        self.port = 0
        self.clients: list[trio.SocketStream] = []
        self._news = trio.Event()

    async def read_log(self) -> None:
        """Follow the log to its end."""
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self.raw_log += data
            *lines, _rest = self.raw_log.split(b"\n")
            self.log = [json.loads(line) for line in lines]
            self._news.set()
            self._news = trio.Event()

    async def logged(self, event: str) -> dict[str, Any]:
        """The first line of this event."""
        while True:
            for line in self.log:
                if line["event"] == event:
                    return line
            await self._news.wait()

    async def get(self, target: str) -> HttpResponse:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            return await HttpClient(stream).get(target)

    async def connect(self, **options: Any) -> Peer:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.clients.append(stream)
        return await open_peer(stream, **options)


@asynccontextmanager
async def server_process(*flags: str) -> AsyncIterator[ServerProcess]:
    """A server on a free port; killed at the end if it still runs."""
    trace = new_trace_file()
    tracing = () if trace is None else ("--trace", str(trace))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(
                [*COMMAND, "--port", "0", *tracing, *flags], stderr=subprocess.PIPE, env=ENVIRONMENT
            )
            server = ServerProcess(process)
            nursery.start_soon(server.read_log)
            try:
                url = (await server.logged("listening"))["url"]
                server.port = urlsplit(url).port or 0
                yield server
            finally:
                for client in server.clients:
                    await trio.aclose_forcefully(client)
                process.kill()
                with trio.CancelScope(shield=True):
                    if await process.wait() == -signal.SIGKILL:
                        was_killed(trace)


def run(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that is expected to end by itself."""
    return subprocess.run(
        [*COMMAND, *flags],
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT | environment,
    )


def the_one_line_of(failed: subprocess.CompletedProcess[str]) -> str:
    assert failed.returncode == 2, failed
    assert failed.stdout == ""
    (line,) = failed.stderr.splitlines()
    return line


# ---------------------------------------------------------------- what goes well


async def test_it_logs_its_address_and_serves_there() -> None:
    async with server_process() as server:
        line = await server.logged("listening")
        assert line["url"] == f"http://127.0.0.1:{server.port}/"
        assert line["level"] == "info"
        assert (await server.get("/health")).json()["success"] is True


async def test_sigterm_closes_clients_gracefully_and_exits_0() -> None:
    async with server_process() as server:
        peer = await server.connect()
        await peer.receive("welcome")
        server.process.send_signal(signal.SIGTERM)
        await peer.receive("goaway")
        assert (await peer.receive_close()).code == 4000
        assert await server.process.wait() == 0
        await server.logged("stopped")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_signal_ends_the_shutdown_at_once_with_0(number: signal.Signals) -> None:
    flags = ["--drain-seconds", "1000", "--close-seconds", "1000"]
    async with server_process(*flags) as server:
        peer = await server.connect()
        peer.answers_close = False
        await peer.receive("welcome")
        server.process.send_signal(signal.SIGINT)
        assert (await peer.receive_close()).code == 4000
        assert server.process.poll() is None, "it waits for the client's answer"
        server.process.send_signal(number)
        assert await server.process.wait() == 0
        assert b"Traceback" not in server.raw_log


async def test_without_clients_a_signal_ends_the_server_at_once() -> None:
    async with server_process() as server:
        server.process.send_signal(signal.SIGINT)
        assert await server.process.wait() == 0


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_exit_0(flag: str) -> None:
    process = run(flag)
    assert process.returncode == 0
    assert "curhat-trio" in process.stdout
    assert process.stderr == ""


# ---------------------------------------------------------------- what can't start


def test_an_occupied_port_is_reported_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = the_one_line_of(run("--port", port))
    assert port in line
    assert "--port" in line


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "two..dots", "x" * 70])
def test_a_host_that_is_not_this_machine_is_reported_in_one_line(host: str) -> None:
    assert host in the_one_line_of(run("--host", host, "--port", "0"))


def test_an_absent_unreadable_or_invalid_config_is_reported_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[curhat_trio\nport = ")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.toml", tmp_path, broken, binary):
        assert str(path) in the_one_line_of(run("--config", str(path)))
        assert str(path) in the_one_line_of(run(CURHAT_CONFIG=str(path)))


@pytest.mark.parametrize("flags", [["--port", "99999"], ["--prot", "1"], ["--port=--"], ["--host", ""], ["stray"]])
def test_invalid_flags_are_reported_in_one_line(flags: list[str]) -> None:
    the_one_line_of(run(*flags))


# ---------------------------------------------------------------- traces


async def test_a_trace_records_all_clients_and_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "trace.ndjson"
    async with server_process("--trace", str(file)) as server:
        peer = await server.connect()
        await peer.receive("welcome")
        await peer.send("join")
        await peer.receive("ready")
        server.process.send_signal(signal.SIGTERM)
        await peer.receive_close()
        assert await server.process.wait() == 0
    assert run("check-trace", str(file)).returncode == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["what"] for line in lines if line["what"] in ("attached", "detached", "draining", "end")] == [
        *("attached", "draining", "detached", "end")
    ]


async def test_a_trace_is_complete_after_an_immediate_end(tmp_path: Path) -> None:
    file = tmp_path / "trace.ndjson"
    flags = ["--trace", str(file), "--drain-seconds", "1000", "--close-seconds", "1000"]
    async with server_process(*flags) as server:
        peer = await server.connect()
        peer.answers_close = False
        await peer.receive("welcome")
        server.process.send_signal(signal.SIGINT)
        await peer.receive_close()
        server.process.send_signal(signal.SIGINT)
        assert await server.process.wait() == 0
    assert run("check-trace", str(file)).returncode == 0


async def test_the_trace_of_a_killed_server_is_truncated(tmp_path: Path) -> None:
    file = tmp_path / "trace.ndjson"
    async with server_process("--trace", str(file)) as server:
        await (await server.connect()).receive("welcome")
        server.process.kill()
        await server.process.wait()
    assert run("check-trace", str(file)).returncode == 1
    assert run("check-trace", "--cut-short", str(file)).returncode == 0


def test_an_unwritable_trace_is_reported_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "trace.ndjson"):
        line = the_one_line_of(run("--port", "0", "--trace", str(path)))
        assert str(path) in line
        assert "--trace" in line


async def test_a_full_disk_ends_the_trace_but_not_the_server() -> None:
    async with server_process("--trace", "/dev/full") as server:
        peer = await server.connect()
        await peer.receive("welcome")
        server.process.send_signal(signal.SIGTERM)
        await peer.receive("goaway")
        assert (await peer.receive_close()).code == 4000
        assert await server.process.wait() == 0
        assert (await server.logged("trace_given_up"))["why"] == "No space left on device"
        assert b"Traceback" not in server.raw_log


# ---------------------------------------------------------------- what is never written down


async def test_at_debug_no_content_of_a_conversation_is_logged() -> None:
    sdp, line, text, name, origin = "mark-sdp", "mark-candidate", "mark-chat", "mark-name", "mark-origin.example"
    async with server_process("--log-level", "debug") as server:
        peers = []
        for number in (1, 2):
            peer = await server.connect(username=f"{name}{number}", origin=f"https://{origin}")
            await peer.receive("welcome")
            await peer.send("join", username=f"{name}-{number}", room="mark-room", topics=["mark-topic"])
            await peer.receive("ready")
            peers.append(peer)
        offerer, answerer = peers
        await offerer.receive("join")
        await offerer.send("offer", payload=OFFER | {"sdp": sdp})
        await offerer.send("candidate", payload=CANDIDATE | {"candidate": line})
        await offerer.send("chat", text=text)
        while (await answerer.receive())["type"] != "chat":
            pass
        await answerer.send("answer", payload=ANSWER | {"sdp": sdp})
        await answerer.send("leave", reason="mark-reason")
        while (await offerer.receive())["type"] != "leave":
            pass
        await offerer.send_bytes(b"\x81\x8b" + bytes(4) + b"mark-broken")
        await offerer.receive("error")
        await offerer.send_bytes(b"mark-garbage")
        await offerer.receive_close()
        assert (await server.get("/mark-path?mark-query")).status == 404
        await answerer.close()
        server.process.send_signal(signal.SIGTERM)
        assert await server.process.wait() == 0
        await server.logged("stopped")
        assert len([entry for entry in server.log if entry["event"] == "transition"]) > 5, "it did log"
        log = b"\n".join(entry for entry in server.raw_log.splitlines() if b'"listening"' not in entry)
        assert b"mark" not in log
        assert b"127.0.0.1" not in log
        assert b"Traceback" not in log
