"""`python -m curhat_trio` in a process of its own, known by its port and its log alone."""

import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.trace_files import new_trace_file, was_killed

START_SECONDS = 10
STOP_SECONDS = 15


class ServerProcess:
    """A running server.

    Args:
        options: Command line options.
        port: Where to listen; 0: the system chooses.
    """

    def __init__(self, *options: str, port: int = 0) -> None:
        self._options = options
        self.log: list[dict[str, Any]] = []
        """Every event logged so far."""
        self._start(port)

    def _start(self, port: int) -> None:
        command = [sys.executable, "-m", "curhat_trio", "--port", str(port), "--log-format", "json"]
        self._trace = new_trace_file()
        trace = () if self._trace is None else ("--trace", str(self._trace))
        self._process = subprocess.Popen(
            [*command, *self._options, *trace], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self._listening.wait(START_SECONDS)
        urls = [event["url"] for event in self.log if event["event"] == "listening"]
        if not urls:
            self.kill()
            raise RuntimeError(f"the server did not start: {self.log}")
        self.url: str = urls[-1].rstrip("/")
        """`http://HOST:PORT`, without a slash at the end."""

    def start_again(self) -> None:
        """After `stop` or `kill`: run it again, on the same port."""
        self._start(self.port)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def problems(self) -> list[dict[str, Any]]:
        """What the server logged above `info`: none of these tests should bring that about."""
        return [event for event in self.log if event["level"] not in ("debug", "info")]

    def health(self) -> dict[str, Any]:
        """The `data` of `/health`."""
        with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
            data: dict[str, Any] = json.load(response)["data"]
        return data

    def stop(self) -> int:
        """Ask it to stop. Returns its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._wait()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """The process does nothing for the block, and its sockets stay open."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._wait()
        was_killed(self._trace)

    def _wait(self) -> int:
        status = self._process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return status

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            event = json.loads(line) if line.startswith("{") else {"event": line.rstrip(), "level": "unreadable"}
            self.log.append(event)
            if event["event"] == "listening":
                self._listening.set()
        self._listening.set()


@contextmanager
def running_server(*options: str) -> Iterator[ServerProcess]:
    """A server from here to the end of the block; then it must stop when asked, without problems."""
    server = ServerProcess(*options)
    try:
        yield server
    except BaseException:
        server.kill()
        raise
    assert server.stop() == 0
    assert server.problems == []
