"""The log: one event per line, and never the content of messages.

    configure_logging("info", "auto")
    log = get_logger(__name__)
    log.info("room opened", room="r-17", waited_seconds=2.5)

Every line begins with its time (ISO 8601, UTC), its level and its event, followed by the values bound with
`structlog.contextvars` (connection, room) and those passed with the event. "console" writes key=value for
terminals, "json" one object per line for programs.

Three rules hold at every level. A value whose key is in `NEVER_LOGGED` is replaced by "[redacted]". A line
can't be forged: characters that could start a line or control a terminal are escaped. Other libraries' loggers
stay at WARNING or above, and of trio-websocket only the template of a message is written, because its arguments
may hold what a client sent.
"""

import functools
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

NEVER_LOGGED = frozenset(
    {
        "sdp",
        "candidate",
        "payload",
        "text",
        "token",
        "address",
        "ip",
        "remote",
        "username",
        "query",
        "credential",
        "path_qs",
    }
)
"""Keys, in lower case, whose values are content, addresses or secrets of users."""

REDACTED = "[redacted]"

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_SEES_PAYLOADS = "trio-websocket"
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+-]+")


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose events have `logger=name`; it follows the latest `configure_logging`, even a later one."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


_logs_debug = True  # structlog's default, before anything is configured


def logs_debug() -> bool:
    """Whether events of level debug are written; costs a tenth of a call that the level filters out."""
    return _logs_debug


def configure_logging(level: str, format: str, stream: TextIO | None = None) -> None:
    """Write every event of `level` or above to `stream`; replaces any earlier configuration.

    Args:
        level: "debug", "info", "warning" or "error". For other libraries' loggers "warning" is the least.
        format: "console", "json", or "auto": console if `stream` is a terminal.
        stream: text stream to write to, `sys.stderr` by default; the caller closes it.

    Raises:
        ValueError: an unknown level or format.
    """
    if level not in _LEVELS:
        raise ValueError(f"unknown level {level!r}; expected one of {', '.join(_LEVELS)}")
    global _logs_debug  # noqa: PLW0603  # logging is configured once for the whole process
    _logs_debug = _LEVELS[level] <= logging.DEBUG
    target = sys.stderr if stream is None else stream
    finish: list[Processor] = [structlog.processors.format_exc_info, redact, _lead, _renderer(format, target)]
    _configure_structlog(_LEVELS[level], finish, target)
    _configure_stdlib(max(_LEVELS[level], logging.WARNING), finish, target)


def _renderer(format: str, stream: TextIO) -> Processor:
    if format == "auto":
        format = "console" if stream.isatty() else "json"
    if format == "console":
        return _render_console
    if format == "json":
        return structlog.processors.JSONRenderer()
    raise ValueError(f"unknown format {format!r}; expected auto, console or json")


class _Sink(structlog.WriteLogger):
    """Writes finished lines to the stream; its name is where `add_logger_name` looks for it."""

    def __init__(self, stream: TextIO, name: str = "root") -> None:
        super().__init__(stream)
        self.name = name


def _configure_structlog(level: int, finish: list[Processor], stream: TextIO) -> None:
    structlog.configure(
        processors=[*_enrich(), *finish],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=functools.cache(functools.partial(_Sink, stream)),
        # A cached logger would keep the stream of the first test that logs. Without the cache a call
        # that the level filters out costs a microsecond or two; in a hot loop `get_logger(...).bind()`, which
        # keeps what was configured by then, brings that down to nearly nothing.
        cache_logger_on_first_use=False,
    )


def _enrich() -> list[Processor]:
    """Processors for every event, the server's or another library's."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


class _StdlibHandler(logging.StreamHandler[TextIO]):
    """The handler for other libraries' events; a class of its own so that the next configuration finds it."""


def _configure_stdlib(level: int, finish: list[Processor], stream: TextIO) -> None:
    """Route the root logger, and trio-websocket's apart from it, to `stream`."""
    for name, with_arguments in (None, True), (_SEES_PAYLOADS, False):
        logger = logging.getLogger(name)
        for old in [handler for handler in logger.handlers if isinstance(handler, _StdlibHandler)]:
            logger.removeHandler(old)
        logger.addHandler(_stdlib_handler(level, finish, stream, with_arguments))
        logger.setLevel(level)
    # Or the root's handler would write the same record again, with its arguments.
    logging.getLogger(_SEES_PAYLOADS).propagate = False


def _stdlib_handler(level: int, finish: list[Processor], stream: TextIO, with_arguments: bool) -> logging.Handler:
    handler = _StdlibHandler(stream)
    # The handler's own level applies even if the level of a logger is lowered.
    handler.setLevel(level)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_enrich(),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
            use_get_message=with_arguments,
        )
    )
    return handler


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: replace the values of `NEVER_LOGGED` keys, also in dicts that are values.

    A safety net for mistakes only: it checks keys, so it can't know the content of other values.
    """
    return {key: _harmless(key, value) for key, value in event.items()}


def _harmless(key: object, value: object) -> object:
    if _is_forbidden(key):
        return REDACTED
    if isinstance(value, Mapping):
        return {inner: REDACTED if _is_forbidden(inner) else value[inner] for inner in value}
    return value


def _is_forbidden(key: object) -> bool:
    return isinstance(key, str) and key.lower() in NEVER_LOGGED


def _lead(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: time, level, event and logger come first, the rest as it came."""
    return {key: event[key] for key in ("timestamp", "level", "event", "logger")} | dict(event)


def _render_console(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """A structlog processor: key=value on one line; a traceback follows on its own lines, behind a bar."""
    traceback = event.pop("exception", None)
    line = " ".join(f"{_token(key)}={_token(value)}" for key, value in event.items())
    return "\n".join([line, *_barred(traceback)])


def _barred(traceback: object) -> Iterator[str]:
    """The traceback's lines; its last holds the error's message, so it too must not pass for an event."""
    if traceback is not None:
        for line in str(traceback).splitlines():
            yield f"    | {_printable(line)}"


def _token(value: object) -> str:
    """One word, or a quoted string without a raw quote, line break or control character in it."""
    text = value if isinstance(value, str) else repr(value)
    if _PLAIN.fullmatch(text):
        return text
    return _printable(json.dumps(text, ensure_ascii=False))


def _printable(text: str) -> str:
    """`text` with every character escaped that is not printable: controls, line breaks, direction marks."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
