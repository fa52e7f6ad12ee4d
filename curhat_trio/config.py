"""What the operator may choose, and where each choice comes from.

A setting is read from the first of these that gives it:

1. a command-line flag, such as `--max-connections 500`;
2. a variable named after it, such as `CURHAT_MAX_CONNECTIONS`;
3. for host and port only, the bare `HOST` and `PORT` that the Go server and most hosting platforms use;
4. the table `[curhat_trio]` of the TOML file that `--config` or `CURHAT_CONFIG` names;
5. its default.

Every value is checked where it was given, also one that a stronger source overrides, so an error names the
flag, the variable or the file to correct. typed-settings merges the sources and builds the one `Settings`.
This module never looks at `os.environ` or `sys.argv`: both arrive as arguments.
"""

import argparse
import difflib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import attrs
import typed_settings
from typed_settings.exceptions import TsError
from typed_settings.loaders import DictLoader, TomlFormat
from typed_settings.types import OptionList, SettingsClass, SettingsDict

from curhat_trio import __version__
from curhat_trio.protocol.messages import ARRAY_ITEMS

IceTransportPolicy = Literal["all", "relay"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]

_PROGRAM = "curhat-trio"
_TABLE = "curhat_trio"
_CONFIG_VARIABLE = "CURHAT_CONFIG"
_BARE_VARIABLES = {"host": "HOST", "port": "PORT"}
_HELP_COLUMNS = 100
_SHOWN_CHARACTERS = 60


class SettingsError(Exception):
    """The operator's mistake, in one line: which setting, given where, what is wrong, what would do."""


# What a value must be. Every kind reads text (flags, variables) and TOML, and words its own refusals.


@attrs.frozen(kw_only=True)
class _Kind(ABC):
    """A kind of value: how to read one, and which ones will do."""

    metavar: str

    @property
    @abstractmethod
    def expected(self) -> str:
        """What would do, with its unit; it ends error messages and explains the flag in `--help`."""

    @abstractmethod
    def from_text(self, text: str) -> object:
        """Read a flag's or a variable's text. ValueError if it does not even spell such a value."""

    def from_toml(self, value: object) -> object:
        """Turn TOML's value into Python's; TOML has types of its own, so nothing is coerced."""
        return value

    @abstractmethod
    def check(self, value: object) -> None:
        """ValueError, worded for the operator, unless `value` has the right type and range."""

    def refusal(self, value: object, problem: str) -> ValueError:
        return ValueError(f"{_shown(value)} {problem}; expected {self.expected}")


@attrs.frozen(kw_only=True)
class _Whole(_Kind):
    """A whole number in `least..most`, both included."""

    least: int
    most: int | None = None
    unit: str = ""

    @property
    def expected(self) -> str:
        bounds = f"at least {self.least}" if self.most is None else f"{self.least} to {self.most}"
        return f"{bounds} {self.unit}".rstrip()

    def from_text(self, text: str) -> object:
        # int() alone would also take "1_000", and digits of other scripts.
        if not re.fullmatch(r"[+-]?[0-9]{1,100}", text):
            raise self.refusal(text, "is not a whole number")
        return int(text)

    def check(self, value: object) -> None:
        # Exactly int: True is an int too, and TOML's `port = true` must not become port 1.
        if type(value) is not int:
            raise self.refusal(value, "is not a whole number")
        if value < self.least or (self.most is not None and value > self.most):
            raise self.refusal(value, "is out of range")


@attrs.frozen(kw_only=True)
class _Decimal(_Kind):
    """A finite number from zero up; zero itself only if `zero` says so."""

    unit: str
    zero: bool

    @property
    def expected(self) -> str:
        return f"{'at least' if self.zero else 'more than'} 0 {self.unit}"

    def from_text(self, text: str) -> object:
        # float() alone would also take "nan", "inf" and "1_0".
        if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
            raise self.refusal(text, "is not a finite number")
        return float(text)

    def check(self, value: object) -> None:
        # A bool is an int to Python, but no number to whoever wrote it.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
            raise self.refusal(value, "is not a finite number")
        if value < 0 or (value == 0 and not self.zero):
            raise self.refusal(value, "is out of range")


@attrs.frozen(kw_only=True)
class _Choice(_Kind):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        return f"{', '.join(self.words[:-1])} or {self.words[-1]}"

    def from_text(self, text: str) -> object:
        return text

    def check(self, value: object) -> None:
        if value not in self.words:
            raise self.refusal(value, "is not one of the choices")


@attrs.frozen(kw_only=True)
class _Host(_Kind):
    """A name or an address to listen on; only the operating system knows whether it exists."""

    @property
    def expected(self) -> str:
        return "a host name or an IP address"

    def from_text(self, text: str) -> object:
        return text

    def check(self, value: object) -> None:
        if not isinstance(value, str) or not re.fullmatch(r"\S+", value):
            raise self.refusal(value, "is not a host")


@attrs.frozen(kw_only=True)
class _File(_Kind):
    """A path; only the operating system knows whether it can be read or written. Empty: no file."""

    @property
    def expected(self) -> str:
        return "a path to a file"

    def from_text(self, text: str) -> object:
        return text

    def check(self, value: object) -> None:
        if not isinstance(value, str) or "\0" in value:
            raise self.refusal(value, "is not a path")


@attrs.frozen(kw_only=True)
class _Listing(_Kind):
    """Strings of one form, at most so many of them; in text they are separated by commas."""

    item_form: str
    item_expected: str
    most: int | None = None

    @property
    def expected(self) -> str:
        return self.item_expected if self.most is None else f"at most {self.most} {self.item_expected}"

    def from_text(self, text: str) -> object:
        items = (item.strip() for item in text.split(","))
        return tuple(item for item in items if item)

    def from_toml(self, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    def check(self, value: object) -> None:
        if not isinstance(value, tuple):
            raise self.refusal(value, "is not a list of strings")
        for item in value:
            if not isinstance(item, str) or not re.fullmatch(self.item_form, item):
                raise self.refusal(item, "is not of the right form")
        if self.most is not None and len(value) > self.most:
            raise ValueError(f"{len(value)} are too many; expected {self.expected}")


@attrs.frozen(kw_only=True)
class _Secret(_Kind):
    """A secret: no message ever shows one, right or wrong."""

    @property
    def expected(self) -> str:
        return "a secret of printable ASCII characters without spaces"

    def from_text(self, text: str) -> object:
        return text

    def check(self, value: object) -> None:
        if not isinstance(value, str) or not re.fullmatch(r"[!-~]*", value):
            raise ValueError(f"the value, not shown here, will not do; expected {self.expected}")


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number larger than any float
        return False


def _shown(value: object) -> str:
    """`value` as the operator wrote it, more or less: one line, and never a long one."""
    if isinstance(value, (str, bool)):
        text = json.dumps(value)
    elif isinstance(value, int) and value.bit_length() > 200:
        text = hex(value)  # Python refuses to write very long numbers in decimal
    else:
        text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _validate(_settings: object, attribute: "attrs.Attribute[object]", value: object) -> None:
    """The attrs validator of every field. ValueError names the field."""
    try:
        attribute.metadata["kind"].check(value)
    except ValueError as error:
        raise ValueError(f"{attribute.name}: {error}") from None


def _option(group: str, kind: _Kind, default: object, help: str) -> Any:
    """One field: its `--help` group, the kind of value it takes, its default, and a sentence on what it does.

    Any, because mypy takes a field's type from its annotation, as it does for `attrs.field`.
    """
    metadata = {"group": group, "kind": kind, "help": help}
    return attrs.field(default=default, validator=_validate, metadata=metadata, repr=not isinstance(kind, _Secret))


_listening = partial(_option, "Listening")
_matching = partial(_option, "Matching")
_timeout = partial(_option, "Timeouts")
_limit = partial(_option, "Limits")
_ice = partial(_option, "ICE")
_logging = partial(_option, "Logging")

_SECONDS = _Decimal(metavar="SECONDS", unit="seconds", zero=False)
_SECONDS_OR_NONE = _Decimal(metavar="SECONDS", unit="seconds", zero=True)


def _count(unit: str, least: int = 1) -> _Whole:
    return _Whole(metavar="N", unit=unit, least=least)


def _rate(unit: str) -> _Decimal:
    return _Decimal(metavar="RATE", unit=f"{unit} per second", zero=False)


def _choice(literal: object) -> _Choice:
    words = get_args(literal)
    return _Choice(metavar="|".join(words), words=words)


_ORIGINS = _Listing(
    metavar="ORIGIN,...",
    # As browsers send it in the Origin header: lower case, and nothing after the port.
    item_form=r"null|[a-z][a-z0-9+.-]*://[^/?#\s,A-Z]+",
    item_expected="origins such as https://chat.example, in lower case and without a path",
)
_STUN_URLS = _Listing(
    metavar="URL,...",
    item_form=r"stuns?:[^/\s,][^\s,]*",  # RFC 7064, section 3.1: no slashes follow the scheme
    item_expected="URLs such as stun:stun.example.org:3478 or stuns:stun.example.org",
    most=ARRAY_ITEMS,
)

_TURN_URLS = _Listing(
    metavar="URL,...",
    item_form=r"turns?:[^/\s,?][^\s,?]*(\?transport=(udp|tcp))?",  # RFC 7065, section 3.1
    item_expected="URLs such as turn:turn.example.org:3478 or turns:turn.example.org:5349?transport=tcp",
    most=ARRAY_ITEMS,
)


@attrs.frozen(kw_only=True)
class Settings:
    """Everything the operator may choose; see each field's help, or run with `--help`.

    Times are in seconds, sizes in bytes, rates per second; numbers are finite.

    Raises:
        ValueError: a value has the wrong type or range, or two do not fit each other; it tells which.
    """

    host: str = _listening(_Host(metavar="HOST"), "127.0.0.1", "Host name or IP address to listen on.")
    port: int = _listening(
        _Whole(metavar="PORT", least=0, most=65535), 8080, "TCP port to listen on; 0 takes any free one."
    )
    allowed_origins: tuple[str, ...] = _listening(
        _ORIGINS, (), "Origins whose pages may connect, separated by commas; none listed means any may."
    )
    max_connections: int = _listening(
        _count("connections"),
        10_000,
        "How many clients there may be at once, those who were lost and may come back among them; more are turned "
        "away. A tenth more connections may be open, of clients that come back.",
    )

    relax_after_seconds: float = _matching(
        _SECONDS_OR_NONE,
        10.0,
        "How long a person with topics waits for somebody who shares one before anybody will do.",
    )

    request_head_seconds: float = _timeout(
        _SECONDS, 10.0, "How long a client may take to send the head of its HTTP request."
    )
    first_message_seconds: float = _timeout(
        _SECONDS, 60.0, "How long a new connection may stay silent before its first message."
    )
    offer_seconds: float = _timeout(_SECONDS, 20.0, "How long a matched pair may take until the offer has come.")
    media_seconds: float = _timeout(
        _SECONDS, 20.0, "How long a pair stays together whose audio and video were told to have failed."
    )
    resume_seconds: float = _timeout(
        _SECONDS_OR_NONE, 30.0, "How long a client whose connection was lost may take to come back; 0: no time."
    )
    ping_seconds: float = _timeout(_SECONDS, 20.0, "How long to pause between pings to a client.")
    pong_seconds: float = _timeout(
        _SECONDS, 20.0, "How long a client may take to answer a ping before it counts as gone."
    )
    write_seconds: float = _timeout(
        _SECONDS, 10.0, "How long writing one message to a client may take before it counts as gone."
    )
    close_seconds: float = _timeout(
        _SECONDS_OR_NONE, 3.0, "How long a client may take to answer the closing handshake."
    )
    drain_seconds: float = _timeout(
        _SECONDS_OR_NONE, 10.0, "How long a stopping server gives its connections to end by themselves."
    )

    max_message_bytes: int = _limit(_count("bytes", least=1024), 65_536, "The largest message a client may send.")
    outbound_messages: int = _limit(
        _count("messages"),
        1024,
        "How many messages may wait for one slow client; at least twice the message burst. Half of them, and no "
        "more than 128, are kept for one that is away.",
    )
    outbound_bytes: int = _limit(
        _count("bytes"), 2_097_152, "How much may wait for one slow client; at least twice the byte burst."
    )
    messages_per_second: float = _limit(
        _rate("messages"), 20.0, "How many messages a client may send in the long run."
    )
    message_burst: int = _limit(_count("messages"), 200, "How many messages a client may send at once.")
    bytes_per_second: float = _limit(_rate("bytes"), 65_536.0, "How much a client may send in the long run.")
    byte_burst: int = _limit(
        _count("bytes"), 524_288, "How much a client may send at once; at least the largest message."
    )

    # RUF009 below: ruff cannot tell that these calls make fields, as `attrs.field` does.
    stun_urls: tuple[str, ...] = _ice(
        _STUN_URLS, (), "STUN servers for clients to ask for their public address, separated by commas."
    )
    turn_urls: tuple[str, ...] = _ice(
        _TURN_URLS, (), "TURN servers to relay audio and video, separated by commas; they share one secret."
    )
    turn_secret: str = _ice(
        _Secret(metavar="SECRET"),
        "",
        "Secret shared with the TURN servers, by which credentials are made. Others on the machine can see flags; "
        "better give the variable or the file.",
    )
    turn_secret_file: str = _ice(
        _File(metavar="FILE"), "", "File that holds the TURN servers' secret, in place of turn_secret."
    )
    turn_ttl_seconds: int = _ice(
        _count("seconds", least=60),
        86_400,
        "How long TURN credentials are good; longer than a call, since a TURN server may ask for them again.",
    )
    ice_transport_policy: IceTransportPolicy = _ice(  # noqa: RUF009
        _choice(IceTransportPolicy),
        "all",
        "Whether clients may connect directly, or by a relay only and without learning each other's address.",
    )

    log_level: LogLevel = _logging(  # noqa: RUF009
        _choice(LogLevel), "info", "The least severe events to log."
    )
    log_format: LogFormat = _logging(  # noqa: RUF009
        _choice(LogFormat), "auto", "How to write them; auto is console on a terminal, json elsewhere."
    )
    trace: str = _logging(
        _File(metavar="FILE"), "", "Write all that sessions do as NDJSON, in place of whatever the file held."
    )

    def __attrs_post_init__(self) -> None:
        problem = _misfit(attrs.asdict(self), lambda _name: "")
        if problem is not None:
            raise ValueError(problem)


@attrs.frozen
class _AtLeast:
    """The rule `larger >= factor * smaller` between two fields."""

    larger: str
    factor: int
    smaller: str


# What one person is permitted to send at once must fit the partner's queue beside what already waits there,
# or permitted messages would break a room; and no message could pass a burst that is smaller than it.
_RULES = (
    _AtLeast("byte_burst", 1, "max_message_bytes"),
    _AtLeast("outbound_bytes", 2, "byte_burst"),
    _AtLeast("outbound_messages", 2, "message_burst"),
)


def _misfit(values: Mapping[str, Any], origin: Callable[[str], str]) -> str | None:
    """What is wrong between two values, in one line; None if they fit.

    Args:
        values: every field's value, each right by itself.
        origin: tells of a field's name where its value came from, such as " (default)"; "" if nobody knows.
    """
    for rule in _RULES:
        larger, smaller = values[rule.larger], values[rule.smaller]
        if larger < rule.factor * smaller:
            twice = "twice " if rule.factor == 2 else ""
            return (
                f"{rule.larger}: {larger}{origin(rule.larger)} is less than {twice}{rule.smaller}, "
                f"{smaller}{origin(rule.smaller)}; expected at least {rule.factor * smaller}"
            )
    if values["turn_urls"] and not values["turn_secret"]:
        return (
            f"turn_urls{origin('turn_urls')}: no secret is known; expected turn_secret or turn_secret_file with "
            "the TURN server's static-auth-secret"
        )
    if values["ice_transport_policy"] == "relay" and not values["turn_urls"]:
        return (
            f"ice_transport_policy: relay{origin('ice_transport_policy')} lets nobody connect without a TURN "
            "server; expected turn_urls too"
        )
    return None


_FIELDS = attrs.fields_dict(Settings)


# Reading one source: each yields what it gave, checked.


@attrs.frozen
class _Given:
    """One checked value, and where it was given: "--port", "CURHAT_PORT" or "curhat.toml: port"."""

    name: str
    where: str
    value: object


def _read(name: str, where: str, read: Callable[[_Kind], object]) -> _Given:
    """Let the field's kind read and check one value. SettingsError tells `where` it was given."""
    kind: _Kind = _FIELDS[name].metadata["kind"]
    try:
        value = read(kind)
        kind.check(value)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    return _Given(name, where, value)


def _read_text(name: str, where: str, text: str) -> _Given:
    return _read(name, where, lambda kind: kind.from_text(text.strip()))


def _read_toml(name: str, where: str, value: object) -> _Given:
    return _read(name, where, lambda kind: kind.from_toml(value))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _variable(name: str) -> str:
    return f"CURHAT_{name.upper()}"


def _from_flags(flags: Mapping[str, str]) -> Iterator[_Given]:
    for name in _FIELDS:
        if name in flags:
            yield _read_text(name, _flag(name), flags[name])


def _from_environ(environ: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[_Given]:
    """Read the `variables` (field name to variable name) that are set.

    An empty one counts as not set, as for the Go server: container tools pass on what nobody set as "".
    """
    for name, variable in variables.items():
        if text := environ.get(variable):
            yield _read_text(name, variable, text)


def _from_file(path: str | None) -> Iterator[_Given]:
    """Read the table of the TOML file at `path`; nothing without a path.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or holds a key or a value that is no setting's.
    """
    if path is None:
        return
    for key, value in _read_table(path).items():
        if key not in _FIELDS:
            nearest = difflib.get_close_matches(key, _FIELDS, n=1, cutoff=0.0)[0]
            raise SettingsError(f"{path}: {_shown(key)} is not a setting; the nearest that is one: {nearest}")
        yield _read_toml(key, f"{path}: {key}", value)


def _read_table(path: str) -> dict[str, object]:
    # typed-settings' FileLoader would take an "!" in a path for its own mark, pass over an absent file and
    # leave unknown keys without advice; its TomlFormat is the part that serves here.
    try:
        document: Mapping[str, object] = TomlFormat(section=None)(Path(path), Settings, ())
    except (TsError, OSError, ValueError) as error:
        raise SettingsError(f"{path}: {_reason(error)}; expected a readable TOML file") from error
    for key in document:
        if key != _TABLE:
            raise SettingsError(f"{path}: {_shown(key)} is out of place; expected the table [{_TABLE}] only")
    table = document.get(_TABLE, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {_TABLE} is not a table; expected [{_TABLE}] and settings under it")
    return table


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error  # typed-settings wraps some errors and lets others through
    return str(cause.strerror if isinstance(cause, OSError) else cause)


# The command line.


class _HelpFormatter(argparse.HelpFormatter):
    """argparse's, but a line break in a flag's help stays one: the sentence, then the facts."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return [
            part for line in text.splitlines() for part in super(_HelpFormatter, self)._split_lines(line, width)
        ]


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is one line: the usage of some thirty flags would bury it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.color = False  # Python 3.14 would look into os.environ to decide it

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _make_parser() -> _Parser:
    parser = _Parser(
        prog=_PROGRAM,
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]",
        description="WebRTC signaling for anonymous one-to-one video chat.",
        epilog=(
            "A flag wins over its CURHAT_ variable, that over the bare HOST or PORT, that over the file, and "
            "the file over the default. An empty variable counts as not set. In the file a setting has its "
            "flag's name with underscores, in the table [curhat_trio]."
        ),
        # A fixed width, because argparse would ask os.environ for COLUMNS.
        formatter_class=partial(_HelpFormatter, width=_HELP_COLUMNS, max_help_position=30),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "--config", metavar="FILE", help=f"TOML file to read.\n[env {_CONFIG_VARIABLE}; default none]"
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for field in _FIELDS.values():
        title = field.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        groups[title].add_argument(
            _flag(field.name), metavar=field.metadata["kind"].metavar, help=_help(field).replace("%", "%%")
        )
    return parser


def _help(field: "attrs.Attribute[Any]") -> str:
    variables = _variable(field.name)
    if field.name in _BARE_VARIABLES:
        variables += f" or {_BARE_VARIABLES[field.name]}"
    return (
        f"{field.metadata['help']}\n[{field.metadata['kind'].expected}; env {variables}; "
        f"default {_default(field.default)}]"
    )


def _default(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return "none" if value in ((), "") else str(value)


def _parse_flags(argv: Sequence[str]) -> dict[str, str]:
    """The flags that were given, by field name, as text; "config" among them if it was."""
    parser = _make_parser()
    namespace, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].partition("=")[0]  # what follows may be a secret
        parser.error(f"{_shown(name)} is no flag of mine{_nearest_flag(name)}")
    return vars(namespace)


def _nearest_flag(unknown: str) -> str:
    near = difflib.get_close_matches(unknown, [_flag(name) for name in _FIELDS], n=1)
    return f", but {near[0]} is" if near else ""


def load_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read every source and build the settings; nothing but the arguments and the named file is looked at.

    Args:
        argv: the command line without the program's name, as in `sys.argv[1:]`.
        environ: the environment's variables, as in `os.environ`.

    Raises:
        SettingsError: a value, a key or the file is wrong; the message is one line for the operator.
        SystemExit: code 0 after `--help` or `--version` was printed; code 2 after one line on stderr if the
            flags themselves make no sense.
    """
    flags = _parse_flags(argv)
    path = flags.get("config") or environ.get(_CONFIG_VARIABLE) or None
    weakest_first: list[Iterable[_Given]] = [
        _from_file(path),
        _from_environ(environ, _BARE_VARIABLES),
        _from_environ(environ, {name: _variable(name) for name in _FIELDS}),
        _from_flags(flags),
    ]
    sources = [{given.name: given for given in source} for source in weakest_first]
    loaders = [DictLoader({name: given.value for name, given in source.items()}) for source in sources]
    origins = {name: given.where for source in sources for name, given in source.items()}
    return typed_settings.load_settings(Settings, loaders, processors=[partial(_check_fit, origins)])


def _check_fit(
    origins: Mapping[str, str], merged: SettingsDict, _settings_cls: SettingsClass, _options: OptionList
) -> SettingsDict:
    """A typed-settings processor: check merged values against each other while their origins are known."""
    _read_secret(origins, merged)
    problem = _misfit(merged, lambda name: f" (from {origins[name]})" if name in origins else " (default)")
    if problem is not None:
        raise SettingsError(problem)
    return merged


def _read_secret(origins: Mapping[str, str], merged: SettingsDict) -> None:
    """Let `turn_secret` be what the file holds that `turn_secret_file` names, without space around it."""
    path = str(merged["turn_secret_file"])
    if not path:
        return
    where = origins["turn_secret_file"]
    if merged["turn_secret"]:
        raise SettingsError(
            f"{where}: turn_secret is given too, by {origins['turn_secret']}; expected one of them"
        )
    try:
        secret = Path(path).read_text(encoding="ascii").strip()
        if not secret:
            raise ValueError("the file is empty")
        _FIELDS["turn_secret"].metadata["kind"].check(secret)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{where}: {path}: {_secret_problem(error)}") from None
    merged["turn_secret"] = secret


def _secret_problem(error: Exception) -> str:
    """What is wrong with a secret's file. A decoding error would show a byte of it."""
    if isinstance(error, UnicodeError):
        return "is not ASCII; expected a secret in a file of its own"
    return f"{error.strerror if isinstance(error, OSError) else error}; expected a secret in a file of its own"
