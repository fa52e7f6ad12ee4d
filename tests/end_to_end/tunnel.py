"""A TCP proxy between a browser and the server, whose connections can be interrupted and restored."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 65536


class Tunnel:
    """Passes TCP connections on to a port of 127.0.0.1, in threads of its own."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._is_interrupted = False
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def interrupt(self) -> None:
        """Break every connection, and refuse new ones from now on."""
        with self._lock:
            self._is_interrupted = True
            ends, self._ends = self._ends, []
        for end in ends:
            _break(end)

    def restore(self) -> None:
        """Accept new connections again."""
        with self._lock:
            self._is_interrupted = False

    def stall(self) -> None:
        """Hold back every byte from now on; nothing is closed."""
        self._flows.clear()

    def flow_again(self) -> None:
        """Pass on what was held back, late, and everything after it."""
        self._flows.set()

    def close(self) -> None:
        """Break every connection, and stop listening."""
        self._listener.close()
        self.interrupt()
        self._flows.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        with self._lock:
            if self._is_interrupted:
                _break(near)
                return
            far = socket.create_connection(("127.0.0.1", self._to_port))
            self._ends += [near, far]
        for source, target in ((near, far), (far, near)):
            threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                self._flows.wait()
                target.sendall(data)
            self._flows.wait()
            target.shutdown(socket.SHUT_WR)


def _break(end: socket.socket) -> None:
    """As a lost network does: nothing reaches the other side in time."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def tunnel_to(port: int) -> Iterator[Tunnel]:
    """A tunnel for the time of a block."""
    tunnel = Tunnel(port)
    try:
        yield tunnel
    finally:
        tunnel.close()
