"""WebSocket frames (RFC 6455, section 5) as far as data goes: bytes in, whole text messages out, without I/O.

Data frames are read and written here, control frames and the closing handshake are left to trio-websocket, which
gets their bytes unchanged. So a message costs one pass over its bytes, limits hold in bytes before anything is
kept, and each broken rule gets its close code. It knows nothing of streams, tasks or what messages mean.
"""

import attrs

from curhat_trio.protocol.errors import CloseCode

MAX_FRAGMENTS = 64
"""Frames that one message may come in; empty ones would otherwise be free."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_KNOWN = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
_FIN, _RESERVED_BITS, _OPCODE_BITS = 0x80, 0x70, 0x0F
_MASKED, _LENGTH_BITS = 0x80, 0x7F
_CONTROL = 0x8
_MAX_CONTROL_BYTES = 125
_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})
"""Those below 3000 that an endpoint may send."""

PING_FRAME = bytes([_FIN | _PING, 0])
"""A server's ping without a payload."""


def text_frame(payload: bytes) -> bytes:
    """One whole unmasked text message, as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN | _TEXT, size)) + payload
    if size < 1 << 16:
        return bytes((_FIN | _TEXT, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_FIN | _TEXT, 127)) + size.to_bytes(8, "big") + payload


def is_close_frame(data: bytes) -> bool:
    """Whether bytes that trio-websocket sends are a close frame: it sends one frame at a time."""
    return data[:1] == bytes([_FIN | _CLOSE])


def split_control_frame(frames: bytes) -> tuple[bytes, bytes]:
    """The first of a client's control frames, and the others."""
    size = 6 + (frames[1] & _LENGTH_BITS)
    return frames[:size], frames[size:]


@attrs.define
class Scan:
    """What a stretch of bytes held."""

    texts: list[str] = attrs.Factory(list)
    """Whole messages, in order."""
    control: bytes = b""
    """Control frames as they came, for trio-websocket."""
    control_frames: int = 0
    pong: bool = False
    closing: bool = False
    """A close frame is the last of `control`; what followed it was dropped."""
    fault: CloseCode | None = None
    """The client broke a rule after the messages above; nothing more is read."""


@attrs.frozen
class _Header:
    fin: bool
    opcode: int
    mask: bytes
    start: int
    """Where the payload begins in the buffer."""
    end: int


class _Broken(Exception):
    """A client broke the framing or a limit."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code)
        self.code = code


class FrameScanner:
    """Takes a client's bytes apart.

    Args:
        max_message_bytes: A message over so many bytes is a fault (1009), noticed before it is kept.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer = bytearray()
        self._fragments: list[bytes] = []
        self._in_message = False
        self._finished = False
        self.expect_only_close = False
        """Set when a close frame was sent: from then on only the client's own is of interest."""

    def feed(self, data: bytes) -> Scan:
        """Read on. After a fault or a close frame everything is dropped."""
        scan = Scan()
        if self._finished:
            return scan
        self._buffer += data
        try:
            while not self._finished and (header := self._next_header()) is not None:
                self._take_frame(header, scan)
        except _Broken as broken:
            scan.fault = broken.code
            self._finished = True
        if self._finished:
            self._buffer.clear()
            self._fragments.clear()
        return scan

    def _next_header(self) -> _Header | None:
        """The header at the front of the buffer, once its whole frame is there."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode = buffer[0] & _OPCODE_BITS
        self._check_first_bytes(opcode, buffer[0], buffer[1])
        size, start = buffer[1] & _LENGTH_BITS, 2
        if size > _MAX_CONTROL_BYTES:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
            if size < (126 if start == 4 else 1 << 16):  # not the shortest form (RFC 6455, section 5.2)
                raise _Broken(CloseCode.PROTOCOL_ERROR)
        if opcode < _CONTROL and size + sum(map(len, self._fragments)) > self._max_message_bytes:
            raise _Broken(CloseCode.MESSAGE_TOO_BIG)
        end = start + 4 + size
        if len(buffer) < end:
            return None
        return _Header(bool(buffer[0] & _FIN), opcode, bytes(buffer[start : start + 4]), start + 4, end)

    def _check_first_bytes(self, opcode: int, first: int, second: int) -> None:
        control = opcode >= _CONTROL
        if (
            first & _RESERVED_BITS
            or opcode not in _KNOWN
            or not second & _MASKED
            or (control and (not first & _FIN or second & _LENGTH_BITS > _MAX_CONTROL_BYTES))
            or (not control and (opcode == _CONTINUATION) != self._in_message)
        ):
            raise _Broken(CloseCode.PROTOCOL_ERROR)

    def _take_frame(self, header: _Header, scan: Scan) -> None:
        frame = self._buffer[: header.end]
        del self._buffer[: header.end]
        if header.opcode >= _CONTROL:
            self._take_control(header, frame, scan)
        elif self.expect_only_close:
            self._in_message = not header.fin
            self._fragments.clear()
        else:
            self._take_data(header, frame, scan)

    def _take_control(self, header: _Header, frame: bytearray, scan: Scan) -> None:
        scan.control_frames += 1
        if header.opcode == _PONG:
            scan.pong = True
            return
        if header.opcode == _CLOSE:
            if not self.expect_only_close:
                _check_close(_unmask(frame[header.start :], header.mask))
            scan.closing = self._finished = True
        elif self.expect_only_close:
            return
        scan.control += frame

    def _take_data(self, header: _Header, frame: bytearray, scan: Scan) -> None:
        if header.opcode == _BINARY:
            raise _Broken(CloseCode.UNSUPPORTED_DATA)
        payload = _unmask(frame[header.start :], header.mask)
        if header.fin and not self._in_message:
            scan.texts.append(_utf8(payload))
            return
        self._in_message = not header.fin
        self._fragments.append(payload)
        if len(self._fragments) > MAX_FRAGMENTS:
            raise _Broken(CloseCode.MESSAGE_TOO_BIG)
        if header.fin:
            scan.texts.append(_utf8(b"".join(self._fragments)))
            self._fragments.clear()


def _check_close(payload: bytes) -> None:
    """Nothing, or a code that may be sent and a reason in UTF-8 (RFC 6455, sections 5.5.1 and 7.4)."""
    code = int.from_bytes(payload[:2], "big")
    if payload and (len(payload) < 2 or not (code in _CLOSE_CODES or 3000 <= code < 5000)):
        raise _Broken(CloseCode.PROTOCOL_ERROR)
    _utf8(payload[2:])


def _unmask(payload: bytearray, mask: bytes) -> bytes:
    """RFC 6455, section 5.3, as one operation on long integers: far faster than byte by byte."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def _utf8(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _Broken(CloseCode.INVALID_UTF8) from None
