"""The generated documents are up to date, and the schemas accept exactly what the codec accepts.

From a server they accept more than its codec: reasons and error codes that a later version may add. What a client
accepts is what the Python client's `parse` does.
"""

import re
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any, get_args

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curhat_trio.cli import main
from curhat_trio.client.events import Disconnected
from curhat_trio.client.websocket import parse
from curhat_trio.documents.definitions import Sender, definitions, message_titles
from curhat_trio.documents.schemas import client_schemas, direction_schema, server_schemas
from curhat_trio.protocol.codec import decode, encode, encode_client
from curhat_trio.protocol.errors import Fault
from curhat_trio.protocol.events import ConnectionLost, DeadlinePassed, Event, MessageReceived, SessionResumed
from curhat_trio.protocol.messages import FROM_CLIENT, OPTIONAL, Candidate
from curhat_trio.protocol.session import TABLE, step
from curhat_trio.protocol.states import Closed, State
from curhat_trio.specification import diagrams, differences, documents, write
from tests.conversation import RULES, Conversation, connected, negotiating, paired, waiting
from tests.vocabulary import CLIENT_MESSAGES, SERVER_MESSAGES

GENERATED = Path(__file__).parents[2] / "spec" / "generated"


def validators(schemas: dict[str, Any]) -> dict[str, jsonschema.Draft202012Validator]:
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    return {name: jsonschema.Draft202012Validator(schema) for name, schema in schemas.items()}


CLIENT = validators(client_schemas())
SERVER = validators(server_schemas())

UNUSUAL: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 65536, 0.5, "", "x", "x" * 300, "a\nb", [], ["x"] * 6, [1], {}]
)


@st.composite
def nearly(draw: st.DrawFn, message: st.SearchStrategy[bytes]) -> dict[str, Any]:
    """A message as JSON, with something at any depth added, removed or replaced, or as it is."""
    value: dict[str, Any] = orjson.loads(draw(message))
    places = [value, *(inner for inner in value.values() if isinstance(inner, dict))]
    place = draw(st.sampled_from(places))
    keys = st.sampled_from(sorted(place))
    match draw(st.sampled_from(["keep", "remove", "replace", "add"])):
        case "remove":
            del place[draw(keys)]
        case "replace":
            place[draw(keys)] = draw(UNUSUAL)
        case "add":
            place[draw(st.text(max_size=3))] = draw(UNUSUAL)
    return value


def accepts(schemas: dict[str, jsonschema.Draft202012Validator], value: dict[str, Any]) -> bool:
    name = value.get("type")
    return isinstance(name, str) and name in schemas and bool(schemas[name].is_valid(value))


def understands(value: dict[str, Any]) -> bool:
    """Whether a client understands this message of a server."""
    try:
        return parse(orjson.dumps(value).decode())[0] is not None
    except Disconnected:
        return False


_IDS = st.none() | st.sampled_from(["", "1", "x" * 64])


@given(nearly(st.builds(encode_client, st.one_of(*CLIENT_MESSAGES.values()), _IDS)))
def test_the_codec_accepts_what_the_client_schemas_accept(value: dict[str, Any]) -> None:
    assert accepts(CLIENT, value) == (not isinstance(decode(orjson.dumps(value), "v1", OPTIONAL), Fault))


@given(nearly(st.one_of(*SERVER_MESSAGES.values()).map(lambda message: encode(message, seq=1))))
def test_a_client_understands_what_the_server_schemas_accept(value: dict[str, Any]) -> None:
    numbered = type(value.get("seq")) is int and value["seq"] >= 1
    assert accepts(SERVER, value) == (understands(value) and numbered)


@pytest.mark.parametrize("sender", get_args(Sender))
def test_the_schema_of_a_direction_accepts_what_one_of_its_messages_accepts(sender: Sender) -> None:
    everything = jsonschema.Draft202012Validator(direction_schema(sender))
    by_type = CLIENT if sender == "client" else SERVER
    for name, title in message_titles(sender).items():
        for example in definitions()[title]["examples"]:
            assert everything.is_valid(example)
            assert by_type[name].is_valid(example)
            for field in example:
                broken = {**example, field: []}
                is_array = field in ("features", "iceServers", "topics")
                assert everything.is_valid(broken) == by_type[name].is_valid(broken) == is_array


@pytest.mark.parametrize("name", ["\n", "Ann\n", "\nAnn", "A\x85", "Ann", None])
def test_codec_and_schema_refuse_the_same_control_characters(name: str | None) -> None:
    """Also for validators in languages where `$` in a pattern stands before a last line's end too."""
    value = {"type": "join", "username": name}
    assert (
        accepts(CLIENT, value)
        == (not isinstance(decode(orjson.dumps(value), "v1"), Fault))
        == (name in ("Ann", None))
    )


@pytest.mark.parametrize("name", FROM_CLIENT)
def test_codec_and_schema_accept_the_same_ids(name: str) -> None:
    example = definitions()[message_titles("client")[name]]["examples"][0]
    ids: list[tuple[Any, bool]] = [
        ("", True),
        ("x" * 64, True),
        ("x" * 65, False),
        (None, True),
        (5, False),
        ([], False),
    ]
    for id, is_valid in ids:
        value = {**example, "id": id}
        understood = not isinstance(decode(orjson.dumps(value), "v1", OPTIONAL), Fault)
        assert understood == accepts(CLIENT, value) == is_valid


@pytest.mark.parametrize("payload", [None, {}, {"candidate": None}, {"candidate": ""}, {"sdpMid": "0"}])
def test_codec_and_schemas_accept_the_end_of_candidates_in_each_notation_of_a_client(payload: object) -> None:
    value = {"type": "candidate", "payload": payload}
    assert isinstance(decode(orjson.dumps(value), "v1"), Candidate)
    assert accepts(CLIENT, value)
    relayed = {**value, "from": "a", "to": "b", "roomId": "r", "username": "A", "seq": 1}
    assert understands(relayed) == accepts(SERVER, relayed) == (payload == {"candidate": ""})


@pytest.mark.parametrize("items", [32, 33])
@pytest.mark.parametrize("place", ["iceServers", "urls", "topics"])
def test_codec_and_schema_have_the_same_limit_for_arrays(place: str, items: int) -> None:
    servers: list[Any] = [{"urls": ["stun:s"] * (items if place == "urls" else 1)}]
    value = {
        "type": "join",
        "from": "a",
        "username": "A",
        "roomId": "r",
        "role": "offerer",
        "polite": False,
        "topics": ["rain"] * (items if place == "topics" else 0),
        "iceServers": servers * (items if place == "iceServers" else 1),
        "iceTransportPolicy": "all",
        "seq": 1,
    }
    assert understands(value) == accepts(SERVER, value) == (items <= 32)


def test_the_folder_is_up_to_date() -> None:
    assert differences(GENERATED) == []


def test_the_command_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spec", str(tmp_path)]) == 0
    assert main(["spec", "--check", str(tmp_path)]) == 0
    (tmp_path / "states.md").write_text("something else")
    (tmp_path / "errors.md").unlink()
    (tmp_path / "stray.md").touch()
    assert main(["spec", "--check", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert all(f"{tmp_path / name}: out of date" in printed for name in ("states.md", "errors.md", "stray.md"))
    write(tmp_path)
    assert differences(tmp_path) == []


TRANSITIONS = {
    (state.__name__.lower(), end.__name__.lower()) for (state, _), row in TABLE.items() for end in row.to
}
"""(from, to) for each way from one state to another that the table has."""

OUTSIDE = {(diagrams.LIVE, diagrams.AWAY), (diagrams.AWAY, diagrams.LIVE), (diagrams.AWAY, diagrams.CLOSED)}


def test_the_picture_has_the_transitions_of_the_table_and_no_others() -> None:
    drawn = set(diagrams.edges()) - OUTSIDE
    assert (diagrams.LIVE, diagrams.CLOSED) in drawn
    shared = {(state, diagrams.CLOSED) for state in diagrams.LIVE_STATES}
    assert drawn - {(diagrams.LIVE, diagrams.CLOSED)} | shared == TRANSITIONS


def test_every_event_of_a_transition_is_in_the_picture() -> None:
    drawn = diagrams.edges()
    for (state, kind), row in TABLE.items():
        for end in row.to:
            labels = [
                label
                for start in (state.__name__.lower(), diagrams.LIVE)
                for label in drawn.get((start, end.__name__.lower()), [])
            ]
            if kind in FROM_CLIENT.values() and kind is not Candidate:
                assert kind.type in labels
            assert labels


@pytest.mark.parametrize("begin", [connected, waiting, paired, negotiating])
def test_a_session_is_away_as_the_picture_shows_it(begin: Callable[[], Conversation]) -> None:
    assert set(diagrams.edges()) >= OUTSIDE
    talk = begin()
    state = talk.state
    talk.after(ConnectionLost(0.0))
    assert (talk.session.away_until, talk.state) == (RULES.resume_seconds, state)
    resumed = step(talk.session, SessionResumed("a-fresh-token", 0))[0]
    assert (resumed.away_until, resumed.state) == (None, state)
    gone = step(talk.session, DeadlinePassed(RULES.resume_seconds))[0]
    assert gone.state == Closed()


def test_nothing_in_the_picture_covers_a_label() -> None:
    placed = diagrams.layout()
    labels = [*placed.labels.values(), *placed.notes]
    for label in labels:
        assert diagrams.PAPER.contains(label.box), label
        others = [other.box for other in labels if other is not label]
        segments = [segment for line in placed.lines.values() for segment in line.segments()]
        for box in [*others, *placed.states.values(), *segments]:
            assert not label.box.overlaps(box), label
    for one, other in combinations(placed.states.values(), 2):
        assert not one.overlaps(other)


def test_everything_that_is_placed_is_drawn() -> None:
    placed, svg = diagrams.layout(), documents()["states.svg"]
    assert set(placed.lines) == set(placed.labels) == set(diagrams.edges())
    assert re.findall(r'class="name"[^>]*>(\w+)<', svg) == [*diagrams.LIVE_STATES, diagrams.AWAY, diagrams.CLOSED]
    assert svg.count("<polyline") == len(placed.lines) + 1  # and the one where a session begins
    texts = [re.sub("<.*?>", "", text) for text in re.findall(r"<text .*?</text>", svg)]
    for label in placed.labels.values():
        assert {", ".join(line) for line in label.lines} <= set(texts)


def test_the_mermaid_diagram_has_every_edge() -> None:
    drawn = re.findall(r"(\w+) --> (\w+) : (.+)", documents()["states.mermaid"])
    assert {(start, end): labels.split(", ") for start, end, labels in drawn} == diagrams.edges()


def test_the_table_of_the_formal_model_has_every_state_and_event() -> None:
    drawn = documents()["SessionTable.tla"]
    found: dict[tuple[str, str], tuple[str, set[str]]] = {}
    for state, rows in re.findall(r"^  (\w+) \|-> \[\n(.+?)\]", drawn, re.MULTILINE | re.DOTALL):
        for event, rule, to in re.findall(r'(\w+) \|-> Row\("(\w+)", \{(.*)\}\)', rows):
            found[state, event] = rule, set(re.findall(r"\w+", to))
    others = [kind for kind in get_args(Event) if kind is not MessageReceived]
    for state, kind in product(get_args(State), (*FROM_CLIENT.values(), *others)):
        row = TABLE.get((state, kind))
        refused = kind in FROM_CLIENT.values() and state is not Closed
        expected = (
            (row.rule.__name__, {end.__name__.lower() for end in row.to})
            if row
            else ("wrong_state" if refused else "ignore", set())
        )
        assert found.pop((state.__name__.lower(), getattr(kind, "type", kind.__name__))) == expected
    assert not found
