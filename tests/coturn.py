"""A real TURN server, coturn from Debian's package, for as long as a test lasts; and the least client of it.

It listens on 127.0.0.1 and relays from 127.0.0.2, so the addresses can be told apart.
"""

import hashlib
import hmac
import secrets
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECRET = "north-star"
RELAY_ADDRESS = "127.0.0.2"

_READY = "DB connection success"
_STOP_SECONDS = 10
_ANSWER_SECONDS = 5


class Coturn:
    """A running TURN server.

    Args:
        folder: For its database and the file with its process number.
    """

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._log: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [
                *["turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--relay-threads=1"],
                *["--listening-ip=127.0.0.1", f"--listening-port={self.port}", f"--relay-ip={RELAY_ADDRESS}"],
                *["--use-auth-secret", f"--static-auth-secret={SECRET}", "--realm=curhat.test"],
                "--allow-loopback-peers",  # all peers are on this machine; never do this elsewhere
                *["--log-file=stdout", "--simple-log", f"--pidfile={folder / 'pid'}", f"--userdb={folder / 'db'}"],
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if not self._ready.wait(_STOP_SECONDS) or self._process.poll() is not None:
            self.stop()
            raise RuntimeError(f"coturn did not start: {self._log}")

    @property
    def url(self) -> str:
        return f"turn:127.0.0.1:{self.port}?transport=udp"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(_STOP_SECONDS)
        self._reader.join(_STOP_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def allocate(self, username: str, password: str) -> int:
        """Ask for a relay (RFC 8656, section 7.1). Returns 0, or the error's code, such as 401."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(_ANSWER_SECONDS)
            udp.connect(("127.0.0.1", self.port))
            challenge = _ask(udp, _REQUESTED_UDP)
            realm, nonce = challenge[_REALM], challenge[_NONCE]
            # RFC 8489, sections 9.2.2 and 14.5: the key of long-term credentials, and what it signs
            key = hashlib.md5(b":".join([username.encode(), realm, password.encode()])).digest()
            named = [(_USERNAME, username.encode()), (_REALM, realm), (_NONCE, nonce)]
            answer = _ask(udp, _REQUESTED_UDP + b"".join(_attribute(*each) for each in named), key)
        if _ERROR_CODE not in answer:
            return 0
        number_class, number = answer[_ERROR_CODE][2:4]
        return number_class * 100 + number

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.append(line.rstrip())
            if _READY in line:
                self._ready.set()
        self._ready.set()


@contextmanager
def running_coturn(folder: Path) -> Iterator[Coturn]:
    """A TURN server from here to the end of the block; without coturn the test is skipped."""
    if shutil.which("turnserver") is None:
        pytest.skip("no `turnserver` on the PATH; Debian has it in the package `coturn`")
    coturn = Coturn(folder)
    try:
        yield coturn
    finally:
        coturn.stop()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        port: int = udp.getsockname()[1]
        return port


# ---------------------------------------------------------------- the needed part of STUN

_COOKIE = 0x2112A442
_ALLOCATE = 0x0003
_USERNAME, _MESSAGE_INTEGRITY, _ERROR_CODE, _REALM, _NONCE, _REQUESTED_TRANSPORT = 0x6, 0x8, 0x9, 0x14, 0x15, 0x19


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


_REQUESTED_UDP = _attribute(_REQUESTED_TRANSPORT, bytes([17, 0, 0, 0]))


def _ask(udp: socket.socket, attributes: bytes, key: bytes | None = None) -> dict[int, bytes]:
    """Send an Allocate request, signed if there is a key, and parse the answer."""
    transaction = secrets.token_bytes(12)
    signed = 24 if key else 0
    message = struct.pack("!HHI", _ALLOCATE, len(attributes) + signed, _COOKIE) + transaction + attributes
    if key:
        message += _attribute(_MESSAGE_INTEGRITY, hmac.digest(key, message, "sha1"))
    udp.send(message)
    answer = udp.recv(2048)
    assert answer[8:20] == transaction
    found, rest = {}, answer[20:]
    while rest:
        kind, size = struct.unpack("!HH", rest[:4])
        found[kind] = rest[4 : 4 + size]
        rest = rest[4 + size + -size % 4 :]
    return found
