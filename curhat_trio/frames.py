"""WebSocket frames (RFC 6455, section 5) as a server decodes and encodes them, without I/O.

It knows nothing of streams, tasks or the meaning of messages. A message costs one pass over its bytes; limits are
checked before anything is buffered; each violation has its close code. The opening handshake is done elsewhere,
and the connection decides when to answer a ping or a close frame.
"""

from collections.abc import Sequence

import attrs

from curhat_trio.protocol.errors import CloseCode

try:
    from websockets.speedups import apply_mask
except ImportError:  # there is no compiled wheel for this platform

    def apply_mask(data: bytes | bytearray | memoryview, mask: bytes | bytearray) -> bytes:
        """RFC 6455, section 5.3, as one operation on long integers: far faster than byte by byte."""
        size = len(data)
        key = (bytes(mask) * (size // 4 + 1))[:size]
        return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


MAX_FRAGMENTS = 64
"""How many frames a message may have; otherwise empty ones would not be limited."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_KNOWN = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
_FIN, _RESERVED_BITS, _OPCODE_BITS = 0x80, 0x70, 0x0F
_MASKED, _LENGTH_BITS = 0x80, 0x7F
_CONTROL = 0x8
_MAX_CONTROL_BYTES = 125
_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})
"""Those below 3000 that an endpoint may send (RFC 6455, section 7.4, and IANA's registry)."""
_MASKED_HEADER_BYTES = 6


# ---------------------------------------------------------------- encoding


def text_frame(payload: bytes) -> bytes:
    """Encode a text message in one unmasked frame."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


PING_FRAME = bytes((_FIN | _PING, 0))
"""A server's ping without a payload."""


def pong_frame(payload: bytes) -> bytes:
    """Encode the answer to a ping (RFC 6455, section 5.5.3)."""
    return bytes((_FIN | _PONG, len(payload))) + payload


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Encode a close frame (RFC 6455, section 5.5.1).

    Args:
        code: The close code; None for a close frame without one.
        reason: At most 123 bytes of UTF-8.
    """
    payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
    return bytes((_FIN | _CLOSE, len(payload))) + payload


# ---------------------------------------------------------------- decoding


@attrs.frozen
class Ping:
    """A ping, to be answered with a pong of the same payload."""

    payload: bytes


@attrs.frozen
class Pong:
    """A pong: the client is alive."""


@attrs.frozen
class CloseFrame:
    """A close frame; `code` is None if it has none. It is the last of what is received."""

    code: int | None


@attrs.frozen
class Violation:
    """A violation of the framing or of a limit: close with this code. It is the last of what is received."""

    code: CloseCode


Received = str | Ping | Pong | CloseFrame | Violation
"""What a client has sent; a complete text message is a str."""


class _Violated(Exception):
    """The client violated the framing or a limit."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code)
        self.code = code


class FrameReader:
    """Decodes the frames of a client.

    Args:
        max_message_bytes: A larger message is a violation (1009), detected before it is buffered.
    """

    __slots__ = ("_buffer", "_fragments", "_max_message_bytes", "_needed", "close_expected", "is_finished")

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer: bytes | bytearray = b""
        """Less than one frame."""
        self._needed = 0
        """How long the buffer must be to contain a whole frame."""
        self._fragments: list[bytes] | None = None
        """Those of the incomplete message, if there is one."""
        self.close_expected = False
        """Set when a close frame was sent: from then on only the client's close frame matters."""
        self.is_finished = False
        """Whether a close frame or a violation was received; everything after it is dropped."""

    def receive(self, data: bytes) -> Sequence[Received]:
        """Decode more bytes; returns what they complete, in order."""
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
        except _Violated as error:
            received.append(Violation(error.code))
            self.is_finished = True
        if self.is_finished:
            self._fragments = None
        elif read < len(data):
            self._buffer = bytearray(data[read:])
        return received

    def _read_frames(self, data: bytes, received: list[Received]) -> int:
        """Decode whole frames; returns the position after the last one."""
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
                    raise _Violated(CloseCode.PROTOCOL_ERROR)
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
            raise _Violated(CloseCode.PROTOCOL_ERROR)

    def _check_size(self, opcode: int, length: int) -> None:
        if opcode < _CONTROL and length + sum(map(len, self._fragments or ())) > self._max_message_bytes:
            raise _Violated(CloseCode.MESSAGE_TOO_BIG)

    def _take(self, first: int, payload: bytes, received: list[Received]) -> None:
        """Handle a frame that is not a whole text message."""
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
            raise _Violated(CloseCode.UNSUPPORTED_DATA)
        else:
            self._take_fragment(payload, bool(first & _FIN), received)

    def _take_fragment(self, payload: bytes, is_last: bool, received: list[Received]) -> None:
        fragments = self._fragments = self._fragments or []
        fragments.append(payload)
        if len(fragments) > MAX_FRAGMENTS:
            raise _Violated(CloseCode.MESSAGE_TOO_BIG)
        if is_last:
            self._fragments = None
            received.append(_utf8(b"".join(fragments)))


def _close_code(payload: bytes) -> int | None:
    """The code in a close frame, checked together with the reason (RFC 6455, sections 5.5.1 and 7.4)."""
    if not payload:
        return None
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (code in _CLOSE_CODES or 3000 <= code < 5000):
        raise _Violated(CloseCode.PROTOCOL_ERROR)
    _utf8(payload[2:])
    return code


def _utf8(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _Violated(CloseCode.INVALID_UTF8) from None
