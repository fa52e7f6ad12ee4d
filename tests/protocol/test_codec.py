"""The codec: messages survive a round trip, and invalid ones are refused with an error that helps their sender."""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import (
    VOCABULARY,
    decode,
    decode_server,
    encode,
    encode_client,
    limits_to_wire,
    wire_name,
)
from curhat_trio.protocol.errors import ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.events import Profile
from curhat_trio.protocol.ids import ClientId, RoomId
from tests.vocabulary import CLIENT_MESSAGES, SERVER_MESSAGES

decode_any = partial(decode, features=messages.OPTIONAL)
"""Decodes as a server with all optional features does."""

EITHER_PROFILE = pytest.mark.parametrize("profile", ["v1", "legacy"])
ANY_CLIENT_MESSAGE = st.one_of(*CLIENT_MESSAGES.values())
ANY_SERVER_MESSAGE = st.one_of(*SERVER_MESSAGES.values())


def json_values(text: st.SearchStrategy[str], numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | numbers | text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=12,
    )


CLEAN_TEXT = st.text()
ANY_TEXT = st.text(st.characters())
"""With lone surrogates."""
CLEAN_JSON = json_values(
    CLEAN_TEXT, st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = json_values(ANY_TEXT, st.integers() | st.floats())


def as_text(value: Any) -> str:
    """JSON as other encoders may write it: with NaN, escaped lone surrogates, very long numbers."""
    return json.dumps(value)


def fault_of(value: Any, profile: Profile = "v1") -> Fault:
    fault = decode_any(as_text(value), profile)
    assert isinstance(fault, Fault), f"decoded as {fault}"
    return fault


DESCRIPTION = {"type": "offer", "sdp": "v=0"}
CANDIDATE: dict[str, Any] = {"candidate": "c", "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": "u"}
EXAMPLES: dict[str, dict[str, Any]] = {
    "join": {"username": "Budi", "topics": ["rain", "tea"], "room": "r"},
    "leave": {"reason": "tired"},
    "next": {"reason": "bored"},
    "offer": {"payload": DESCRIPTION},
    "answer": {"payload": DESCRIPTION | {"type": "answer"}},
    "candidate": {"payload": CANDIDATE},
    "chat": {"text": "hi"},
    "typing": {"active": True},
    "media": {"audio": False, "video": True},
    "status": {"media": "connected", "path": "relay", "stage": None},
    "ice": {},
    "resume": {"token": "t", "lastSeq": 5},
    "ping": {"data": "1"},
}
"""A valid message of each type, without the `type`."""


# ---------------------------------------------------------------- round trips


def test_there_is_a_strategy_for_every_message() -> None:
    assert CLIENT_MESSAGES.keys() == set(messages.FROM_CLIENT.values())
    assert SERVER_MESSAGES.keys() == set(messages.ServerMessage.__args__)


@given(ANY_CLIENT_MESSAGE)
def test_every_client_message_is_decoded_as_it_was_encoded(message: messages.ClientMessage) -> None:
    text = encode_client(message)
    assert decode_any(text, "v1") == message
    assert decode_any(text.decode(), "v1") == message
    if type(message) in messages.LEGACY_FROM_CLIENT.values():
        assert decode_any(text, "legacy") == message


@given(ANY_SERVER_MESSAGE, st.none() | st.integers(1, 1 << 53))
def test_every_server_message_is_decoded_as_it_was_encoded(
    message: messages.ServerMessage, seq: int | None
) -> None:
    text = encode(message, seq)
    assert decode_server(text) == message
    assert json.loads(text).get("seq") == seq
    assert b"\n" not in text


@given(ANY_CLIENT_MESSAGE, st.dictionaries(CLEAN_TEXT.map("x-{}".format), CLEAN_JSON, max_size=3))
def test_unknown_fields_are_ignored(message: messages.ClientMessage, unknown: dict[str, Any]) -> None:
    wire = json.loads(encode_client(message))
    if "payload" in wire:
        wire["payload"] |= unknown
    assert decode_any(as_text(wire | unknown), "v1") == message


# ---------------------------------------------------------------- wire format


def test_names_are_camel_case_on_the_wire() -> None:
    joined = messages.Joined(
        from_=ClientId("anna"),
        username="Anna",
        room_id=RoomId("r"),
        role="offerer",
        polite=False,
        topics=("rain",),
        ice_servers=(messages.IceServer(("stun:192.0.2.1",)),),
        ice_transport_policy="all",
    )
    assert json.loads(encode(joined, seq=3)) == {
        "type": "join",
        "from": "anna",
        "username": "Anna",
        "roomId": "r",
        "role": "offerer",
        "polite": False,
        "topics": ["rain"],
        "iceServers": [{"urls": ["stun:192.0.2.1"]}],
        "iceTransportPolicy": "all",
        "seq": 3,
    }


def test_a_message_for_a_legacy_client_has_no_seq() -> None:
    assert encode(messages.Ready(RoomId("r"))) == b'{"type":"ready","roomId":"r"}'


def test_a_relayed_message_has_sender_recipient_and_room() -> None:
    candidate = messages.Candidate(messages.IceCandidate("candidate:1", "0", 0))
    relayed = messages.Relayed(candidate, ClientId("anna"), ClientId("me"), RoomId("r"), "Anna")
    assert json.loads(encode(relayed)) == {
        "type": "candidate",
        "payload": {"candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 0},
        "from": "anna",
        "to": "me",
        "roomId": "r",
        "username": "Anna",
    }


@pytest.mark.parametrize("claim", ["from", "to", "roomId", "username", "seq"])
def test_sender_and_room_in_a_clients_message_are_ignored(claim: str) -> None:
    assert decode_any(as_text({"type": "chat", "text": "hi", claim: "somebody else"}), "v1") == messages.Chat("hi")


def test_absent_optional_fields_are_not_encoded() -> None:
    assert encode_client(messages.Leave()) == b'{"type":"leave"}'
    assert json.loads(encode(messages.Left(ClientId("a"), RoomId("r"), LeaveReason.PEER_LOST))) == {
        "type": "leave",
        "from": "a",
        "roomId": "r",
        "reason": "peer_lost",
    }


def test_limits_have_their_wire_names() -> None:
    limits = messages.Limits(1, 2, 3, 4, 5, 6.0, 7, 8.0, 9)
    names = [
        *("messageBytes", "chatCharacters", "topics", "topicCharacters", "usernameCharacters"),
        *("messagesPerSecond", "messageBurst", "bytesPerSecond", "byteBurst"),
    ]
    assert limits_to_wire(limits) == dict(zip(names, range(1, 10), strict=True))
    welcome = messages.Welcome(ClientId("me"), limits, (), 20.0)
    assert json.loads(encode(welcome))["limits"] == limits_to_wire(limits)


def test_messages_of_the_seeds_clients_are_decoded() -> None:
    """Messages as its readme and its page write them."""
    candidate: dict[str, Any] = {"candidate": "candidate:...", "sdpMid": "0", "sdpMLineIndex": 0}
    assert decode_any('{"type": "join", "username": "User123"}', "legacy") == messages.Join("User123")
    assert decode_any('{"type": "leave"}', "legacy") == messages.Leave()
    assert decode_any(as_text({"type": "candidate", "payload": candidate}), "legacy") == messages.Candidate(
        messages.IceCandidate(**candidate)
    )


# ---------------------------------------------------------------- arbitrary input


@given(st.one_of(st.text(), st.binary(), JSON.map(as_text), JSON.map(lambda value: as_text(value).encode())))
@example("\ud800")
@example('"\\ud800"')
@example("1e999")
@example("[" * 100_000)
@example('{"type":' * 5_000)
@example('{"type":"chat","text":"' + "x" * 100_000)
def test_any_text_gives_a_message_or_a_fault(text: str | bytes) -> None:
    for profile in VOCABULARY:
        assert isinstance(decode_any(text, profile), Fault | messages.ClientMessage)
    assert isinstance(decode_server(text), Fault | messages.ServerMessage)


FIELD_NAMES = st.sampled_from(
    ["type", "username", "topics", "room", "reason", "payload", "text", "media", "data", *DESCRIPTION, *CANDIDATE]
)
ENVELOPE = st.builds(
    lambda kind, fields: EXAMPLES.get(kind, {}) | fields | {"type": kind},
    st.sampled_from([*messages.FROM_CLIENT, *messages.OPTIONAL, "unknown"]),
    st.dictionaries(FIELD_NAMES, JSON | st.dictionaries(FIELD_NAMES, JSON), max_size=3),
)
"""Valid messages with arbitrary values in some fields."""


@given(ENVELOPE)
def test_any_object_gives_a_message_or_a_fault(value: dict[str, Any]) -> None:
    for profile in VOCABULARY:
        assert isinstance(decode_any(as_text(value), profile), Fault | messages.ClientMessage)


@given(ENVELOPE)
def test_nothing_is_coerced(value: dict[str, Any]) -> None:
    """A decoded message is encoded again with the same values, of the same JSON types. The exceptions have several
    notations: whole numbers, unpaired surrogates, the end of candidates."""
    message = decode_any(as_text(value), "v1")
    if isinstance(message, Fault):
        return
    for before, after in pairs_of_leaves(value, json.loads(encode_client(message))):
        if before is None and after in ("", {"candidate": ""}):
            assert isinstance(message, messages.Candidate)
        elif isinstance(before, float) and isinstance(after, int):
            assert before == after
        else:
            assert (type(before), well_formed(before)) == (type(after), after)


def well_formed(value: Any) -> Any:
    """A string without unpaired surrogates; anything else as it is."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def pairs_of_leaves(before: Any, after: Any) -> Iterator[tuple[Any, Any]]:
    """Corresponding values of two JSON values; names that only one of them has are left out."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in after.keys() & before.keys():
            yield from pairs_of_leaves(before[name], after[name])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for pair in zip(before, after, strict=True):
            yield from pairs_of_leaves(*pair)
    else:
        yield before, after


def test_a_message_must_be_an_object_with_a_type() -> None:
    for not_an_object in ([], "join", 5, 1.5, True, None, [{"type": "join"}]):
        assert fault_of(not_an_object).code is ErrorCode.BAD_MESSAGE
    for no_type in ({}, {"Type": "join"}):
        assert fault_of(no_type) == Fault(ErrorCode.BAD_MESSAGE, "required field is missing @ $.type")
    wrong_types: list[Any] = [None, 5, ["join"], {}]
    for wrong_type in wrong_types:
        fault = fault_of({"type": wrong_type})
        assert fault.code is ErrorCode.BAD_MESSAGE
        assert re.fullmatch(r"must be a string, not .+ @ \$\.type", fault.message)


@pytest.mark.shows("P-3.5")
@pytest.mark.parametrize(
    ("message", "explanation"),
    [
        ([], "must be an object, not an array @ $"),
        ({"type": "chat"}, "required field is missing @ $.text"),
        ({"type": "chat", "text": ""}, "must have 1 to 2000 characters, not 0 @ $.text"),
        ({"type": "join", "topics": ["a"] * 6}, "must have at most 5 items, not 6 @ $.topics"),
        ({"type": "join", "topics": ["a", 7]}, "must be a string, not a whole number @ $.topics[1]"),
        ({"type": "join", "username": "a\nb"}, "must have no control characters @ $.username"),
        ({"type": "resume", "token": "x", "lastSeq": -1}, f"must be 0 to {messages.LARGEST_SEQ} @ $.lastSeq"),
        ({"type": "offer", "payload": {"type": "answer", "sdp": "x"}}, "must be 'offer' @ $.payload.type"),
        ({"type": "offer", "payload": {"type": "offer", "sdp": ""}}, "$.payload.sdp"),
        ({"type": "candidate", "payload": {"candidate": "", "sdpMLineIndex": 65536}}, "$.payload.sdpMLineIndex"),
        ({"type": "ping", "id": 7}, "must be a string of at most 64 characters @ $.id"),
    ],
)
def test_every_fault_names_its_path_in_one_form(message: Any, explanation: str) -> None:
    assert fault_of(message).message.endswith(explanation)


def test_the_faults_of_one_message_are_joined() -> None:
    fault = fault_of({"type": "status", "media": "x", "path": "y"})
    problems = ["must be one of connected, failed @ $.media", "must be one of host, srflx, prflx, relay @ $.path"]
    assert fault.message == "; ".join(problems)


@pytest.mark.parametrize("kind", ["", "welcome", "Join", "join ", "x" * 1000])
@EITHER_PROFILE
def test_an_unknown_type_gets_a_list_of_the_known_types(kind: str, profile: Profile) -> None:
    fault = fault_of({"type": kind}, profile)
    assert (fault.code, fault.ref) == (ErrorCode.UNKNOWN_TYPE, kind[:64])
    assert fault.message.endswith(": " + ", ".join(VOCABULARY[profile]))


@pytest.mark.parametrize("kind", sorted(messages.OPTIONAL))
def test_an_optional_type_that_the_server_lacks_is_unsupported(kind: str) -> None:
    fault = decode(as_text({"type": kind}), "v1")
    assert isinstance(fault, Fault)
    assert (fault.code, fault.ref) == (ErrorCode.UNSUPPORTED, kind)


def test_types_that_the_server_lacks_are_not_listed_as_known() -> None:
    fault = decode(as_text({"type": "x"}), "v1")
    assert isinstance(fault, Fault)
    assert not messages.OPTIONAL & set(fault.message.split(": ")[1].split(", "))


@pytest.mark.parametrize(
    "kind", sorted(messages.OPTIONAL | messages.FROM_CLIENT.keys() - messages.LEGACY_FROM_CLIENT.keys())
)
def test_later_types_are_unknown_for_a_legacy_client(kind: str) -> None:
    assert fault_of({"type": kind}, "legacy").code is ErrorCode.UNKNOWN_TYPE


# ---------------------------------------------------------------- invalid values for every field


@attrs.frozen
class Field:
    """The values that one field of a message accepts and refuses."""

    message: str
    path: tuple[str | int, ...]
    types: tuple[str, ...]
    required: bool = False
    out_of_range: tuple[Any, ...] = ()
    """Values of the right type that are invalid nevertheless."""

    def __str__(self) -> str:
        return self.message + self.json_path[1:]

    @property
    def json_path(self) -> str:
        return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)

    def corrupt(self, value: Any) -> dict[str, Any]:
        """The example message with this value in the field."""
        message: dict[str, Any] = json.loads(as_text({"type": self.message, **EXAMPLES[self.message]}))
        self._parent(message)[self.path[-1]] = value
        return message

    def omit(self) -> dict[str, Any]:
        """The example message without the field."""
        message = self.corrupt(None)
        del self._parent(message)[self.path[-1]]
        return message

    def _parent(self, message: dict[str, Any]) -> Any:
        """The object or array that has the field."""
        place: Any = message
        for step in self.path[:-1]:
            place = place[step]
        return place


TEXT, TEXT_OR_NONE = ("string",), ("string", "null")
TOO_LONG = ("x" * 257,)
FIELDS = [
    Field("join", ("username",), TEXT_OR_NONE, out_of_range=("", "x" * 65, "a\nb", "\x00", "a\x7fb", "\x85")),
    Field("join", ("topics",), ("array",), out_of_range=(["a"] * 6,)),
    Field("join", ("topics", 1), TEXT, out_of_range=("", "x" * 33)),
    Field("join", ("room",), TEXT_OR_NONE, out_of_range=("", "x" * 65)),
    Field("leave", ("reason",), TEXT_OR_NONE, out_of_range=TOO_LONG),
    Field("next", ("reason",), TEXT_OR_NONE, out_of_range=TOO_LONG),
    Field("offer", ("payload",), ("object",), required=True),
    Field("offer", ("payload", "type"), TEXT, required=True, out_of_range=("answer", "pranswer", "")),
    Field("offer", ("payload", "sdp"), TEXT, required=True, out_of_range=("", "x" * ((1 << 20) + 1))),
    Field("answer", ("payload",), ("object",), required=True),
    Field("answer", ("payload", "type"), TEXT, required=True, out_of_range=("offer", "rollback")),
    Field("answer", ("payload", "sdp"), TEXT, required=True, out_of_range=("",)),
    Field("candidate", ("payload",), ("object", "null"), required=True),
    Field("candidate", ("payload", "candidate"), TEXT_OR_NONE, out_of_range=("x" * 1025,)),
    Field("candidate", ("payload", "sdpMid"), TEXT_OR_NONE, out_of_range=TOO_LONG),
    Field("candidate", ("payload", "sdpMLineIndex"), ("whole", "null"), out_of_range=(-1, 65536, 1 << 63, 1e300)),
    Field("candidate", ("payload", "usernameFragment"), TEXT_OR_NONE, out_of_range=TOO_LONG),
    Field("chat", ("text",), TEXT, required=True, out_of_range=("", "x" * 2001)),
    Field("typing", ("active",), ("boolean",), required=True),
    Field("media", ("audio",), ("boolean",), required=True),
    Field("media", ("video",), ("boolean",), required=True),
    Field("status", ("media",), TEXT, required=True, out_of_range=("Connected", "")),
    Field("status", ("path",), TEXT_OR_NONE, out_of_range=("direct", "")),
    Field("status", ("stage",), TEXT_OR_NONE, out_of_range=("ice", "")),
    Field("resume", ("token",), TEXT, required=True, out_of_range=("", "x" * 257)),
    Field("resume", ("lastSeq",), ("whole",), required=True, out_of_range=(-1, 1 << 53, 1 << 80)),
    Field("ping", ("data",), TEXT_OR_NONE, out_of_range=TOO_LONG),
]

VALUES: dict[str, list[Any]] = {
    "null": [None],
    "boolean": [True, False],
    "whole": [0, 1, -1, 1 << 63],
    "fraction": [-1.5, 0.5, 1e-300],
    "string": ["1", "true", "null", "[]", "0"],
    "array": [[], ["a"], [0], [[]]],
    "object": [{}, {"0": "a"}],
}
"""JSON values by type. An integer that does not fit into 64 bits is decoded as a fraction."""

WRONG_TYPES = [
    (field, value)
    for field in FIELDS
    for kind, values in VALUES.items()
    if kind not in field.types
    for value in values
]


def test_every_field_of_every_message_is_listed() -> None:
    def paths(message: str, value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, tuple[str, ...]]]:
        inner = value.items() if isinstance(value, dict) else ()
        own = {(message, path)} if path else set()
        return own.union(*(paths(message, item, (*path, name)) for name, item in inner))

    listed = {(field.message, field.path) for field in FIELDS if 1 not in field.path}
    assert listed == set().union(*(paths(message, fields) for message, fields in EXAMPLES.items()))
    for name, kind in messages.FROM_CLIENT.items():
        assert EXAMPLES[name].keys() == set(map(wire_name, attrs.fields_dict(kind)))


@pytest.mark.parametrize("message", EXAMPLES)
def test_an_example_is_valid(message: str) -> None:
    assert isinstance(
        decode_any(as_text({"type": message, **EXAMPLES[message]}), "v1"), messages.FROM_CLIENT[message]
    )


@pytest.mark.parametrize(("field", "value"), WRONG_TYPES, ids=str)
def test_a_value_of_the_wrong_type_is_refused_with_its_path(field: Field, value: Any) -> None:
    fault = fault_of(field.corrupt(value))
    assert (fault.code, fault.ref) == (ErrorCode.BAD_MESSAGE, field.message)
    assert fault.message.endswith(f"@ {field.json_path}")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "must be a string, not null"),
        (True, "must be a string, not true or false"),
        (5, "must be a string, not a whole number"),
        (0.5, "must be a string, not a number"),
        (["a"], "must be a string, not an array"),
        ({}, "must be a string, not an object"),
    ],
    ids=repr,
)
def test_an_error_names_the_wrong_json_type(value: Any, error: str) -> None:
    assert fault_of({"type": "chat", "text": value}) == Fault(ErrorCode.BAD_MESSAGE, f"{error} @ $.text", "chat")


def test_an_error_names_the_limit_and_the_actual_length() -> None:
    fault = fault_of({"type": "chat", "text": "x" * 2001})
    assert fault.message == "must have 1 to 2000 characters, not 2001 @ $.text"


def test_an_error_uses_wire_names() -> None:
    assert fault_of({"type": "resume", "token": "x"}).message == "required field is missing @ $.lastSeq"
    fault = fault_of({"type": "resume", "token": "x", "lastSeq": -1})
    assert fault.message == f"must be 0 to {messages.LARGEST_SEQ} @ $.lastSeq"


@pytest.mark.parametrize("field", [field for field in FIELDS if field.required], ids=str)
def test_a_missing_required_field_is_reported_with_its_path(field: Field) -> None:
    fault = fault_of(field.omit())
    expected = f"required field is missing @ {field.json_path}"
    assert fault == Fault(ErrorCode.BAD_MESSAGE, expected, field.message)


@pytest.mark.parametrize(
    "field", [field for field in FIELDS if not field.required and 1 not in field.path], ids=str
)
def test_an_optional_field_may_be_absent(field: Field) -> None:
    assert isinstance(decode_any(as_text(field.omit()), "v1"), messages.FROM_CLIENT[field.message])


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in FIELDS for value in field.out_of_range],
    ids=lambda value: str(value)[:20],
)
def test_a_value_out_of_range_is_refused_with_its_field(field: Field, value: Any) -> None:
    fault = fault_of(field.corrupt(value))
    assert (fault.code, fault.ref) == (ErrorCode.BAD_MESSAGE, field.message)
    [name, *_] = [step for step in reversed(field.path) if isinstance(step, str)]
    assert name in fault.message
    assert "$" in fault.message


def test_all_wrong_types_of_a_message_are_reported_at_once() -> None:
    fault = fault_of({"type": "join", "username": 5, "topics": "abc", "room": ["r"]})
    for path in ("$.username", "$.topics", "$.room"):
        assert path in fault.message


@pytest.mark.parametrize("item", [0, None, "x" * 33, [], {}], ids=repr)
def test_the_errors_of_a_long_array_are_limited_in_length(item: Any) -> None:
    """Otherwise a small message would cost the server far more than its sender."""
    fault = fault_of({"type": "join", "topics": [item] * 20_000})
    assert fault.code is ErrorCode.BAD_MESSAGE
    assert "topics" in fault.message
    assert len(fault.message) < 2000


SECRET = "k7secret"


@pytest.mark.parametrize("field", FIELDS, ids=str)
@pytest.mark.parametrize(
    "value",
    [SECRET, SECRET * 300_000, [SECRET], {SECRET: SECRET}, [[SECRET]] * 7, SECRET + "\n"],
    ids=["text", "long text", "list", "object", "lists", "line"],
)
def test_an_error_does_not_quote_values(field: Field, value: Any) -> None:
    outcome = decode_any(as_text(field.corrupt(value)), "v1")
    if isinstance(outcome, Fault):
        assert SECRET not in outcome.message


@pytest.mark.parametrize("text", [SECRET, f'{{"type":"chat","text":"{SECRET}', f'"{SECRET}"', f'["{SECRET}"]'])
def test_an_error_does_not_quote_text_that_is_not_a_message(text: str) -> None:
    fault = decode_any(text, "v1")
    assert isinstance(fault, Fault)
    assert SECRET not in repr(fault)


def test_only_an_integer_is_accepted_for_an_integer() -> None:
    """Not `true`, 1.5 or "1"."""
    field = next(field for field in FIELDS if field.path == ("payload", "sdpMLineIndex"))
    read = [decode_any(as_text(field.corrupt(value)), "v1") for value in (1, True, 1.5, "1")]
    assert [type(message) for message in read] == [messages.Candidate, Fault, Fault, Fault]


@pytest.mark.shows("P-3.4")
@pytest.mark.parametrize("number", ["7", "7.0", "70e-1", "0.7e1"])
def test_an_integer_may_have_a_fraction_of_zero_or_an_exponent(number: str) -> None:
    message = decode_any(f'{{"type":"resume","token":"t","lastSeq":{number}}}', "v1")
    assert message == messages.Resume("t", 7)
    assert isinstance(message, messages.Resume)
    assert type(message.last_seq) is int


@pytest.mark.shows("P-6.8")
@EITHER_PROFILE
@pytest.mark.parametrize("payload", [None, {}, {"candidate": None}, {"candidate": ""}, {"usernameFragment": None}])
def test_the_end_of_candidates_is_decoded_in_every_notation(
    payload: dict[str, Any] | None, profile: Profile
) -> None:
    message = decode_any(as_text({"type": "candidate", "payload": payload}), profile)
    assert message == messages.Candidate(messages.IceCandidate(""))


@pytest.mark.shows("P-6.8")
def test_the_end_of_candidates_keeps_the_media_description_that_it_is_for() -> None:
    payload = {"sdpMid": "1", "sdpMLineIndex": 1, "usernameFragment": "u"}
    message = decode_any(as_text({"type": "candidate", "payload": payload}), "v1")
    assert message == messages.Candidate(messages.IceCandidate("", "1", 1, "u"))


@pytest.mark.shows("P-2.17")
@EITHER_PROFILE
@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"\ud83d", "\ufffd"),
        (r"\ude00", "\ufffd"),
        (r"a\uD83Db", "a\ufffdb"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\\ud83d\ud83d", "\\ud83d\ufffd"),
        (r"\ud83d\ude00", "\U0001f600"),
    ],
)
def test_an_unpaired_surrogate_is_read_as_a_replacement_character(
    written: str, read: str, profile: Profile
) -> None:
    text = f'{{"type":"join","username":"{written}"}}'
    assert decode_any(text, profile) == messages.Join(read)
    assert decode_any(text.encode(), profile) == messages.Join(read)


def test_what_is_no_json_is_not_made_json_by_an_unpaired_surrogate() -> None:
    for wrong in ("NaN", "[" * 5000 + "]" * 5000, "1" * 5000, "}"):
        fault = decode_any(rf'{{"type":"chat","text":"\ud83d","x":{wrong}}}', "v1")
        assert isinstance(fault, Fault)
        assert fault.message.startswith("not JSON: ")


def test_an_sdp_is_decoded_unchanged() -> None:
    sdp = "v=0\r\n\u00e9\U0001f600\x00\x7f" * 100
    message = decode_any(as_text({"type": "offer", "payload": {"type": "offer", "sdp": sdp}}), "v1")
    assert isinstance(message, messages.Offer)
    assert message.payload.sdp == sdp


@pytest.mark.parametrize(
    ("corrupt", "path"),
    [
        ({"roomId": 5}, "$.roomId"),
        ({"from": None}, "$.from"),
        ({"username": ["A"]}, "$.username"),
        ({"text": 5}, "$.text"),
    ],
    ids=str,
)
def test_a_client_refuses_an_invalid_server_message(corrupt: dict[str, Any], path: str) -> None:
    wire = {"type": "chat", "text": "hi", "from": "a", "to": "b", "roomId": "r", "username": "A"}
    assert decode_server(as_text(wire)) == messages.Relayed(
        messages.Chat("hi"), ClientId("a"), ClientId("b"), RoomId("r"), "A"
    )
    fault = decode_server(as_text(wire | corrupt))
    assert isinstance(fault, Fault)
    assert path in fault.message


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        ({"type": "leave", "from": "a", "roomId": "r", "reason": "bored"}, "must be one of left, next, peer_lost"),
        (
            {"type": "error", "code": "bored", "message": "m", "fatal": False},
            "must be one of bad_message, unknown_type",
        ),
        ({"type": "goaway", "reason": "", "retryAfterSeconds": 5}, "must be one of left, next, peer_lost"),
        ({"type": "leave", "from": "a", "roomId": "r", "reason": 5}, "must be a string, not a whole number"),
    ],
    ids=str,
)
def test_unknown_reasons_and_codes_are_refused(wire: dict[str, Any], error: str) -> None:
    fault = decode_server(as_text(wire))
    assert isinstance(fault, Fault)
    assert error in fault.message


def test_a_reason_is_decoded_as_a_leave_reason() -> None:
    left = decode_server('{"type":"leave","from":"a","roomId":"r","reason":"next"}')
    assert isinstance(left, messages.Left)
    assert left.reason is LeaveReason.NEXT


def test_an_unknown_server_message_gives_unknown_type() -> None:
    fault = decode_server('{"type":"applause"}')
    assert isinstance(fault, Fault)
    assert (fault.code, fault.ref) == (ErrorCode.UNKNOWN_TYPE, "applause")
