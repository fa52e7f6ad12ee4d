"""What fuzzing feeds with bytes: each target takes any bytes at all and raises if the server handles them wrongly.

They need no fuzzer: `run.py` lets atheris look for inputs that reach new code, `test_corpus.py` repeats kept ones.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage

from curhat_trio.client.events import Disconnected
from curhat_trio.client.websocket import parse
from curhat_trio.conformance import wire
from curhat_trio.documents.schemas import client_schemas, server_schemas
from curhat_trio.frames import CloseFrame, FrameReader, Received, Violation
from curhat_trio.frames import Ping as PingFrame
from curhat_trio.protocol.codec import decode, decode_server, encode, encode_client
from curhat_trio.protocol.errors import CloseCode, Fault
from curhat_trio.protocol.messages import LEGACY_FROM_CLIENT, OPTIONAL, ClientMessage, ServerMessage
from tests.fuzz.fuzzed_server import NEW_PIECE, FuzzedServer
from tests.peers import ANSWER, CANDIDATE, OFFER

# ---------------------------------------------------------------- the codec


_CLIENT = {name: Draft202012Validator(schema) for name, schema in client_schemas().items()}
_SERVER = {name: Draft202012Validator(schema) for name, schema in server_schemas().items()}


def codec(data: bytes) -> None:
    """What is read is a message or a fault, as its schema has it; written and read again, it stays the same."""
    decoded = decode(data, "v1", OPTIONAL)
    assert isinstance(decoded, Fault | ClientMessage)
    assert accepts(_CLIENT, data) == isinstance(decoded, ClientMessage)
    if isinstance(decoded, ClientMessage):
        assert decode(encode_client(decoded), "v1", OPTIONAL) == decoded

    decoded_legacy = decode(data, "legacy")
    assert isinstance(decoded_legacy, Fault | ClientMessage)
    if isinstance(decoded_legacy, ClientMessage):
        assert decoded_legacy == decoded
    elif isinstance(decoded, ClientMessage):
        assert decoded.type not in LEGACY_FROM_CLIENT

    decoded_server = decode_server(data)
    assert isinstance(decoded_server, Fault | ServerMessage)
    assert accepts(_SERVER, data) == (is_understood(data) and is_numbered(data))
    if isinstance(decoded_server, ServerMessage):
        assert decode_server(encode(decoded_server, seq=1)) == decoded_server


def accepts(schemas: dict[str, Draft202012Validator], data: bytes) -> bool:
    value = _read(data)
    name = value.get("type") if isinstance(value, dict) else None
    return isinstance(name, str) and name in schemas and schemas[name].is_valid(value)


def is_understood(data: bytes) -> bool:
    """Whether a client understands this message of a server, perhaps of a later version."""
    try:
        return parse(data.decode())[0] is not None
    except (UnicodeDecodeError, Disconnected):
        return False


def is_numbered(data: bytes) -> bool:
    seq = _read(data).get("seq")
    return type(seq) in (int, float) and seq >= 1 and seq == int(seq)


def _read(data: bytes) -> Any:
    """JSON as the codec reads it, with half surrogate pairs as U+FFFD; None if it is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "surrogate" not in error.msg:
            return None
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return orjson.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


# ---------------------------------------------------------------- frames

_LIMIT = 1000
_LONGEST_HEAD = 14
_NO_STATUS = 1005
"""How wsproto reports a close frame without a code (RFC 6455, section 7.1.5)."""
_BAD_GATEWAY = 1014
"""In IANA's registry of close codes, but wsproto does not know it."""


def frames(data: bytes) -> None:
    """Frames are read as wsproto reads them, and as if they came one byte at a time."""
    reader = FrameReader(_LIMIT)
    received = list(reader.receive(data))
    assert byte_by_byte(data) == received
    *_, last = [None, *received]
    violation = last.code if isinstance(last, Violation) else None
    if violation in (CloseCode.MESSAGE_TOO_BIG, CloseCode.UNSUPPORTED_DATA):
        return  # rules of this server's own
    rest_of_a_head = bytes(_LONGEST_HEAD) if violation else b""  # wsproto waits for it before it looks
    texts, pings, code = read_by_wsproto(data + rest_of_a_head)
    assert texts == [text for text in received if isinstance(text, str)]
    if code == CloseCode.INVALID_UTF8:
        is_in_message = reader._fragments is not None or reader._buffer
        assert is_in_message or reader.is_finished, "wsproto says so before the end of a message"
        return
    assert pings == [ping.payload for ping in received if isinstance(ping, PingFrame)]
    if isinstance(last, CloseFrame):
        told_by_wsproto = {None: _NO_STATUS, _BAD_GATEWAY: CloseCode.PROTOCOL_ERROR}
        assert code == told_by_wsproto.get(last.code, last.code)
    else:
        assert (violation is None) == (code is None)


def byte_by_byte(data: bytes) -> list[Received]:
    reader = FrameReader(_LIMIT)
    return [received for byte in data for received in reader.receive(bytes([byte]))]


def read_by_wsproto(data: bytes) -> tuple[list[str], list[bytes], int | None]:
    """Whole texts, the payloads of pings, and the code of a close frame or of what was wrong."""
    connection = Connection(ConnectionType.SERVER)
    connection.receive_data(data)
    texts, pings, begun = [], [], ""
    for event in connection.events():
        match event:
            case TextMessage(text, message_finished=finished):
                begun += text
                if finished:
                    texts.append(begun)
                    begun = ""
            case Ping(payload):
                pings.append(bytes(payload))
            case CloseConnection(code):
                return texts, pings, code
    return texts, pings, None


# ---------------------------------------------------------------- by name

TARGETS: dict[str, Callable[[], AbstractContextManager[Callable[[bytes], None]]]] = {
    "codec": lambda: nullcontext(codec),
    "frames": lambda: nullcontext(frames),
    "server": FuzzedServer,
}

DICTIONARIES: dict[str, list[bytes]] = {
    "codec": [b"null", b"1.0", b"\\ud800", b'{"type":'],
    "frames": [],
    "server": [NEW_PIECE]
    + [wire.message_frame(name)[:-1] for name in (*_CLIENT, "report")]
    + [
        wire.message_frame("offer", payload=OFFER),
        wire.message_frame("answer", payload=ANSWER),
        wire.message_frame("candidate", payload=CANDIDATE),
    ],
}
"""Words that help a fuzzer, which by itself would hardly ever write a message."""
