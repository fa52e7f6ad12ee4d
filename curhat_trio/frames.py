"""WebSocket frames (RFC 6455, section 5) as a server reads and writes them: bytes in, messages and control frames
out, without I/O.

It knows nothing of streams, tasks or what messages mean. A message costs one pass over its bytes; limits hold in
bytes before anything is kept; each broken rule has its close code. Opening handshakes are none of its business,
and when to answer a ping or a close frame is the connection's.
"""

from collections.abc import Sequence

import attrs

from curhat_trio.protocol.errors import CloseCode

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled wheel for this platform

    def apply_mask(data: bytes | bytearray | memoryview, mask: bytes | bytearray) -> bytes:
        """RFC 6455, section 5.3, as one operation on long integers: far faster than byte by byte."""
        size = len(data)
        key = (bytes(mask) * (size // 4 + 1))[:size]
        return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


MAX_FRAGMENTS = 64
"""Frames that one message may come in; empty ones would otherwise be free."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_KNOWN = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
_FIN, _RESERVED_BITS, _OPCODE_BITS = 0x80, 0x70, 0x0F
_MASKED, _LENGTH_BITS = 0x80, 0x7F
_CONTROL = 0x8
_MAX_CONTROL_BYTES = 125
_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})
"""Those below 3000 that an endpoint may send (RFC 6455, section 7.4, and IANA's registry)."""
_MASKED_HEADER_BYTES = 6


# ---------------------------------------------------------------- writing


def text_frame(payload: bytes) -> bytes:
    """One whole unmasked text message, as a server sends it."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


PING_FRAME = bytes((_FIN | _PING, 0))
"""A server's ping without a payload."""


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping (RFC 6455, section 5.5.3)."""
    return bytes((_FIN | _PONG, len(payload))) + payload


def close_frame(code: int | None, reason: str = "") -> bytes:
    """A close frame; None: without a code (RFC 6455, section 5.5.1).

    Args:
        reason: At most 123 bytes of UTF-8.
    """
    payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
    return bytes((_FIN | _CLOSE, len(payload))) + payload


# ---------------------------------------------------------------- reading


@attrs.frozen
class Ping:
    """To be answered with a pong of the same payload."""

    payload: bytes


@attrs.frozen
class Pong:
    """The client is alive."""


@attrs.frozen
class CloseFrame:
    """The client says goodbye; None: without a code. Nothing follows."""

    code: int | None


@attrs.frozen
class Violation:
    """The client broke a rule or a limit: close with this code. Nothing follows."""

    code: CloseCode


Received = str | Ping | Pong | CloseFrame | Violation
"""What a client sent: a whole text message is a str."""


class _Broken(Exception):
    """A client broke the framing or a limit."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code)
        self.code = code


class FrameReader:
    """Takes a client's bytes apart.

    Args:
        max_message_bytes: A message over so many bytes is a violation (1009), noticed before it is kept.
    """

    __slots__ = ("_buffer", "_fragments", "_max_message_bytes", "_needed", "close_expected", "is_finished")

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer: bytes | bytearray = b""
        """Less than one frame."""
        self._needed = 0
        """How long the buffer must be before there can be a frame."""
        self._fragments: list[bytes] | None = None
        """Of the message that is under way, if there is one."""
        self.close_expected = False
        """Set when a close frame was sent: from then on only the client's own is of interest."""
        self.is_finished = False
        """After a close frame or a violation: everything else is dropped."""

    def receive(self, data: bytes) -> Sequence[Received]:
        """Read on. Returns what is complete now, in order."""
        if self.is_finished:
            return ()
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return ()
            data, self._buffer = bytes(self._buffer), b""
        received: list[Received] = []
        try:
            read = self._read_frames(data, received)
        except _Broken as broken:
            received.append(Violation(broken.code))
            self.is_finished = True
        if self.is_finished:
            self._fragments = None
        elif read < len(data):
            self._buffer = bytearray(data[read:])
        return received

    def _read_frames(self, data: bytes, received: list[Received]) -> int:
        """Read whole frames; returns where what is left begins."""
        start, size = 0, len(data)
        while size - start >= 2:
            first, second = data[start], data[start + 1]
            if first != _FIN | _TEXT or second < _MASKED or self._fragments is not None or self.close_expected:
                self._check_first_bytes(first, second)
            payload, length = start + _MASKED_HEADER_BYTES, second & _LENGTH_BITS
            if length > _MAX_CONTROL_BYTES:
                extended = 2 if length == 126 else 8
                if size - start < 2 + extended:
                    break
                payload += extended
                length = int.from_bytes(data[start + 2 : start + 2 + extended], "big")
                if length < (126 if extended == 2 else 1 << 16):  # not the shortest form (RFC 6455, section 5.2)
                    raise _Broken(CloseCode.PROTOCOL_ERROR)
            if length > self._max_message_bytes or self._fragments:
                self._check_size(first & _OPCODE_BITS, length)
            end = payload + length
            if size < end:
                self._needed = end - start
                return start
            unmasked = apply_mask(data[payload:end], data[payload - 4 : payload])
            start = end
            if first == _FIN | _TEXT and not self.close_expected:
                received.append(_utf8(unmasked))
            else:
                self._take(first, unmasked, received)
                if self.is_finished:
                    break
        self._needed = 0
        return start

    def _check_first_bytes(self, first: int, second: int) -> None:
        opcode = first & _OPCODE_BITS
        is_control = opcode >= _CONTROL
        if (
            first & _RESERVED_BITS
            or opcode not in _KNOWN
            or not second & _MASKED
            or (is_control and (not first & _FIN or second & _LENGTH_BITS > _MAX_CONTROL_BYTES))
            or (not is_control and (opcode == _CONTINUATION) != (self._fragments is not None))
        ):
            raise _Broken(CloseCode.PROTOCOL_ERROR)

    def _check_size(self, opcode: int, length: int) -> None:
        if opcode < _CONTROL and length + sum(map(len, self._fragments or ())) > self._max_message_bytes:
            raise _Broken(CloseCode.MESSAGE_TOO_BIG)

    def _take(self, first: int, payload: bytes, received: list[Received]) -> None:
        """Anything but a whole text message."""
        opcode = first & _OPCODE_BITS
        if opcode == _CLOSE:
            self.is_finished = True
            received.append(CloseFrame(_close_code(payload) if not self.close_expected else None))
        elif opcode == _PONG:
            received.append(Pong())
        elif opcode == _PING:
            received.append(Ping(payload))
        elif self.close_expected:
            self._fragments = None if first & _FIN else []
        elif opcode == _BINARY:
            raise _Broken(CloseCode.UNSUPPORTED_DATA)
        else:
            self._take_fragment(payload, bool(first & _FIN), received)

    def _take_fragment(self, payload: bytes, is_last: bool, received: list[Received]) -> None:
        fragments = self._fragments = self._fragments or []
        fragments.append(payload)
        if len(fragments) > MAX_FRAGMENTS:
            raise _Broken(CloseCode.MESSAGE_TOO_BIG)
        if is_last:
            self._fragments = None
            received.append(_utf8(b"".join(fragments)))


def _close_code(payload: bytes) -> int | None:
    """Nothing, or a code that may be sent and a reason in UTF-8 (RFC 6455, sections 5.5.1 and 7.4)."""
    if not payload:
        return None
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (code in _CLOSE_CODES or 3000 <= code < 5000):
        raise _Broken(CloseCode.PROTOCOL_ERROR)
    _utf8(payload[2:])
    return code


def _utf8(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _Broken(CloseCode.INVALID_UTF8) from None
