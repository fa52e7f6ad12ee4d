"""A load's WebSocket frames, made and read."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.server import ServerProtocol

from curhat_trio.load.frames import CLOSE, CONTINUATION, PING, TEXT, FrameReader, InvalidFrame, make_frame

SIZES = st.sampled_from([0, 1, 125, 126, 127, 65535, 65536]) | st.integers(0, 300)


def served(opcode: int, payload: bytes, final: bool = True) -> bytes:
    """A frame as a server sends it."""
    size = len(payload)
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    length = b"" if size < 126 else size.to_bytes(2 if size < 1 << 16 else 8, "big")
    return bytes([final << 7 | opcode, short]) + length + payload


def read(data: bytes, cuts: list[int]) -> tuple[list[bytes], list[tuple[int, bytes]]]:
    """What arrives of these bytes in pieces."""
    reader, texts, controls = FrameReader(), list[bytes](), list[tuple[int, bytes]]()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in pairwise(places):
        more_texts, more_controls = reader.feed(data[begin:end])
        texts += more_texts
        controls += more_controls
    return texts, controls


@given(st.lists(SIZES, max_size=5), st.lists(st.integers(0, 1000), max_size=8))
def test_texts_arrive_whole_however_they_are_cut(sizes: list[int], cuts: list[int]) -> None:
    texts = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    assert read(b"".join(served(TEXT, text) for text in texts), cuts) == (texts, [])


@given(st.lists(st.integers(0, 40), max_size=6))
def test_fragments_are_joined_and_controls_may_come_between_them(cuts: list[int]) -> None:
    data = (
        served(TEXT, b"one ", final=False)
        + served(PING, b"?")
        + served(CONTINUATION, b"two ", final=False)
        + served(CONTINUATION, b"three")
        + served(TEXT, b"next")
        + served(CLOSE, b"\x0f\xa0")
    )
    assert read(data, cuts) == ([b"one two three", b"next"], [(PING, b"?"), (CLOSE, b"\x0f\xa0")])


@pytest.mark.parametrize(
    "data",
    [
        served(CONTINUATION, b"without a beginning"),
        served(TEXT, b"one", final=False) + served(TEXT, b"another"),
        served(0x2, b"binary"),
        bytes([0xC1, 1, 65]),
        make_frame(TEXT, b"", b"mask"),
        make_frame(TEXT, b"masked", b"mask"),
        make_frame(TEXT, b"m" * 200, b"mask"),
        b"\x81\x7f" + (1 << 40).to_bytes(8, "big"),
    ],
)
def test_what_no_server_may_send_is_found(data: bytes) -> None:
    with pytest.raises(InvalidFrame):
        FrameReader().feed(data)


@given(SIZES)
def test_a_server_reads_what_is_made(size: int) -> None:
    payload = bytes(range(97, 123)) * (size // 26 + 1)
    payload = payload[:size]
    server = ServerProtocol()
    server.receive_data(
        b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    (request,) = server.events_received()
    server.send_response(server.accept(request))  # type: ignore[arg-type]
    server.receive_data(make_frame(TEXT, payload, b"\x01\x02\x03\x04"))
    (frame,) = server.events_received()
    assert bytes(frame.data) == payload  # type: ignore[union-attr]
