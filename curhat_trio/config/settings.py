"""The table of settings: group, kind, default and help of each, and the rules between them.

Every setting is a field of `Settings`; its flag, its variable and its TOML key are named after it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, get_args

import attrs

from curhat_trio.config.kinds import Listing, Secret, Text, decimal, whole
from curhat_trio.protocol.messages import ARRAY_ITEMS

IceTransportPolicy = Literal["all", "relay"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]


def _validate(_settings: object, attribute: "attrs.Attribute[object]", value: object) -> None:
    """The attrs validator of every field; its ValueError names the field."""
    try:
        attribute.metadata["kind"].check(value)
    except ValueError as error:
        raise ValueError(f"{attribute.name}: {error}") from None


def _setting(group: str, kind: Text, default: object, help: str) -> Any:
    """One row: the `--help` group, the kind of value, the default, and a sentence on what the setting does.

    Any, because mypy takes a field's type from its annotation, as it does for `attrs.field`.
    """
    metadata = {"group": group, "kind": kind, "help": help}
    return attrs.field(default=default, validator=_validate, metadata=metadata, repr=not isinstance(kind, Secret))


def _choice(literal: object) -> Text:
    *words, last = get_args(literal)
    expected, form = f"{', '.join(words)} or {last}", "|".join([*words, last])
    return Text(metavar=form, expected=expected, form=form, problem="is not a valid choice")


# Only the operating system knows whether a host or a file exists. An empty path means no file.
_HOST = Text(metavar="HOST", expected="a host name or an IP address", form=r"\S+", problem="is not a valid host")
_PORT = whole(metavar="PORT", most=65535)
_FILE = Text(metavar="FILE", expected="a path to a file", form=r"[^\0]*", problem="is not a valid path")
_SECRET = Secret(metavar="SECRET", expected="a secret of printable ASCII characters without spaces", form="[!-~]*")
_SECONDS = decimal(metavar="SECONDS", unit="seconds", above_least=True)
_SECONDS_OR_NONE = decimal(metavar="SECONDS", unit="seconds")
_count = partial(whole, metavar="N", least=1)
_rate = partial(decimal, metavar="RATE", above_least=True)
_ORIGINS = Listing(
    metavar="ORIGIN,...",
    # As browsers send it in the Origin header: lower case, and nothing after the port.
    form=r"null|[a-z][a-z0-9+.-]*://[^/?#\s,A-Z]+",
    expected="origins such as https://chat.example, in lower case and without a path",
    problem="is not an origin",
)
_urls = partial(Listing, metavar="URL,...", most=ARRAY_ITEMS)
_STUN_URLS = _urls(
    form=r"stuns?:[^/\s,][^\s,]*",  # RFC 7064, section 3.1: no slashes follow the scheme
    expected=f"at most {ARRAY_ITEMS} URLs such as stun:stun.example.org:3478 or stuns:stun.example.org",
    problem="is not a STUN URL",
)
_TURN_URLS = _urls(
    form=r"turns?:[^/\s,?][^\s,?]*(\?transport=(udp|tcp))?",  # RFC 7065, section 3.1
    expected=f"at most {ARRAY_ITEMS} URLs such as turn:turn.example.org:3478 or "
    "turns:turn.example.org:5349?transport=tcp",
    problem="is not a TURN URL",
)

_listening = partial(_setting, "Listening")
_matching = partial(_setting, "Matching")
_timeout = partial(_setting, "Timeouts", _SECONDS)
_timeout_or_none = partial(_setting, "Timeouts", _SECONDS_OR_NONE)
_limit = partial(_setting, "Limits")
_ice = partial(_setting, "ICE")
_logging = partial(_setting, "Logging")


@attrs.frozen(kw_only=True)
class Settings:
    """All settings of a server; see each field's help, or run with `--help`.

    Times are in seconds, sizes in bytes, rates per second; all numbers are finite.

    Raises:
        ValueError: a value has the wrong type or range, or two values conflict; the message names them.
    """

    # A row is a line of facts and a sentence. RUF009: ruff can't know that these calls make fields.
    # fmt: off
    host: str = _listening(_HOST, "127.0.0.1", "Host name or IP address to listen on.")
    port: int = _listening(_PORT, 8080, "TCP port to listen on; 0 picks any free port.")
    allowed_origins: tuple[str, ...] = _listening(_ORIGINS, (),
        "Origins whose pages may connect, separated by commas; an empty list allows any origin.")
    max_connections: int = _listening(_count(unit="connections"), 10_000,
        "Maximum number of clients, including those that have lost their connection and may still resume; further "
        "clients are refused. Resuming clients may open a tenth more connections.")

    widen_after_seconds: float = _matching(_SECONDS_OR_NONE, 10.0,
        "How long a client with topics waits for a partner who shares one before it is matched with anyone.")

    request_head_seconds: float = _timeout(10.0,
        "Time limit for a client to send the head of its HTTP request.")
    first_message_seconds: float = _timeout(60.0,
        "Time limit for a new client to send its first message.")
    offer_seconds: float = _timeout(20.0, "Time limit for a matched pair to produce the offer.")
    media_seconds: float = _timeout(20.0,
        "How long a pair stays together after a client has reported that its audio and video failed.")
    resume_seconds: float = _timeout_or_none(30.0,
        "Time limit for a client to resume after it lost its connection; 0 disables resuming.")
    ping_seconds: float = _timeout(20.0, "Interval between pings to a client.")
    pong_seconds: float = _timeout(20.0,
        "Time limit for a client to answer a ping; after it, its connection counts as lost.")
    write_seconds: float = _timeout(10.0,
        "Time limit for writing a message to a client; after it, its connection counts as lost.")
    close_seconds: float = _timeout_or_none(3.0, "Time limit for a client to answer the closing handshake.")
    drain_seconds: float = _timeout_or_none(10.0,
        "How long a stopping server waits for its connections to close.")

    max_message_bytes: int = _limit(_count(unit="bytes", least=1024), 65_536,
        "Size of the largest message a client may send.")
    outbound_messages: int = _limit(_count(unit="messages"), 1024,
        "Maximum number of messages queued for a slow client; at least twice the message burst. Half as many, but "
        "no more than 128, are kept for a client that has lost its connection.")
    outbound_bytes: int = _limit(_count(unit="bytes"), 2_097_152,
        "Maximum size of the messages queued for a slow client; at least twice the byte burst.")
    messages_per_second: float = _limit(_rate(unit="messages per second"), 20.0,
        "Sustained rate at which a client may send messages.")
    message_burst: int = _limit(_count(unit="messages"), 200, "How many messages a client may send in a burst.")
    bytes_per_second: float = _limit(_rate(unit="bytes per second"), 65_536.0,
        "Sustained rate at which a client may send bytes.")
    byte_burst: int = _limit(_count(unit="bytes"), 524_288,
        "How many bytes a client may send in a burst; at least the largest message.")

    stun_urls: tuple[str, ...] = _ice(_STUN_URLS, (),
        "STUN servers that tell clients their public address, separated by commas.")
    turn_urls: tuple[str, ...] = _ice(_TURN_URLS, (),
        "TURN servers that relay audio and video, separated by commas; they share one secret.")
    turn_secret: str = _ice(_SECRET, "",
        "Secret shared with the TURN servers, from which credentials are derived. Flags are visible to other "
        "users of the machine: prefer the variable or the file.")
    turn_secret_file: str = _ice(_FILE, "", "File that contains the TURN servers' secret, instead of turn_secret.")
    turn_ttl_seconds: int = _ice(_count(unit="seconds", least=60), 86_400,
        "How long TURN credentials are valid; longer than a call, since a TURN server may ask for them again.")
    ice_transport_policy: IceTransportPolicy = _ice(_choice(IceTransportPolicy), "all",  # noqa: RUF009
        "Whether clients may connect directly, or only through a relay, without learning each other's address.")

    log_level: LogLevel = _logging(_choice(LogLevel), "info", "Log events of this level and above.")  # noqa: RUF009
    log_format: LogFormat = _logging(_choice(LogFormat), "auto",  # noqa: RUF009
        "Format of the log; auto is console on a terminal and json elsewhere.")
    trace: str = _logging(_FILE, "",
        "Write every event and transition to this file as NDJSON; an existing file is overwritten.")
    # fmt: on

    def __attrs_post_init__(self) -> None:
        if problem := find_conflict(attrs.asdict(self)):
            raise ValueError(problem)


FIELDS: Mapping[str, "attrs.Attribute[Any]"] = attrs.fields_dict(Settings)
KINDS: Mapping[str, Text] = {name: field.metadata["kind"] for name, field in FIELDS.items()}

# A burst that one client is permitted to send must fit into the partner's queue beside what is already there, or
# permitted messages would break a pairing; and no message could pass a burst that is smaller than it.
_AT_LEAST = (
    ("byte_burst", 1, "max_message_bytes"),
    ("outbound_bytes", 2, "byte_burst"),
    ("outbound_messages", 2, "message_burst"),
)
"""Rules `values[larger] >= factor * values[smaller]`."""


def find_conflict(values: Mapping[str, Any], origin: Callable[[str], str] = lambda _name: "") -> str | None:
    """Describe the first conflict between two values, in one line; None if there is none.

    Args:
        values: every field's value, each valid by itself.
        origin: returns where the value of a field came from, such as " (default)"; "" if that is unknown.
    """
    for larger, factor, smaller in _AT_LEAST:
        least = factor * values[smaller]
        if values[larger] < least:
            return (
                f"{larger}: {values[larger]}{origin(larger)} is less than {'twice ' if factor == 2 else ''}"
                f"{smaller}, {values[smaller]}{origin(smaller)}; expected at least {least}"
            )
    if values["turn_urls"] and not values["turn_secret"]:
        return (
            f"turn_urls{origin('turn_urls')}: TURN needs a shared secret; set turn_secret or turn_secret_file to "
            "its static-auth-secret"
        )
    if values["ice_transport_policy"] == "relay" and not values["turn_urls"]:
        return (
            f"ice_transport_policy: relay{origin('ice_transport_policy')} lets nobody connect without a TURN "
            "server; set turn_urls too"
        )
    return None
