"""The settings: precedence of their sources, validation and its error messages, and `--help`."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curhat_trio import __version__
from curhat_trio.config import Settings, SettingsError, load_settings
from curhat_trio.protocol.messages import ARRAY_ITEMS

FIELDS = attrs.fields(Settings)
NAMES = [field.name for field in FIELDS]


def toml(folder: Path, content: str) -> str:
    path = folder / "curhat.toml"
    path.write_text(content, encoding="utf-8")
    return str(path)


def refusal(argv: list[str], environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(argv, environ or {})
    message = str(caught.value)
    assert "\n" not in message
    return message


def file_refusal(folder: Path, content: str) -> str:
    """The message about a file, with the path to it shortened to its name."""
    path = toml(folder, content)
    return refusal(["--config", path]).replace(path, "curhat.toml")


# Defaults


def test_the_defaults() -> None:
    assert load_settings([], {}) == Settings()
    assert attrs.asdict(Settings()) == {
        "host": "127.0.0.1",
        "port": 8080,
        "allowed_origins": (),
        "max_connections": 10000,
        "stun_urls": (),
        "turn_urls": (),
        "turn_secret": "",
        "turn_secret_file": "",
        "turn_ttl_seconds": 86400,
        "ice_transport_policy": "all",
        "widen_after_seconds": 10,
        "first_message_seconds": 60,
        "offer_seconds": 20,
        "media_seconds": 20,
        "resume_seconds": 30,
        "ping_seconds": 20,
        "pong_seconds": 20,
        "request_head_seconds": 10,
        "write_seconds": 10,
        "close_seconds": 3,
        "drain_seconds": 10,
        "max_message_bytes": 65536,
        "outbound_messages": 1024,
        "outbound_bytes": 2 * 1024 * 1024,
        "messages_per_second": 20,
        "message_burst": 200,
        "bytes_per_second": 65536,
        "byte_burst": 524288,
        "log_level": "info",
        "log_format": "auto",
        "trace": "",
    }


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]


# Precedence

SOURCES = ("flag", "CURHAT", "bare", "file", "default")


@given(
    given_by=st.fixed_dictionaries(
        {
            "host": st.sets(st.sampled_from(["flag", "CURHAT", "bare", "file"])),
            "port": st.sets(st.sampled_from(["flag", "CURHAT", "bare", "file"])),
            "max_connections": st.sets(st.sampled_from(["flag", "CURHAT", "file"])),
        }
    ),
    names_file_by_flag=st.booleans(),
)
def test_the_source_with_the_highest_precedence_wins(
    given_by: dict[str, set[str]], names_file_by_flag: bool
) -> None:
    values: dict[str, dict[str, Any]] = {
        "host": {source: f"{source.lower()}.example" for source in SOURCES},
        "port": {source: 1000 + rank for rank, source in enumerate(SOURCES)},
        "max_connections": {source: 2000 + rank for rank, source in enumerate(SOURCES)},
    }
    defaults = attrs.asdict(Settings())
    argv, environ, lines = [], {}, ["[curhat_trio]"]
    for name, sources in given_by.items():
        values[name]["default"] = defaults[name]
        if "flag" in sources:
            argv += [f"--{name.replace('_', '-')}", str(values[name]["flag"])]
        if "CURHAT" in sources:
            environ[f"CURHAT_{name.upper()}"] = str(values[name]["CURHAT"])
        if "bare" in sources:
            environ[name.upper()] = str(values[name]["bare"])
        if "file" in sources:
            value = values[name]["file"]
            lines.append(f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}")

    with tempfile.TemporaryDirectory() as folder:
        path = toml(Path(folder), "\n".join(lines))
        if names_file_by_flag:
            argv += ["--config", path]
        else:
            environ["CURHAT_CONFIG"] = path
        settings = attrs.asdict(load_settings(argv, environ))

    for name, sources in given_by.items():
        strongest = next(source for source in SOURCES if source in sources or source == "default")
        assert settings[name] == values[name][strongest]


def test_the_config_flag_overrides_the_config_variable(tmp_path: Path) -> None:
    path = toml(tmp_path, "[curhat_trio]\nport = 1")
    assert load_settings(["--config", path], {"CURHAT_CONFIG": "/nowhere"}).port == 1


def test_plain_variables_are_read_for_host_and_port_only() -> None:
    settings = load_settings([], {"HOST": "::1", "PORT": "1", "MAX_CONNECTIONS": "1", "LOG_LEVEL": "debug"})
    assert settings == Settings(host="::1", port=1)


@pytest.mark.parametrize("variable", ["PORT", "CURHAT_PORT", "CURHAT_STUN_URLS", "CURHAT_CONFIG"])
def test_an_empty_variable_counts_as_unset(variable: str) -> None:
    assert load_settings([], {variable: ""}) == Settings()


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURHAT_PORT", "1")
    monkeypatch.setenv("PORT", "2")
    monkeypatch.setenv("CURHAT_CONFIG", "/nowhere")
    assert load_settings([], {}) == Settings()


def secret_file(folder: Path, content: str = "northstar\n") -> str:
    path = folder / "turn.secret"
    path.write_text(content, encoding="utf-8")
    return str(path)


# Reading values


@pytest.mark.parametrize("field", FIELDS, ids=NAMES)
@pytest.mark.parametrize("source", ["flag", "variable"])
def test_every_setting_can_be_given_as_text(field: "attrs.Attribute[Any]", source: str, tmp_path: Path) -> None:
    samples: dict[str, tuple[str, object]] = {
        "host": ("0.0.0.0", "0.0.0.0"),
        "allowed_origins": (
            "https://a.example, http://b.example:81",
            ("https://a.example", "http://b.example:81"),
        ),
        "stun_urls": ("stun:a.example:3478,stuns:b.example", ("stun:a.example:3478", "stuns:b.example")),
        "turn_urls": (
            "turn:a.example,turns:b:5349?transport=tcp",
            ("turn:a.example", "turns:b:5349?transport=tcp"),
        ),
        "turn_secret": ("northstar", "northstar"),
        "turn_secret_file": (secret_file(tmp_path), secret_file(tmp_path)),
        "ice_transport_policy": ("relay", "relay"),
        "log_level": ("error", "error"),
        "log_format": ("json", "json"),
        "trace": ("a b/trace!.ndjson", "a b/trace!.ndjson"),
        # These three may not move far from what they must fit.
        "message_burst": ("100", 100),
        "byte_burst": ("70000", 70000),
        "max_message_bytes": ("2048", 2048),
        "outbound_bytes": ("2000000", 2000000),
    }
    needed = {
        "turn_urls": {"turn_secret": "northstar"},
        "ice_transport_policy": {"turn_secret": "northstar", "turn_urls": "turn:a.example"},
    }
    text, value = samples.get(field.name, ("4321", 4321))
    also = {f"CURHAT_{name.upper()}": other for name, other in needed.get(field.name, {}).items()}
    if source == "flag":
        settings = load_settings([f"--{field.name.replace('_', '-')}", text], also)
    else:
        settings = load_settings([], {f"CURHAT_{field.name.upper()}": text, **also})
    assert getattr(settings, field.name) == value
    assert type(getattr(settings, field.name)) is type(field.default)
    set_too = {*needed.get(field.name, {}), *(["turn_secret"] if field.name == "turn_secret_file" else [])}
    others = set(NAMES) - {field.name} - set_too
    assert all(getattr(settings, name) == getattr(Settings(), name) for name in others)


def test_toml_values_of_every_type(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        """
        [curhat_trio]
        host = "::"
        port = 0
        stun_urls = ["stun:a", "stuns:b:1"]
        ping_seconds = 5
        pong_seconds = 2.5
        log_level = "debug"
        """,
    )
    settings = load_settings(["--config", path], {})
    assert settings == Settings(
        host="::",
        port=0,
        stun_urls=("stun:a", "stuns:b:1"),
        ping_seconds=5.0,
        pong_seconds=2.5,
        log_level="debug",
    )
    assert isinstance(settings.ping_seconds, float)


def test_the_bounds_themselves_are_valid() -> None:
    assert Settings(port=65535, max_message_bytes=1024, max_connections=1).port == 65535


def test_a_path_is_taken_literally(tmp_path: Path) -> None:
    folder = tmp_path / "wow!"
    folder.mkdir()
    assert load_settings(["--config", toml(folder, "[curhat_trio]\nport = 1")], {}).port == 1


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_settings(["--config", toml(tmp_path, "")], {}) == Settings()


def test_a_flag_can_empty_a_list(tmp_path: Path) -> None:
    path = toml(tmp_path, '[curhat_trio]\nstun_urls = ["stun:a"]')
    assert load_settings(["--config", path, "--stun-urls", ""], {}).stun_urls == ()


@pytest.mark.parametrize(
    "origin", ["null", "http://localhost:8080", "https://[::1]:8443", "capacitor://localhost"]
)
def test_origins_as_browsers_send_them(origin: str) -> None:
    assert load_settings(["--allowed-origins", origin], {}).allowed_origins == (origin,)


def test_the_number_of_origins_is_not_limited() -> None:
    origins = [f"https://{number}.example" for number in range(100)]
    assert len(load_settings(["--allowed-origins", ",".join(origins)], {}).allowed_origins) == 100


# Refusals: where, what, and what would do

PORT = "expected 0 to 65535"
ORIGINS = "expected origins such as https://chat.example, in lower case and without a path"
STUN = "expected at most 32 URLs such as stun:stun.example.org:3478 or stuns:stun.example.org"


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("port", "eighty", f'"eighty" is not a whole number; {PORT}'),
        ("port", "80.0", f'"80.0" is not a whole number; {PORT}'),
        ("port", "1_0", f'"1_0" is not a whole number; {PORT}'),
        ("port", "\u0661", f'"\\u0661" is not a whole number; {PORT}'),
        ("port", "true", f'"true" is not a whole number; {PORT}'),
        ("port", " ", f'"" is not a whole number; {PORT}'),
        ("port", "9" * 5000, f'"{"9" * 59}... is not a whole number; {PORT}'),
        ("port", "1\n2", f'"1\\n2" is not a whole number; {PORT}'),
        ("port", "65536", f"65536 is out of range; {PORT}"),
        ("port", "-1", f"-1 is out of range; {PORT}"),
        ("host", "a b", '"a b" is not a valid host; expected a host name or an IP address'),
        ("max_connections", "0", "0 is out of range; expected 1 or more connections"),
        ("max_message_bytes", "1023", "1023 is out of range; expected 1024 or more bytes"),
        ("widen_after_seconds", "-1", "-1.0 is out of range; expected 0 or more seconds"),
        ("ping_seconds", "0", "0.0 is out of range; expected more than 0 seconds"),
        ("ping_seconds", "nan", '"nan" is not a finite number; expected more than 0 seconds'),
        ("ping_seconds", "inf", '"inf" is not a finite number; expected more than 0 seconds'),
        ("ping_seconds", "1e999", "inf is not a finite number; expected more than 0 seconds"),
        ("ping_seconds", "5s", '"5s" is not a finite number; expected more than 0 seconds'),
        ("bytes_per_second", "0", "0.0 is out of range; expected more than 0 bytes per second"),
        ("ice_transport_policy", "none", '"none" is not a valid choice; expected all or relay'),
        ("log_level", "INFO", '"INFO" is not a valid choice; expected debug, info, warning or error'),
        ("log_format", "xml", '"xml" is not a valid choice; expected auto, console or json'),
        ("stun_urls", "stun:a,turn:b", f'"turn:b" is not a STUN URL; {STUN}'),
        ("stun_urls", "stun://a", f'"stun://a" is not a STUN URL; {STUN}'),
        ("stun_urls", "stun:", f'"stun:" is not a STUN URL; {STUN}'),
        ("allowed_origins", "*", f'"*" is not an origin; {ORIGINS}'),
        ("allowed_origins", "https://a.example/", f'"https://a.example/" is not an origin; {ORIGINS}'),
        ("allowed_origins", "https://A.example", f'"https://A.example" is not an origin; {ORIGINS}'),
    ],
)
def test_invalid_text_is_refused(name: str, text: str, complaint: str) -> None:
    flag, variable = f"--{name.replace('_', '-')}", f"CURHAT_{name.upper()}"
    assert refusal([f"{flag}={text}"]) == f"{flag}: {complaint}"
    assert refusal([], {variable: text}) == f"{variable}: {complaint}"


def test_an_invalid_plain_variable_is_named_in_the_error() -> None:
    assert refusal([], {"PORT": "x"}) == f'PORT: "x" is not a whole number; {PORT}'


def test_an_overridden_value_must_be_valid_too() -> None:
    assert refusal(["--port", "1"], {"PORT": "x"}).startswith("PORT: ")


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("port = true", f"port: true is not a whole number; {PORT}"),
        ('port = "5"', f'port: "5" is not a whole number; {PORT}'),
        ("port = 5.0", f"port: 5.0 is not a whole number; {PORT}"),
        ("port = [5]", f"port: [5] is not a whole number; {PORT}"),
        ("port = 65536", f"port: 65536 is out of range; {PORT}"),
        (f"port = 0x{'f' * 5000}", f"port: 0x{'f' * 58}... is out of range; {PORT}"),
        ("host = 5", "host: 5 is not a valid host; expected a host name or an IP address"),
        ("ping_seconds = nan", "ping_seconds: nan is not a finite number; expected more than 0 seconds"),
        ("ping_seconds = inf", "ping_seconds: inf is not a finite number; expected more than 0 seconds"),
        ("ping_seconds = true", "ping_seconds: true is not a finite number; expected more than 0 seconds"),
        ('ping_seconds = "5"', 'ping_seconds: "5" is not a finite number; expected more than 0 seconds'),
        (
            f"ping_seconds = 1{'0' * 400}",
            f"ping_seconds: {hex(10**400)[:60]}... is not a finite number; expected more than 0 seconds",
        ),
        ("log_level = 1", "log_level: 1 is not a valid choice; expected debug, info, warning or error"),
        ('stun_urls = "stun:a"', f'stun_urls: "stun:a" is not a list of strings; {STUN}'),
        ("stun_urls = [1]", f"stun_urls: 1 is not a STUN URL; {STUN}"),
        ("prot = 1", 'unknown setting "prot"; did you mean port?'),
        ("max-connections = 1", 'unknown setting "max-connections"; did you mean max_connections?'),
        ("zzz = 1", 'unknown setting "zzz"; curhat-trio --help lists them all'),
        (f"port = [0x{'f' * 5000}]", f"port: an array is not a whole number; {PORT}"),
    ],
)
def test_invalid_toml_values_are_refused(tmp_path: Path, assignment: str, complaint: str) -> None:
    assert file_refusal(tmp_path, f"[curhat_trio]\n{assignment}") == f"curhat.toml: {complaint}"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("port = 1", 'unexpected "port" at the top level; settings go in the table [curhat_trio]'),
        ("[curhat-trio]", 'unexpected "curhat-trio" at the top level; settings go in the table [curhat_trio]'),
        ("curhat_trio = 1", "curhat_trio is not a table; expected [curhat_trio] with the settings below it"),
        ("[[curhat_trio]]", "curhat_trio is not a table; expected [curhat_trio] with the settings below it"),
        (
            "port 1",
            "not valid TOML: Expected '=' after a key in a key/value pair (at line 1, column 6); correct the file",
        ),
        (f"[curhat_trio]\nport = {'9' * 5000}", "not valid TOML: a number has too many digits; correct the file"),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, content: str, complaint: str) -> None:
    assert file_refusal(tmp_path, content) == f"curhat.toml: {complaint}"


def test_a_file_with_too_many_levels_is_refused(tmp_path: Path) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # Hypothesis may have raised it
    try:
        message = file_refusal(tmp_path, f"[curhat_trio]\nport = {'[' * 5000}")
    finally:
        sys.setrecursionlimit(limit)
    assert message == "curhat.toml: not valid TOML: arrays or tables are nested too deeply; correct the file"


@pytest.mark.parametrize("flag", [True, False])
def test_an_absent_file_is_named(tmp_path: Path, flag: bool) -> None:
    path = str(tmp_path / "wow!" / "absent.toml")
    argv, environ = (["--config", path], {}) if flag else ([], {"CURHAT_CONFIG": path})
    assert refusal(argv, environ) == (
        f"{path}: can't be read: No such file or directory; expected a readable TOML file"
    )


def test_a_folder_is_refused_as_a_file(tmp_path: Path) -> None:
    assert refusal(["--config", str(tmp_path)]) == (
        f"{tmp_path}: can't be read: Is a directory; expected a readable TOML file"
    )


def test_a_file_must_be_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# caf\xe9")
    message = refusal(["--config", str(path)])
    assert message.startswith(f"{path}: not valid TOML: 'utf-8' codec can't decode byte 0xe9")
    assert message.endswith("; correct the file")


# Values that must fit each other


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            {"byte_burst": 65535},
            "byte_burst: 65535{0} is less than max_message_bytes, 65536 (default); expected at least 65536",
        ),
        (
            {"outbound_bytes": 1048575},
            "outbound_bytes: 1048575{0} is less than twice byte_burst, 524288 (default); "
            "expected at least 1048576",
        ),
        (
            {"message_burst": 513},
            "outbound_messages: 1024 (default) is less than twice message_burst, 513{0}; expected at least 1026",
        ),
    ],
)
def test_a_permitted_burst_must_fit_into_the_queue(tmp_path: Path, values: dict[str, int], complaint: str) -> None:
    ((name, value),) = values.items()
    flag, variable = f"--{name.replace('_', '-')}", f"CURHAT_{name.upper()}"
    assert refusal([flag, str(value)]) == complaint.format(f" (from {flag})")
    assert refusal([], {variable: str(value)}) == complaint.format(f" (from {variable})")
    assert file_refusal(tmp_path, f"[curhat_trio]\n{name} = {value}") == complaint.format(
        f" (from curhat.toml: {name})"
    )
    with pytest.raises(ValueError, match="is less than") as caught:
        Settings(**values)  # type: ignore[arg-type]
    assert str(caught.value) == complaint.format("").replace(" (default)", "")


def test_bursts_that_just_fit_are_valid() -> None:
    settings = Settings(max_message_bytes=2000, byte_burst=2000, outbound_bytes=4000, message_burst=512)
    assert settings.outbound_messages == 2 * settings.message_burst


def test_an_error_names_the_source_that_took_precedence() -> None:
    message = refusal(["--message-burst", "600"], {"CURHAT_MESSAGE_BURST": "700"})
    assert "message_burst, 600 (from --message-burst)" in message


# TURN, and its secret

URLS = "turn:turn.example"
TURN = "expected at most 32 URLs such as turn:turn.example.org:3478 or turns:turn.example.org:5349?transport=tcp"
NEEDLE = "k7northstar"


def test_the_secret_is_the_content_of_its_file(tmp_path: Path) -> None:
    path = secret_file(tmp_path, f" {NEEDLE}\n")
    assert load_settings(["--turn-urls", URLS], {"CURHAT_TURN_SECRET_FILE": path}).turn_secret == NEEDLE


@pytest.mark.parametrize("url", ["stun:a", "turn:", "turn://a", "turn:a b", "turn:a?transport=sctp", "TURN:a"])
def test_turn_urls_are_of_rfc_7065(url: str) -> None:
    message = refusal(["--turn-urls", url, "--turn-secret", NEEDLE])
    assert message == f'--turn-urls: "{url}" is not a TURN URL; {TURN}'


def test_turn_urls_need_a_secret(tmp_path: Path) -> None:
    rest = "TURN needs a shared secret; set turn_secret or turn_secret_file to its static-auth-secret"
    assert refusal(["--turn-urls", URLS]) == f"turn_urls (from --turn-urls): {rest}"
    with pytest.raises(ValueError, match="turn_urls: TURN needs a shared secret"):
        Settings(turn_urls=(URLS,))


def test_the_relay_policy_needs_a_turn_server() -> None:
    message = "lets nobody connect without a TURN server; set turn_urls too"
    variables = {"CURHAT_ICE_TRANSPORT_POLICY": "relay"}
    origin = "(from CURHAT_ICE_TRANSPORT_POLICY)"
    assert refusal([], variables) == f"ice_transport_policy: relay {origin} {message}"


def test_only_one_source_of_the_secret_is_allowed(tmp_path: Path) -> None:
    argv = ["--turn-secret", NEEDLE, "--turn-secret-file", secret_file(tmp_path, NEEDLE)]
    given = "turn_secret is set too, by --turn-secret; set only one of them"
    assert refusal(argv) == f"--turn-secret-file: {given}"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("\n", "the file is empty"),
        (f"{NEEDLE} {NEEDLE}", "the value (not shown) is not valid; expected a secret of printable ASCII"),
        (f"{NEEDLE}\u00e9", "the file is not ASCII"),
        (None, "can't be read: No such file or directory"),
    ],
)
def test_a_file_without_a_secret_is_refused(tmp_path: Path, content: str | None, complaint: str) -> None:
    path = str(tmp_path / "absent") if content is None else secret_file(tmp_path, content)
    message = refusal(["--turn-secret-file", path])
    assert message.startswith(f"--turn-secret-file: {path}: {complaint}")
    assert message.endswith("; expected a file that contains only the secret")
    assert NEEDLE not in message


def test_no_message_shows_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (f"{NEEDLE} {NEEDLE}", f"{NEEDLE}\n{NEEDLE}", f"{NEEDLE}\u00e9"):
        assert NEEDLE not in refusal(["--turn-secret", wrong])
        assert NEEDLE not in refusal([], {"CURHAT_TURN_SECRET": wrong})
        with pytest.raises(ValueError, match="not shown") as caught:
            Settings(turn_secret=wrong)
        assert NEEDLE not in str(caught.value)
    for assignment in (f'turn_secret = ["{NEEDLE}"]', f'turn_secret = "{NEEDLE} "', f"turn_secret = {NEEDLE}"):
        assert NEEDLE not in file_refusal(tmp_path, f"[curhat_trio]\n{assignment}")
    _, out, err = printed([f"--turn-secrt={NEEDLE}"], capsys)
    assert NEEDLE not in out + err
    good = load_settings(["--turn-urls", URLS], {"CURHAT_TURN_SECRET": NEEDLE})
    assert good.turn_secret == NEEDLE
    assert NEEDLE not in repr(good)


@pytest.mark.parametrize(
    ("name", "url", "expected"), [("stun_urls", "stun:a", STUN), ("turn_urls", "turn:a", TURN)]
)
def test_the_number_of_ice_servers_is_limited_to_what_a_message_holds(
    tmp_path: Path, name: str, url: str, expected: str
) -> None:
    """A client that keeps to the schemas would take `join` for broken."""
    secret = {"CURHAT_TURN_SECRET": NEEDLE}
    flag, urls = f"--{name.replace('_', '-')}", [f"{url}{number}" for number in range(ARRAY_ITEMS + 1)]
    complaint = f"{ARRAY_ITEMS + 1} entries are too many; {expected}"
    assert refusal([flag, ",".join(urls)], secret) == f"{flag}: {complaint}"
    assert file_refusal(tmp_path, f"[curhat_trio]\n{name} = {urls}") == f"curhat.toml: {name}: {complaint}"
    with pytest.raises(ValueError, match="too many"):
        Settings(turn_secret=NEEDLE, **{name: tuple(urls)})  # type: ignore[arg-type]
    most = load_settings([flag, ",".join(urls[:-1])], secret)
    assert len(getattr(most, name)) == ARRAY_ITEMS


# Made directly, as tests do


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"port": 65536}, f"port: 65536 is out of range; {PORT}"),
        ({"port": True}, f"port: true is not a whole number; {PORT}"),
        ({"port": "5"}, f'port: "5" is not a whole number; {PORT}'),
        ({"stun_urls": ["stun:a"]}, f"stun_urls: ['stun:a'] is not a list of strings; {STUN}"),
        (
            {"drain_seconds": float("nan")},
            "drain_seconds: nan is not a finite number; expected 0 or more seconds",
        ),
    ],
)
def test_settings_created_directly_are_validated(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        Settings(**values)
    assert str(caught.value) == complaint


def test_zero_is_valid_where_it_means_at_once() -> None:
    settings = Settings(port=0, widen_after_seconds=0, close_seconds=0, drain_seconds=0)
    assert settings.widen_after_seconds == 0


# The command line itself


def printed(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as caught:
        load_settings(argv, {})
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def help_entries(text: str) -> dict[str, str]:
    """The help of each flag on one line, by flag."""
    entries: dict[str, str] = {}
    flag = ""
    for line in text.splitlines():
        rest = line
        if line.startswith("  -"):
            flag, _, rest = line.strip().partition(" ")
        entries[flag] = f"{entries.get(flag, '')} {rest.strip()}"
    return entries


def test_help_documents_flag_meaning_unit_variable_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, err = printed(["--help"], capsys)
    assert (code, err) == (0, "")
    assert max(len(line) for line in text.splitlines()) <= 100
    entries = help_entries(text)
    for field in FIELDS:
        entry = entries[f"--{field.name.replace('_', '-')}"]
        assert field.metadata["help"] in entry
        assert f"[{field.metadata['kind'].expected}; env CURHAT_{field.name.upper()}" in entry
    assert "0 or more seconds; env CURHAT_DRAIN_SECONDS; default 10]" in entries["--drain-seconds"]
    assert "1 or more bytes; env CURHAT_OUTBOUND_BYTES; default 2097152]" in entries["--outbound-bytes"]
    assert "bytes per second; env CURHAT_BYTES_PER_SECOND; default 65536]" in entries["--bytes-per-second"]
    assert "0 to 65535; env CURHAT_PORT or PORT; default 8080]" in entries["--port"]
    assert "env CURHAT_HOST or HOST; default 127.0.0.1]" in entries["--host"]
    assert "env CURHAT_STUN_URLS; default none]" in entries["--stun-urls"]
    assert "debug, info, warning or error; env CURHAT_LOG_LEVEL; default info]" in entries["--log-level"]
    assert "env CURHAT_CONFIG" in entries["--config"]


@pytest.mark.parametrize("field", FIELDS, ids=NAMES)
def test_every_default_is_in_help(field: "attrs.Attribute[Any]", capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = printed(["--help"], capsys)
    entry = help_entries(text)[f"--{field.name.replace('_', '-')}"]
    shown = entry.partition("; default ")[2].partition("]")[0]
    if field.default in ((), ""):
        assert shown == "none"
    elif isinstance(field.default, str):
        assert shown == field.default or (field.default == "" and shown == "none")
    else:
        assert float(shown) == field.default


def test_help_has_groups_and_documents_the_precedence(capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = printed(["--help"], capsys)
    titles = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles[1:] == ["Listening:", "Matching:", "Timeouts:", "Limits:", "ICE:", "Logging:"]
    assert "A flag overrides its CURHAT_ variable, which overrides the plain HOST or PORT" in text


def test_help_does_not_depend_on_the_process_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text, _ = printed(["--help"], capsys)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert printed(["--help"], capsys)[1] == text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(["--version"], capsys) == (0, f"curhat-trio {__version__}\n", "")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--prot", "1"], 'unknown option "--prot" (did you mean --port?)'),
        (["--prot=1"], 'unknown option "--prot" (did you mean --port?)'),
        (["--zzz"], 'unknown option "--zzz"'),
        (["--max-conn", "1"], 'unknown option "--max-conn"'),
        (["-x"], 'unknown option "-x"'),
        (["--"], 'unknown option "--"'),
        (["--port=--"], 'argument "--port": "--" is not a value'),
        (["--config=--"], 'argument "--config": "--" is not a value'),
        (["serve"], 'unexpected argument "serve"'),
        (["a\nb"], 'unexpected argument "a\\nb"'),
        (["--port"], "argument --port: expected one argument"),
    ],
)
def test_an_invalid_command_line_is_reported_in_one_line(
    argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = printed(argv, capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"curhat-trio: {complaint}")
    assert err.endswith("; see curhat-trio --help\n")
    assert err.count("\n") == 1
