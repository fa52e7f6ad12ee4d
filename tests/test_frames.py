"""Frames against wsproto, an independent reading of RFC 6455, and against every way to break it."""

import importlib
import struct
import sys
from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.speedups import apply_mask
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Event, TextMessage
from wsproto.events import Ping as WsprotoPing
from wsproto.events import Pong as WsprotoPong

from curhat_trio import frames
from curhat_trio.protocol.errors import CloseCode

LIMIT = 1000

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
DATA = (CONTINUATION, TEXT, BINARY)
CONTROL = (CLOSE, PING, PONG)
KEY = b"\x01\x02\x03\x04"


def head(opcode: int, size: int, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """The first bytes of a client's frame (RFC 6455, section 5.2), with as short a length as there is."""
    first, mask = fin << 7 | rsv << 4 | opcode, masked << 7
    if size <= 125:
        length = struct.pack("!BB", first, mask | size)
    elif size <= 0xFFFF:
        length = struct.pack("!BBH", first, mask | 126, size)
    else:
        length = struct.pack("!BBQ", first, mask | 127, size)
    return length + (KEY if masked else b"")


def frame(opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    body = bytes(byte ^ KEY[place % 4] for place, byte in enumerate(payload)) if masked else payload
    return head(opcode, len(payload), fin, rsv, masked) + body


def read(data: bytes, limit: int = LIMIT) -> list[frames.Received]:
    return list(frames.FrameReader(limit).receive(data))


def read_in_pieces(data: bytes, cuts: list[int], limit: int = LIMIT) -> list[frames.Received]:
    """What is received when the bytes come cut at these places."""
    reader = frames.FrameReader(limit)
    return [received for piece in pieces(data, cuts) for received in reader.receive(piece)]


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    for start, end in pairwise(places):
        yield data[start:end]


def byte_by_byte(data: bytes, limit: int = LIMIT) -> list[frames.Received]:
    return read_in_pieces(data, list(range(len(data))), limit)


# ---------------------------------------------------------------- as wsproto writes and reads


@st.composite
def fragmented_text(draw: st.DrawFn) -> list[Event]:
    """One message as a client may send it: in pieces of characters, with control frames between them."""
    pieces = draw(st.lists(st.text(max_size=20), min_size=1, max_size=5))
    events: list[Event] = []
    for number, piece in enumerate(pieces, start=1):
        events.append(TextMessage(piece, message_finished=number == len(pieces)))
        events += draw(st.lists(control_frames(), max_size=2))
    return events


def control_frames() -> st.SearchStrategy[Event]:
    payload = st.binary(max_size=125)
    return st.builds(WsprotoPing, payload) | st.builds(WsprotoPong, payload)


CONVERSATION = st.lists(
    fragmented_text()
    | control_frames().map(lambda event: [event])
    | st.text(max_size=400).map(lambda text: [TextMessage(text)]),
    max_size=6,
).map(lambda groups: [event for group in groups for event in group])

REASON = st.text(max_size=30)
CODE = st.sampled_from([1000, 1001, 1011, 3000, 4000, 4999])
"""Such as wsproto sends as they are."""


def written_by_wsproto(events: list[Event]) -> bytes:
    client = Connection(ConnectionType.CLIENT)
    return b"".join(client.send(event) for event in events)


def read_by_wsproto(data: bytes) -> list[frames.Received]:
    """The same bytes as a wsproto server decodes them, converted to this package's types."""
    server = Connection(ConnectionType.SERVER)
    server.receive_data(data)
    received: list[frames.Received] = []
    begun = ""
    for event in server.events():
        match event:
            case TextMessage(text, message_finished=finished):
                begun += text
                if finished:
                    received.append(begun)
                    begun = ""
            case WsprotoPing(payload):
                received.append(frames.Ping(bytes(payload)))
            case WsprotoPong():
                received.append(frames.Pong())
            case CloseConnection(code):
                received.append(frames.CloseFrame(None if code == 1005 else code))
    return received


def whole_texts(events: list[Event]) -> list[str]:
    texts, begun = [], ""
    for event in events:
        if isinstance(event, TextMessage):
            begun += event.data
            if event.message_finished:
                texts.append(begun)
                begun = ""
    return texts


@given(
    CONVERSATION,
    st.none() | st.builds(lambda code, why: CloseConnection(code or 1005, why), CODE, REASON),
    st.data(),
)
def test_frames_are_decoded_like_wsproto_does(
    events: list[Event], close: CloseConnection | None, data: st.DataObject
) -> None:
    """Messages and control frames, in the order in which they were complete."""
    sent = written_by_wsproto([*events, *([close] if close else [])])
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=10))
    received = read_in_pieces(sent, cuts, limit=10_000)
    assert received == read_by_wsproto(sent)
    assert [text for text in received if isinstance(text, str)] == whole_texts(events)
    assert isinstance(received[-1] if received else None, frames.CloseFrame) == (close is not None)


@given(CONVERSATION)
def test_bytes_may_arrive_one_by_one(events: list[Event]) -> None:
    sent = written_by_wsproto(events)
    assert byte_by_byte(sent, 10_000) == read(sent, 10_000)


@pytest.mark.parametrize("size", [126, 65536])
def test_a_frame_may_be_split_anywhere(size: int) -> None:
    sent = (
        frame(TEXT, "héllo".encode(), fin=False)
        + frame(PING, b"?")
        + frame(CONTINUATION, b"x" * size)
        + frame(PONG)
        + frame(TEXT, b"next")
        + frame(CLOSE, b"\x03\xe8bye")
    )
    expected = [frames.Ping(b"?"), "héllo" + "x" * size, frames.Pong(), "next", frames.CloseFrame(1000)]
    cuts = range(len(sent)) if size < 1000 else [*range(40), *range(len(sent) - 40, len(sent))]
    for cut in cuts:
        assert read_in_pieces(sent, [cut], limit=100_000) == expected, cut


@given(st.text(), st.data())
def test_fragments_may_split_characters(text: str, data: st.DataObject) -> None:
    payload = text.encode()
    parts = list(pieces(payload, data.draw(st.lists(st.integers(0, len(payload)), max_size=8))))
    sent = b"".join(
        frame(CONTINUATION if number else TEXT, piece, fin=number == len(parts) - 1)
        for number, piece in enumerate(parts)
    )
    assert read(sent) == [text]


@given(st.lists(st.sampled_from([b"", b"", b"x"]), min_size=1, max_size=8))
def test_fragments_may_be_empty(parts: list[bytes]) -> None:
    sent = b"".join(
        frame(CONTINUATION if number else TEXT, piece, fin=number == len(parts) - 1)
        for number, piece in enumerate(parts)
    )
    assert read(sent + frame(TEXT, b"next")) == [b"".join(parts).decode(), "next"]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_every_size_of_the_length_field(size: int) -> None:
    text = "x" * size
    assert read(written_by_wsproto([TextMessage(text)]), limit=size) == [text]


# ---------------------------------------------------------------- what the server writes


def client_of(*sent: bytes) -> tuple[Connection, list[Event]]:
    """A wsproto client that has received this, and what it made of it."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(b"".join(sent))
    return client, list(client.events())


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_wsproto_decodes_frames_of_the_server(size: int) -> None:
    _, events = client_of(frames.text_frame(b"x" * size), frames.text_frame(b"next"), frames.PING_FRAME)
    assert whole_texts(events) == ["x" * size, "next"]
    assert events[-1] == WsprotoPing(b"")


@given(st.binary(max_size=125))
def test_a_ping_of_wsproto_is_answered(payload: bytes) -> None:
    client = Connection(ConnectionType.CLIENT)
    (ping,) = read(client.send(WsprotoPing(payload)))
    assert ping == frames.Ping(payload)
    client.receive_data(frames.pong_frame(payload))
    assert list(client.events()) == [WsprotoPong(payload)]


def test_wsproto_answers_a_ping_of_the_server() -> None:
    client, (ping,) = client_of(frames.PING_FRAME)
    assert isinstance(ping, WsprotoPing)
    assert read(client.send(ping.response())) == [frames.Pong()]


@given(st.none() | CODE, REASON)
def test_wsproto_answers_a_close_of_the_server_with_its_code(code: int | None, reason: str) -> None:
    client, (close,) = client_of(frames.close_frame(code, reason if code else ""))
    assert isinstance(close, CloseConnection)
    assert (close.code, close.reason or "") == ((code, reason) if code else (1005, ""))
    answer = client.send(close.response())
    assert client.state is ConnectionState.CLOSED
    reader = frames.FrameReader(LIMIT)
    reader.close_expected = True
    assert reader.receive(answer) == [frames.CloseFrame(None)], "the code of an answer has no new information"


@given(CODE, REASON)
def test_a_close_of_wsproto_is_answered_with_its_code(code: int, reason: str) -> None:
    client = Connection(ConnectionType.CLIENT)
    assert read(client.send(CloseConnection(code, reason))) == [frames.CloseFrame(code)]
    client.receive_data(frames.close_frame(code))
    (answer,) = client.events()
    assert isinstance(answer, CloseConnection)
    assert answer.code == code
    assert client.state is ConnectionState.CLOSED


@pytest.mark.parametrize("code", CloseCode)
def test_every_close_reason_fits_into_a_control_frame(code: CloseCode) -> None:
    _, (close,) = client_of(frames.close_frame(code, code.explanation))
    assert isinstance(close, CloseConnection)
    assert (close.code, close.reason) == (code, code.explanation)


# ---------------------------------------------------------------- masks


def without_speedups() -> ModuleType:
    """The module as on a platform for which there is no compiled wheel."""
    spec = importlib.util.find_spec("curhat_trio.frames")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "websockets.speedups", None)
        spec.loader.exec_module(module)
    return module


PURE = without_speedups()


def test_the_fallback_for_masking_is_another_function() -> None:
    assert PURE.apply_mask.__module__ == "curhat_trio.frames"
    assert apply_mask.__module__ != "curhat_trio.frames"


MASKS = st.binary(min_size=4, max_size=4)
PAYLOADS = st.binary(max_size=300) | st.integers(0, 70_000).map(bytes)


@given(data=PAYLOADS, mask=MASKS)
def test_masks_are_applied_byte_by_byte(data: bytes, mask: bytes) -> None:
    expected = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
    assert bytes(apply_mask(data, mask)) == expected
    assert bytes(PURE.apply_mask(data, mask)) == expected
    assert PURE.apply_mask(bytearray(data), bytearray(mask)) == expected
    assert PURE.apply_mask(memoryview(data), mask) == expected


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 5, b"\xff" * 8, b"a\0\0"])
def test_trailing_zeros_are_kept(data: bytes) -> None:
    for mask in (b"\0\0\0\0", b"\x01\x02\x03\x04"):
        assert PURE.apply_mask(PURE.apply_mask(data, mask), mask) == data


# ---------------------------------------------------------------- broken rules

MASKED_TEXT = frame(TEXT, b"before")

FAULTS: dict[str, tuple[bytes, CloseCode]] = {
    "unmasked": (frame(TEXT, b"x", masked=False), CloseCode.PROTOCOL_ERROR),
    "unmasked control": (frame(PING, b"x", masked=False), CloseCode.PROTOCOL_ERROR),
    "RSV1": (frame(TEXT, b"x", rsv=4), CloseCode.PROTOCOL_ERROR),
    "RSV2": (frame(TEXT, b"x", rsv=2), CloseCode.PROTOCOL_ERROR),
    "RSV3": (frame(PING, b"x", rsv=1), CloseCode.PROTOCOL_ERROR),
    "unknown data opcode": (frame(0x3, b"x"), CloseCode.PROTOCOL_ERROR),
    "unknown control opcode": (frame(0xB, b"x"), CloseCode.PROTOCOL_ERROR),
    "binary": (frame(BINARY, b"x"), CloseCode.UNSUPPORTED_DATA),
    "binary in pieces": (frame(BINARY, b"x", fin=False), CloseCode.UNSUPPORTED_DATA),
    "no UTF-8": (frame(TEXT, b"\xff"), CloseCode.INVALID_UTF8),
    "overlong UTF-8": (frame(TEXT, b"\xc0\xaf"), CloseCode.INVALID_UTF8),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), CloseCode.INVALID_UTF8),
    "half a character": (frame(TEXT, "é".encode()[:1]), CloseCode.INVALID_UTF8),
    "no UTF-8 over fragments": (
        frame(TEXT, "é".encode()[:1], fin=False) + frame(CONTINUATION, b"x"),
        CloseCode.INVALID_UTF8,
    ),
    "a ping in pieces": (frame(PING, b"x", fin=False), CloseCode.PROTOCOL_ERROR),
    "a close in pieces": (frame(CLOSE, b"", fin=False), CloseCode.PROTOCOL_ERROR),
    "a long ping": (frame(PING, b"x" * 126), CloseCode.PROTOCOL_ERROR),
    "a very long pong": (head(PONG, 1 << 20), CloseCode.PROTOCOL_ERROR),
    "a length in 2 bytes that 7 bits hold": (bytes([0x81, 0xFE, 0, 125]) + bytes(129), CloseCode.PROTOCOL_ERROR),
    "a length in 8 bytes that 2 hold": (
        bytes([0x81, 0xFF]) + (126).to_bytes(8) + bytes(130),
        CloseCode.PROTOCOL_ERROR,
    ),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), CloseCode.PROTOCOL_ERROR),
    "a last continuation twice": (
        frame(TEXT, b"", fin=False) + frame(CONTINUATION) + frame(CONTINUATION),
        CloseCode.PROTOCOL_ERROR,
    ),
    "a message inside a message": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), CloseCode.PROTOCOL_ERROR),
    "binary inside a message": (frame(TEXT, b"x", fin=False) + frame(BINARY, b"y"), CloseCode.PROTOCOL_ERROR),
    "too long": (frame(TEXT, b"x" * (LIMIT + 1)), CloseCode.MESSAGE_TOO_BIG),
    "too long in pieces": (
        frame(TEXT, b"x" * LIMIT, fin=False) + frame(CONTINUATION, b"x"),
        CloseCode.MESSAGE_TOO_BIG,
    ),
    "too long in bytes, not in characters": (frame(TEXT, "é".encode() * (LIMIT - 1)), CloseCode.MESSAGE_TOO_BIG),
    "endless": (head(TEXT, (1 << 64) - 1), CloseCode.MESSAGE_TOO_BIG),
    "a close with half a code": (frame(CLOSE, b"\x03"), CloseCode.PROTOCOL_ERROR),
    "a close with a reason that is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), CloseCode.INVALID_UTF8),
    **{
        f"a close with {code}": (frame(CLOSE, struct.pack("!H", code)), CloseCode.PROTOCOL_ERROR)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
}
BROKEN = pytest.mark.parametrize(("sent", "code"), FAULTS.values(), ids=FAULTS.keys())


@BROKEN
def test_each_violation_has_its_close_code(sent: bytes, code: CloseCode) -> None:
    received = read(MASKED_TEXT + sent + frame(TEXT, b"after"))
    assert received[0] == "before"
    assert received[-1] == frames.Violation(code)
    assert "after" not in received


@BROKEN
def test_each_violation_has_its_close_code_however_the_bytes_are_split(sent: bytes, code: CloseCode) -> None:
    whole = MASKED_TEXT + sent + frame(PING)
    received = byte_by_byte(whole)
    assert received == read(whole)
    assert received[-1] == frames.Violation(code)
    for cut in range(len(MASKED_TEXT), min(len(whole), 60)):
        assert read_in_pieces(whole, [cut]) == received


@BROKEN
def test_nothing_is_buffered_after_a_violation(sent: bytes, code: CloseCode) -> None:
    reader = frames.FrameReader(LIMIT)
    assert list(reader.receive(sent))[-1] == frames.Violation(code)
    assert reader.is_finished
    assert list(reader.receive(frame(TEXT, b"after"))) == []
    assert kept_by(reader) == 0


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_valid_close_codes_are_accepted(code: int) -> None:
    assert read(frame(CLOSE, struct.pack("!H", code) + "à bientôt".encode())) == [frames.CloseFrame(code)]


def test_a_message_of_exactly_the_limit_is_accepted() -> None:
    assert read(frame(TEXT, b"x" * LIMIT)) == ["x" * LIMIT]
    in_two = frame(TEXT, b"x" * (LIMIT - 1), fin=False) + frame(CONTINUATION, b"x")
    assert read(in_two + in_two) == ["x" * LIMIT] * 2


def test_the_size_limit_does_not_apply_to_control_frames() -> None:
    sent = frame(TEXT, b"xx", fin=False) + frame(PING, b"y" * 125) + frame(CONTINUATION, b"x")
    assert read(sent, limit=3) == [frames.Ping(b"y" * 125), "xxx"]


@pytest.mark.parametrize("begun", [b"", frame(TEXT, b"x" * LIMIT, fin=False)], ids=["at once", "in pieces"])
def test_a_declared_length_over_the_limit_is_enough_to_refuse(begun: bytes) -> None:
    opcode = CONTINUATION if begun else TEXT
    size = 1 if begun else LIMIT + 1
    length_only = head(opcode, size)[:-4]
    assert read(begun + length_only) == [frames.Violation(CloseCode.MESSAGE_TOO_BIG)]


@pytest.mark.parametrize("piece", [b"", b"x"], ids=["empty", "of a byte"])
def test_the_size_limit_applies_to_the_sum_of_fragments(piece: bytes) -> None:
    first, more, last = (
        frame(TEXT, piece, fin=False),
        frame(CONTINUATION, piece, fin=False),
        frame(CONTINUATION, piece),
    )
    too_big = [frames.Violation(CloseCode.MESSAGE_TOO_BIG)]
    assert read(first + more * (frames.MAX_FRAGMENTS - 2) + last) == [piece.decode() * frames.MAX_FRAGMENTS]
    assert read(first + more * (frames.MAX_FRAGMENTS - 1) + last) == too_big
    assert read(first + more * frames.MAX_FRAGMENTS) == too_big, "before the last has come"


def test_a_control_frame_of_125_bytes_is_accepted() -> None:
    assert read(frame(PING, b"x" * 125)) == [frames.Ping(b"x" * 125)]


# ---------------------------------------------------------------- closing


def test_nothing_is_decoded_after_a_close_frame() -> None:
    reader = frames.FrameReader(LIMIT)
    sent = frame(TEXT, b"before") + frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"after") + frame(BINARY)
    assert list(reader.receive(sent)) == ["before", frames.CloseFrame(1000)]
    assert reader.is_finished
    assert list(reader.receive(frame(TEXT, b"after"))) == []
    assert kept_by(reader) == 0


def test_a_close_frame_may_interrupt_a_fragmented_message() -> None:
    reader = frames.FrameReader(LIMIT)
    assert list(reader.receive(frame(TEXT, b"begun", fin=False) + frame(CLOSE))) == [frames.CloseFrame(None)]
    assert kept_by(reader) == 0


def closing_reader(begun: bytes = b"") -> frames.FrameReader:
    """After the server has sent its close frame; what had come before was this."""
    reader = frames.FrameReader(LIMIT)
    reader.receive(begun)
    reader.close_expected = True
    return reader


LATE = {
    "text": frame(TEXT, b"late"),
    "text that is no UTF-8": frame(TEXT, b"\xff"),
    "binary": frame(BINARY, b"late"),
    "binary in pieces": frame(BINARY, b"la", fin=False) + frame(CONTINUATION, b"te"),
    "fragments": frame(TEXT, b"la", fin=False) + frame(CONTINUATION, b"te"),
    "fragments and more": frame(TEXT, b"la", fin=False) + frame(CONTINUATION, b"te") + frame(TEXT, b"later"),
    "many fragments": frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 100 + frame(CONTINUATION),
}


@pytest.mark.parametrize("underway", LATE.values(), ids=LATE.keys())
@pytest.mark.parametrize("code", [b"", b"\x03\xe8", b"\0\0"], ids=["without a code", "1000", "wrong code"])
def test_after_the_servers_close_only_the_clients_close_is_returned(underway: bytes, code: bytes) -> None:
    """Messages in flight are valid, only late; and the code of the answer has no new information."""
    assert list(closing_reader().receive(underway + frame(CLOSE, code))) == [frames.CloseFrame(None)]
    reader, received = closing_reader(), list[frames.Received]()
    for byte in underway + frame(CLOSE, code):
        received += reader.receive(bytes([byte]))
    assert received == [frames.CloseFrame(None)]


def test_control_frames_are_counted_after_the_servers_close() -> None:
    sent = frame(TEXT, b"la", fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"te") + frame(PONG)
    assert list(closing_reader().receive(sent + frame(CLOSE))) == [
        frames.Ping(b"?"),
        frames.Pong(),
        frames.CloseFrame(None),
    ]


@pytest.mark.parametrize(
    "underway",
    [
        frame(CONTINUATION, b"x"),
        frame(CONTINUATION, b"x") + frame(TEXT, b"x" * LIMIT),
        frame(CONTINUATION, b"x", fin=False) * frames.MAX_FRAGMENTS + frame(CONTINUATION, b"x"),
    ],
    ids=["its end", "its end and more", "many pieces of it"],
)
def test_the_server_may_close_during_a_fragmented_message(underway: bytes) -> None:
    reader = closing_reader(begun=frame(TEXT, b"begun", fin=False))
    assert list(reader.receive(underway + frame(CLOSE, b"\x03\xe8"))) == [frames.CloseFrame(None)]


def test_framing_is_still_checked_after_the_servers_close() -> None:
    for broken in (frame(TEXT, b"x", masked=False), frame(CONTINUATION, b"x"), head(TEXT, LIMIT + 1)):
        (violation,) = closing_reader().receive(broken + frame(CLOSE))
        assert isinstance(violation, frames.Violation)


# ---------------------------------------------------------------- whatever comes

ANY_FRAME = st.builds(
    frame,
    opcode=st.sampled_from([*DATA, *CONTROL]) | st.integers(0, 15),
    payload=st.binary(max_size=140) | st.just(b"x" * LIMIT),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 0, 1, 4]),
    masked=st.sampled_from([True, True, True, True, False]),
)
ANY_BYTES = st.lists(ANY_FRAME | st.binary(max_size=20), max_size=12).map(b"".join)


def kept_by(reader: frames.FrameReader) -> int:
    """Bytes that a reader holds."""
    return len(reader._buffer) + sum(map(len, reader._fragments or ()))


@given(ANY_BYTES, st.booleans(), st.lists(st.integers(0, 2000), max_size=6))
def test_memory_is_bounded_for_any_bytes(sent: bytes, closing: bool, cuts: list[int]) -> None:
    reader = frames.FrameReader(LIMIT)
    reader.close_expected = closing
    longest_head = 14
    for piece in pieces(sent, cuts):
        received = list(reader.receive(piece))
        assert kept_by(reader) <= LIMIT + longest_head
        assert len(reader._fragments or ()) <= frames.MAX_FRAGMENTS
        assert not (closing and any(isinstance(each, str) for each in received))
        ends = [isinstance(each, frames.CloseFrame | frames.Violation) for each in received]
        assert not any(ends[:-1]), "nothing follows an end"
        assert reader.is_finished == (ends[-1] if ends else reader.is_finished)


@given(ANY_BYTES, st.booleans(), st.lists(st.integers(0, 2000), max_size=6))
def test_the_result_does_not_depend_on_how_bytes_are_split(sent: bytes, closing: bool, cuts: list[int]) -> None:
    at_once, in_pieces = frames.FrameReader(LIMIT), frames.FrameReader(LIMIT)
    at_once.close_expected = in_pieces.close_expected = closing
    received = [each for piece in pieces(sent, cuts) for each in in_pieces.receive(piece)]
    assert received == list(at_once.receive(sent))


def test_a_reader_buffers_at_most_one_message() -> None:
    """However it comes: a frame in bytes, fragments, or controls between them."""
    reader = frames.FrameReader(LIMIT)
    almost = frame(TEXT, b"x" * LIMIT)[:-1]
    reader.receive(frame(TEXT, b"") * 1000 + almost)
    assert kept_by(reader) == len(almost)
    reader.receive(b"?" + frame(PING, b"x" * 125) * 100)
    assert kept_by(reader) == 0


class CountingReader(frames.FrameReader):
    """Counts how often it looks for frames in what has come."""

    looks = 0

    def _read_frames(self, data: bytes, received: list[frames.Received]) -> int:
        self.looks += 1
        return super()._read_frames(data, received)


def test_an_incomplete_frame_is_not_parsed_again_until_it_is_complete() -> None:
    sent = frame(TEXT, b"x" * 60_000)
    reader = CountingReader(100_000)
    received = [each for piece in pieces(sent, list(range(0, len(sent), 10))) for each in reader.receive(piece)]
    assert received == ["x" * 60_000]
    assert reader.looks < 5
