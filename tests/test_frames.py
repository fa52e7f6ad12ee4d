"""Frames against wsproto, an independent reading of RFC 6455, and against every way to break it."""

import struct
from collections.abc import Iterator
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage

from curhat_trio.frames import MAX_FRAGMENTS, PING_FRAME, FrameScanner, Scan, is_close_frame, text_frame
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


def scan(data: bytes, limit: int = LIMIT) -> Scan:
    return FrameScanner(limit).feed(data)


@attrs.define
class Transcript:
    """All scans of one scanner, as one."""

    texts: list[str] = attrs.Factory(list)
    control: bytes = b""
    control_frames: int = 0
    pong: bool = False
    closing: bool = False
    fault: CloseCode | None = None

    def note(self, part: Scan) -> None:
        self.texts += part.texts
        self.control += part.control
        self.control_frames += part.control_frames
        self.pong |= part.pong
        self.closing |= part.closing
        self.fault = self.fault or part.fault


def scan_in_pieces(data: bytes, cuts: list[int], limit: int = LIMIT) -> Transcript:
    """What is found when the bytes come cut at these places."""
    scanner, whole = FrameScanner(limit), Transcript()
    places = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(places):
        whole.note(scanner.feed(data[start:end]))
    return whole


def byte_by_byte(data: bytes, limit: int = LIMIT) -> Transcript:
    return scan_in_pieces(data, list(range(len(data))), limit)


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
    return st.builds(Ping, payload) | st.builds(Pong, payload)


CONVERSATION = st.lists(
    fragmented_text()
    | control_frames().map(lambda event: [event])
    | st.text(max_size=400).map(lambda text: [TextMessage(text)]),
    max_size=6,
).map(lambda groups: [event for group in groups for event in group])


def written_by_wsproto(events: list[Event]) -> bytes:
    client = Connection(ConnectionType.CLIENT)
    return b"".join(client.send(event) for event in events)


def read_by_wsproto(data: bytes) -> list[Event]:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(data)
    return list(server.events())


def texts_of(events: list[Event]) -> list[str]:
    """Whole messages, put together from wsproto's pieces."""
    texts, begun = [], ""
    for event in events:
        if isinstance(event, TextMessage):
            begun += event.data
            if event.message_finished:
                texts.append(begun)
                begun = ""
    return texts


@given(CONVERSATION, st.booleans(), st.data())
def test_the_same_is_read_as_by_wsproto(events: list[Event], closes: bool, data: st.DataObject) -> None:
    sent = written_by_wsproto([*events, *([CloseConnection(1000, "bye")] if closes else [])])
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=10))
    found = scan_in_pieces(sent, cuts, limit=10_000)
    heard = read_by_wsproto(sent)
    assert found.texts == texts_of(heard) == texts_of(events)
    assert found.fault is None
    assert found.closing == closes
    assert found.pong == any(isinstance(event, Pong) for event in heard)
    assert found.control_frames == sum(isinstance(event, Ping | Pong | CloseConnection) for event in heard)
    kept = [event for event in heard if isinstance(event, Ping | CloseConnection)]
    assert read_by_wsproto(found.control) == kept, "control frames go on as they came, but for pongs"


@given(CONVERSATION)
def test_bytes_may_come_one_by_one(events: list[Event]) -> None:
    sent = written_by_wsproto(events)
    assert attrs.asdict(byte_by_byte(sent, 10_000)) == attrs.asdict(scan(sent, 10_000))


def test_a_frame_may_be_cut_anywhere() -> None:
    sent = frame(TEXT, "héllo".encode(), fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"x" * 126)
    for cut in range(len(sent)):
        found = scan_in_pieces(sent, [cut])
        assert found.texts == ["héllo" + "x" * 126]
        assert found.control == frame(PING, b"?")


@given(st.text(), st.data())
def test_fragments_may_cut_characters(text: str, data: st.DataObject) -> None:
    payload = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(payload)), max_size=8)))
    places = [0, *cuts, len(payload)]
    pieces = [payload[start:end] for start, end in pairwise(places)]
    sent = b"".join(
        frame(CONTINUATION if number else TEXT, piece, fin=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    )
    assert scan(sent).texts == [text]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_text_of_every_size_of_length(size: int) -> None:
    text = "x" * size
    sent = written_by_wsproto([TextMessage(text)])
    assert scan(sent, limit=size).texts == [text]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_what_the_server_writes_is_read_by_wsproto(size: int) -> None:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(text_frame(b"x" * size) + text_frame(b"next") + PING_FRAME)
    events = list(client.events())
    assert texts_of(events) == ["x" * size, "next"]
    assert events[-1] == Ping(b"")


def test_a_close_frame_is_known_by_its_first_byte() -> None:
    server = Connection(ConnectionType.SERVER)
    assert not is_close_frame(server.send(Pong(b"\x88")))
    assert not is_close_frame(text_frame(b"\x88"))
    assert not is_close_frame(b"")
    assert is_close_frame(server.send(CloseConnection(1000, "bye")))


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
}
BROKEN = pytest.mark.parametrize(("sent", "fault"), FAULTS.values(), ids=FAULTS.keys())


@BROKEN
def test_a_broken_rule_has_its_close_code(sent: bytes, fault: CloseCode) -> None:
    found = scan(MASKED_TEXT + sent + frame(TEXT, b"after"))
    assert found.fault is fault
    assert "before" in found.texts
    assert "after" not in found.texts


@BROKEN
def test_however_the_bytes_come(sent: bytes, fault: CloseCode) -> None:
    found = byte_by_byte(MASKED_TEXT + sent + frame(PING))
    assert found.fault is fault
    assert found.control == b"", "nothing is read after a fault"


@BROKEN
def test_after_a_fault_nothing_is_kept(sent: bytes, fault: CloseCode) -> None:
    scanner = FrameScanner(LIMIT)
    assert scanner.feed(sent).fault is fault
    assert scanner.feed(frame(TEXT, b"after")) == Scan()
    assert kept_by(scanner) == 0


def test_a_message_of_the_limit_is_not_over_it() -> None:
    assert scan(frame(TEXT, b"x" * LIMIT)).texts == ["x" * LIMIT]
    in_two = frame(TEXT, b"x" * (LIMIT - 1), fin=False) + frame(CONTINUATION, b"x")
    assert scan(in_two + in_two).texts == ["x" * LIMIT] * 2


@pytest.mark.parametrize("begun", [b"", frame(TEXT, b"x" * LIMIT, fin=False)], ids=["at once", "in pieces"])
def test_a_declared_length_is_enough_to_be_too_big(begun: bytes) -> None:
    opcode = CONTINUATION if begun else TEXT
    size = 1 if begun else LIMIT + 1
    length_only = head(opcode, size)[:-4]
    assert scan(begun + length_only).fault is CloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize("piece", [b"", b"x"], ids=["empty", "of a byte"])
def test_fragments_are_counted(piece: bytes) -> None:
    first, more, last = (
        frame(TEXT, piece, fin=False),
        frame(CONTINUATION, piece, fin=False),
        frame(CONTINUATION, piece),
    )
    assert scan(first + more * (MAX_FRAGMENTS - 2) + last).texts == [piece.decode() * MAX_FRAGMENTS]
    assert scan(first + more * (MAX_FRAGMENTS - 1) + last).fault is CloseCode.MESSAGE_TOO_BIG
    assert scan(first + more * MAX_FRAGMENTS).fault is CloseCode.MESSAGE_TOO_BIG, "before the last has come"


def test_a_control_frame_of_125_bytes_is_not_too_long() -> None:
    ping = frame(PING, b"x" * 125)
    assert scan(ping).control == ping


# ---------------------------------------------------------------- closing


def test_nothing_is_read_behind_a_close_frame() -> None:
    close = frame(CLOSE, struct.pack("!H", 1000))
    scanner = FrameScanner(LIMIT)
    found = scanner.feed(frame(TEXT, b"before") + close + frame(TEXT, b"after") + frame(BINARY))
    assert found == Scan(texts=["before"], control=close, control_frames=1, closing=True)
    assert scanner.feed(frame(TEXT, b"after")) == Scan()


def closing_scanner(begun: bytes = b"") -> FrameScanner:
    """After the server has sent its close frame; what had come before was this."""
    scanner = FrameScanner(LIMIT)
    scanner.feed(begun)
    scanner.expect_only_close = True
    return scanner


@pytest.mark.parametrize(
    "underway",
    [
        frame(TEXT, b"late"),
        frame(BINARY, b"late"),
        frame(PING, b"late"),
        frame(TEXT, b"la", fin=False) + frame(CONTINUATION, b"te"),
        frame(TEXT, b"la", fin=False) + frame(PING) + frame(CONTINUATION, b"te") + frame(TEXT, b"later"),
    ],
    ids=["text", "binary", "ping", "fragments", "fragments and more"],
)
def test_once_the_server_has_closed_only_the_clients_close_counts(underway: bytes) -> None:
    """What the client had under way is right, only late."""
    close = frame(CLOSE, struct.pack("!H", 1000))
    found = closing_scanner().feed(underway + close)
    assert (found.texts, found.fault) == ([], None)
    assert (found.control, found.closing) == (close, True)


@pytest.mark.parametrize(
    "underway",
    [
        frame(CONTINUATION, b"x"),
        frame(CONTINUATION, b"x") + frame(TEXT, b"x" * LIMIT),
        frame(CONTINUATION, b"x", fin=False) * MAX_FRAGMENTS + frame(CONTINUATION, b"x"),
    ],
    ids=["its end", "its end and more", "many pieces of it"],
)
def test_the_server_may_close_in_the_middle_of_a_message(underway: bytes) -> None:
    close = frame(CLOSE, struct.pack("!H", 1000))
    found = closing_scanner(begun=frame(TEXT, b"begun", fin=False)).feed(underway + close)
    assert (found.texts, found.fault) == ([], None)
    assert (found.control, found.closing) == (close, True)


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


def kept_by(scanner: FrameScanner) -> int:
    """Bytes that a scanner holds."""
    return len(scanner._buffer) + sum(map(len, scanner._fragments))


@given(ANY_BYTES, st.booleans(), st.lists(st.integers(0, 2000), max_size=6))
def test_any_bytes_are_read_within_bounded_memory(sent: bytes, closing: bool, cuts: list[int]) -> None:
    scanner = FrameScanner(LIMIT)
    scanner.expect_only_close = closing
    longest_head = 14
    for piece in pieces(sent, cuts):
        found = scanner.feed(piece)
        assert kept_by(scanner) <= LIMIT + longest_head
        assert len(scanner._fragments) <= MAX_FRAGMENTS
        assert not (closing and found.texts)


@given(ANY_BYTES, st.lists(st.integers(0, 2000), max_size=6))
def test_how_the_bytes_are_cut_does_not_matter(sent: bytes, cuts: list[int]) -> None:
    assert attrs.asdict(scan_in_pieces(sent, [cut for cut in cuts if cut <= len(sent)])) == attrs.asdict(
        scan(sent)
    )


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for start, end in pairwise(places):
        yield data[start:end]


def test_a_scanner_holds_no_more_than_one_message() -> None:
    """However it comes: a frame in bytes, fragments, or controls between them."""
    scanner = FrameScanner(LIMIT)
    almost = frame(TEXT, b"x" * LIMIT)[:-1]
    scanner.feed(frame(TEXT, b"") * 1000 + almost)
    assert kept_by(scanner) == len(almost)
    scanner.feed(b"?" + frame(PING, b"x" * 125) * 100)
    assert kept_by(scanner) == 0
