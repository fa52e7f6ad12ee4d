"""The log: one line per event, nothing in it that must not be, nothing a client can forge."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from curhat_trio.log import NEVER_LOGGED, configure_logging, get_logger

TIMESTAMP = r"timestamp=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "trio-websocket", "chatty")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def after_timestamp(line: str) -> str:
    return line.partition(" ")[2]


def test_console_is_time_level_event_and_then_the_rest(stream: io.StringIO) -> None:
    configure_logging("info", "console", stream)
    get_logger("curhat_trio.rooms").info("room opened", room="r-1", waited_seconds=2.5, said="two words")
    line = stream.getvalue()
    assert line.endswith("\n")
    assert after_timestamp(line.rstrip("\n")) == (
        'level=info event="room opened" logger=curhat_trio.rooms room=r-1 waited_seconds=2.5 said="two words"'
    )


def test_json_is_one_object_in_the_same_order(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    get_logger("rooms").warning("room opened", room="r-1", waited_seconds=2.5)
    event = json.loads(stream.getvalue())
    assert list(event) == ["timestamp", "level", "event", "logger", "room", "waited_seconds"]
    event.pop("timestamp")
    assert event == {
        "level": "warning",
        "event": "room opened",
        "logger": "rooms",
        "room": "r-1",
        "waited_seconds": 2.5,
    }


def test_time_is_utc_in_iso_8601(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    before = datetime.now(UTC)
    get_logger("x").info("now")
    text = json.loads(stream.getvalue())["timestamp"]
    assert text.endswith("Z")
    assert before <= datetime.fromisoformat(text) <= datetime.now(UTC)


def test_auto_is_console_on_a_terminal_and_json_elsewhere(stream: io.StringIO) -> None:
    terminal = Terminal()
    configure_logging("info", "auto", terminal)
    get_logger("x").info("hello")
    configure_logging("info", "auto", stream)
    get_logger("x").info("hello")
    assert after_timestamp(terminal.getvalue()) == "level=info event=hello logger=x\n"
    assert json.loads(stream.getvalue())["event"] == "hello"


def test_stderr_is_the_default_and_looked_up_when_configuring(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    get_logger("x").info("hello")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "hello"


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_filters(stream: io.StringIO, level: str, lines: int) -> None:
    configure_logging(level, "json", stream)
    log = get_logger("x")
    log.debug("1")
    log.info("2")
    log.warning("3")
    log.error("4")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == list("1234")[-lines:]


def test_unknown_level_and_format_are_refused(stream: io.StringIO) -> None:
    with pytest.raises(ValueError, match=r"^unknown level 'loud'; expected one of debug, info, warning, error$"):
        configure_logging("loud", "json", stream)
    with pytest.raises(ValueError, match=r"^unknown format 'xml'; expected auto, console or json$"):
        configure_logging("info", "xml", stream)


def test_a_logger_made_before_obeys_a_later_configuration(stream: io.StringIO) -> None:
    log = get_logger("x")
    first = io.StringIO()
    configure_logging("error", "json", first)
    log.info("lost")
    configure_logging("info", "json", stream)
    log.info("kept")
    logging.getLogger("library").warning("once")
    assert first.getvalue() == ""
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["kept", "once"]


def test_bound_values_are_on_every_event(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    with structlog.contextvars.bound_contextvars(connection="c-1", room="r-1"):
        get_logger("x").info("ours")
        logging.getLogger("library").warning("theirs")
    for line in stream.getvalue().splitlines():
        event = json.loads(line)
        assert (event["connection"], event["room"]) == ("c-1", "r-1")


# A bug's traceback


def log_a_bug() -> None:
    def fail() -> None:
        raise ValueError("boom\n2030-01-01T00:00:00Z forged \x1b[31m")

    try:
        fail()
    except ValueError:
        get_logger("x").exception("bug", room="r-1")


def test_a_traceback_is_one_line_in_json(stream: io.StringIO) -> None:
    configure_logging("info", "json", stream)
    log_a_bug()
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert (event["level"], event["event"], event["room"]) == ("error", "bug", "r-1")
    assert event["exception"].startswith("Traceback (most recent call last):\n")
    assert "ValueError: boom" in event["exception"]


def test_a_traceback_on_the_console_is_behind_a_bar(stream: io.StringIO) -> None:
    configure_logging("info", "console", stream)
    log_a_bug()
    first, *rest = stream.getvalue().splitlines()
    assert after_timestamp(first) == "level=error event=bug logger=x room=r-1"
    assert rest[0] == "    | Traceback (most recent call last):"
    assert rest[-2:] == ["    | ValueError: boom", "    | 2030-01-01T00:00:00Z forged \\x1b[31m"]
    assert all(line.startswith("    | ") for line in rest)


# What must never be logged


def test_the_redacted_keys() -> None:
    assert {
        "sdp", "candidate", "payload", "text", "token", "address", "ip", "remote", "username", "query", "path_qs",
    } <= NEVER_LOGGED  # fmt: skip


@pytest.mark.parametrize("key", sorted(NEVER_LOGGED))
@pytest.mark.parametrize("format", ["console", "json"])
def test_values_of_redacted_keys_are_replaced(stream: io.StringIO, key: str, format: str) -> None:
    configure_logging("debug", format, stream)
    inner: dict[object, object] = {key: "SECRET", key.upper(): "SECRET", "fine": "kept-inside", 1: 2}
    with structlog.contextvars.bound_contextvars(**{key: "SECRET"}):
        get_logger("x").info("bound")
    get_logger("x").info("given", **{key: "SECRET", "message": inner, "fine": "kept-outside"})
    written = stream.getvalue()
    assert "SECRET" not in written
    assert written.count("[redacted]") == 4
    assert "kept-inside" in written
    assert "kept-outside" in written
    assert inner[key] == "SECRET"  # the caller's own dict is left alone


# What a client cannot forge

HOSTILE = "x\n2030-01-01 level=error event=forged \x1b[31m\r\x9b\u2028\u202e\ud800"


def test_control_characters_are_escaped_on_the_console(stream: io.StringIO) -> None:
    configure_logging("info", "console", stream)
    get_logger("x").info("hi", topic=HOSTILE)
    assert after_timestamp(stream.getvalue()) == (
        'level=info event=hi logger=x topic="x\\n2030-01-01 level=error event=forged '
        '\\u001b[31m\\r\\x9b\\u2028\\u202e\\ud800"\n'
    )


class Rude:
    def __repr__(self) -> str:
        return "rude\n\x1b[2J"


@pytest.mark.parametrize(
    "values",
    [
        {"topic": HOSTILE},
        {HOSTILE: "topic"},
        {"topics": [HOSTILE]},
        {"topics": {"inner": HOSTILE}},
        {"topic": Rude()},
        {"exception": HOSTILE},
    ],
)
@pytest.mark.parametrize("format", ["console", "json"])
def test_no_value_can_start_a_line_or_control_a_terminal(
    stream: io.StringIO, format: str, values: dict[str, Any]
) -> None:
    configure_logging("info", format, stream)
    get_logger("x").info(HOSTILE, **values)
    first, *rest = stream.getvalue().removesuffix("\n").split("\n")
    assert first.isprintable()
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)
    assert not rest or "exception" in values


@given(value=st.text())
def test_console_values_are_delimited(value: str) -> None:
    stream = io.StringIO()
    configure_logging("info", "console", stream)
    get_logger("x").info("hi", topic=value, end=1)
    (line,) = stream.getvalue().removesuffix("\n").split("\n")
    assert line.isprintable()
    token = line.partition(" topic=")[2].removesuffix(" end=1")
    if token.startswith('"'):
        inside = token[1:-1].replace("\\\\", "").replace('\\"', "")
        assert '"' not in inside
        assert token.endswith('"')
    else:
        assert token == value
        assert not set(token) & set(' ="')


# Other libraries


@pytest.mark.parametrize("name", ["trio-websocket", "trio-websocket.server", "trio", "library"])
@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_other_libraries_log_warnings_and_above(stream: io.StringIO, name: str, level: str) -> None:
    for lowered in (None, "trio-websocket"):
        logging.getLogger(lowered).setLevel(logging.DEBUG)
    configure_logging(level, "json", stream)
    theirs = logging.getLogger(name)
    theirs.debug("1")
    theirs.info("2")
    theirs.warning("3")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["logger"]) == ("3", "warning", name)
    assert theirs.getEffectiveLevel() == logging.WARNING


def test_other_libraries_obey_a_stricter_level(stream: io.StringIO) -> None:
    configure_logging("error", "json", stream)
    for name in ("trio-websocket", "library"):
        logging.getLogger(name).warning("quiet")
        logging.getLogger(name).error("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud", "loud"]


@pytest.mark.parametrize("name", ["trio-websocket", "chatty"])
def test_the_handler_enforces_warning_even_if_a_logger_is_lowered(stream: io.StringIO, name: str) -> None:
    configure_logging("debug", "json", stream)
    logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger(name).debug("received %r", "SECRET")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("format", ["console", "json"])
def test_trio_websockets_arguments_are_not_written(stream: io.StringIO, format: str) -> None:
    configure_logging("debug", format, stream)
    logging.getLogger("trio-websocket").warning("received unknown event type: %s", "SECRET")
    (line,) = stream.getvalue().splitlines()
    assert "received unknown event type: %s" in line
    assert "SECRET" not in line


def test_other_arguments_are_written_and_escaped(stream: io.StringIO) -> None:
    configure_logging("debug", "console", stream)
    logging.getLogger("library").warning("odd: %s", "a\nb")
    assert after_timestamp(stream.getvalue()) == 'level=warning event="odd: a\\nb" logger=library\n'


def test_a_librarys_traceback_is_one_line_in_json(stream: io.StringIO) -> None:
    configure_logging("debug", "json", stream)
    try:
        sys.exit("boom")
    except SystemExit:
        logging.getLogger("library").exception("bug")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"].endswith("SystemExit: boom")


def test_other_handlers_are_left_in_place(stream: io.StringIO) -> None:
    mine = logging.NullHandler()
    logging.getLogger().addHandler(mine)
    count = len(logging.getLogger().handlers)
    configure_logging("info", "json", stream)
    configure_logging("info", "json", stream)
    assert mine in logging.getLogger().handlers
    assert len(logging.getLogger().handlers) == count + 1
