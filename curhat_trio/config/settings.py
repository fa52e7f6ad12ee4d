"""The table of settings: the group, kind, default and help of each, and the rules between them.

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
    """The attrs validator of every field. ValueError names the field."""
    try:
        attribute.metadata["kind"].check(value)
    except ValueError as error:
        raise ValueError(f"{attribute.name}: {error}") from None


def _setting(group: str, kind: Text, default: object, help: str) -> Any:
    """One row: its `--help` group, the kind of value it takes, its default, and a sentence on what it does.

    Any, because mypy takes a field's type from its annotation, as it does for `attrs.field`.
    """
    metadata = {"group": group, "kind": kind, "help": help}
    return attrs.field(default=default, validator=_validate, metadata=metadata, repr=not isinstance(kind, Secret))


def _choice(literal: object) -> Text:
    *words, last = get_args(literal)
    expected, form = f"{', '.join(words)} or {last}", "|".join([*words, last])
    return Text(metavar=form, expected=expected, form=form, problem="is not one of the choices")


# Only the operating system knows whether a host or a file exists. An empty path: no file.
_HOST = Text(metavar="HOST", expected="a host name or an IP address", form=r"\S+", problem="is not a host")
_PORT = whole(metavar="PORT", most=65535)
_FILE = Text(metavar="FILE", expected="a path to a file", form=r"[^\0]*", problem="is not a path")
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
)
_urls = partial(Listing, metavar="URL,...", most=ARRAY_ITEMS)
_STUN_URLS = _urls(
    form=r"stuns?:[^/\s,][^\s,]*",  # RFC 7064, section 3.1: no slashes follow the scheme
    expected=f"at most {ARRAY_ITEMS} URLs such as stun:stun.example.org:3478 or stuns:stun.example.org",
)
_TURN_URLS = _urls(
    form=r"turns?:[^/\s,?][^\s,?]*(\?transport=(udp|tcp))?",  # RFC 7065, section 3.1
    expected=f"at most {ARRAY_ITEMS} URLs such as turn:turn.example.org:3478 or "
    "turns:turn.example.org:5349?transport=tcp",
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
    """Everything the operator may choose; see each field's help, or run with `--help`.

    Times are in seconds, sizes in bytes, rates per second; numbers are finite.

    Raises:
        ValueError: a value has the wrong type or range, or two do not fit each other; it tells which.
    """

    # A row is a line of facts and a sentence. RUF009: ruff cannot tell that these calls make fields.
    # fmt: off
    host: str = _listening(_HOST, "127.0.0.1", "Host name or IP address to listen on.")
    port: int = _listening(_PORT, 8080, "TCP port to listen on; 0 takes any free one.")
    allowed_origins: tuple[str, ...] = _listening(_ORIGINS, (),
        "Origins whose pages may connect, separated by commas; none listed means any may.")
    max_connections: int = _listening(_count(unit="connections"), 10_000,
        "How many clients there may be at once, those who were lost and may come back among them; more are turned "
        "away. A tenth more connections may be open, of clients that come back.")

    widen_after_seconds: float = _matching(_SECONDS_OR_NONE, 10.0,
        "How long a client with topics waits for a partner who shares one before it is matched with anyone.")

    request_head_seconds: float = _timeout(10.0,
        "How long a client may take to send the head of its HTTP request.")
    first_message_seconds: float = _timeout(60.0,
        "How long a new connection may stay silent before its first message.")
    offer_seconds: float = _timeout(20.0, "How long a matched pair may take until the offer has come.")
    media_seconds: float = _timeout(20.0,
        "How long a pair stays together whose audio and video were told to have failed.")
    resume_seconds: float = _timeout_or_none(30.0,
        "How long a client whose connection was lost may take to come back; 0: no time.")
    ping_seconds: float = _timeout(20.0, "How long to pause between pings to a client.")
    pong_seconds: float = _timeout(20.0, "How long a client may take to answer a ping before it counts as gone.")
    write_seconds: float = _timeout(10.0,
        "How long writing one message to a client may take before it counts as gone.")
    close_seconds: float = _timeout_or_none(3.0, "How long a client may take to answer the closing handshake.")
    drain_seconds: float = _timeout_or_none(10.0,
        "How long a stopping server gives its connections to end by themselves.")

    max_message_bytes: int = _limit(_count(unit="bytes", least=1024), 65_536,
        "The largest message a client may send.")
    outbound_messages: int = _limit(_count(unit="messages"), 1024,
        "How many messages may wait for one slow client; at least twice the message burst. Half of them, and no "
        "more than 128, are kept for one that is away.")
    outbound_bytes: int = _limit(_count(unit="bytes"), 2_097_152,
        "How much may wait for one slow client; at least twice the byte burst.")
    messages_per_second: float = _limit(_rate(unit="messages per second"), 20.0,
        "How many messages a client may send in the long run.")
    message_burst: int = _limit(_count(unit="messages"), 200, "How many messages a client may send at once.")
    bytes_per_second: float = _limit(_rate(unit="bytes per second"), 65_536.0,
        "How much a client may send in the long run.")
    byte_burst: int = _limit(_count(unit="bytes"), 524_288,
        "How much a client may send at once; at least the largest message.")

    stun_urls: tuple[str, ...] = _ice(_STUN_URLS, (),
        "STUN servers for clients to ask for their public address, separated by commas.")
    turn_urls: tuple[str, ...] = _ice(_TURN_URLS, (),
        "TURN servers to relay audio and video, separated by commas; they share one secret.")
    turn_secret: str = _ice(_SECRET, "",
        "Secret shared with the TURN servers, by which credentials are made. Others on the machine can see flags; "
        "better give the variable or the file.")
    turn_secret_file: str = _ice(_FILE, "", "File that holds the TURN servers' secret, in place of turn_secret.")
    turn_ttl_seconds: int = _ice(_count(unit="seconds", least=60), 86_400,
        "How long TURN credentials are good; longer than a call, since a TURN server may ask for them again.")
    ice_transport_policy: IceTransportPolicy = _ice(_choice(IceTransportPolicy), "all",  # noqa: RUF009
        "Whether clients may connect directly, or by a relay only and without learning each other's address.")

    log_level: LogLevel = _logging(_choice(LogLevel), "info", "The least severe events to log.")  # noqa: RUF009
    log_format: LogFormat = _logging(_choice(LogFormat), "auto",  # noqa: RUF009
        "How to write them; auto is console on a terminal, json elsewhere.")
    trace: str = _logging(_FILE, "", "Write all that sessions do as NDJSON, in place of whatever the file held.")
    # fmt: on

    def __attrs_post_init__(self) -> None:
        if problem := misfit(attrs.asdict(self)):
            raise ValueError(problem)


FIELDS: Mapping[str, "attrs.Attribute[Any]"] = attrs.fields_dict(Settings)
KINDS: Mapping[str, Text] = {name: field.metadata["kind"] for name, field in FIELDS.items()}

# What one person is permitted to send at once must fit the partner's queue beside what already waits there,
# or permitted messages would break a room; and no message could pass a burst that is smaller than it.
_AT_LEAST = (
    ("byte_burst", 1, "max_message_bytes"),
    ("outbound_bytes", 2, "byte_burst"),
    ("outbound_messages", 2, "message_burst"),
)
"""Rules `values[larger] >= factor * values[smaller]`."""


def misfit(values: Mapping[str, Any], origin: Callable[[str], str] = lambda _name: "") -> str | None:
    """What is wrong between two values, in one line; None if they fit.

    Args:
        values: every field's value, each right by itself.
        origin: tells of a field's name where its value came from, such as " (default)"; "" if nobody knows.
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
            f"turn_urls{origin('turn_urls')}: no secret is known; expected turn_secret or turn_secret_file with "
            "the TURN server's static-auth-secret"
        )
    if values["ice_transport_policy"] == "relay" and not values["turn_urls"]:
        return (
            f"ice_transport_policy: relay{origin('ice_transport_policy')} lets nobody connect without a TURN "
            "server; expected turn_urls too"
        )
    return None
