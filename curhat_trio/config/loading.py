"""Loading the settings: every source is read and checked, the strongest wins, and they must fit each other.

Every value is checked where it was given, also one that a stronger source overrides, so an error names the
flag, the variable or the file to correct.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from curhat_trio.config.command_line import BARE_VARIABLES, CONFIG_VARIABLE, flag, parse_flags, variable
from curhat_trio.config.kinds import shown
from curhat_trio.config.settings import FIELDS, KINDS, Settings, misfit

_TABLE = "curhat_trio"


class SettingsError(Exception):
    """The operator's mistake, in one line: which setting, given where, what is wrong, what would do."""


def load_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read every source and build the settings; nothing but the arguments and the named files is looked at.

    Args:
        argv: the command line without the program's name, as in `sys.argv[1:]`.
        environ: the environment's variables, as in `os.environ`.

    Raises:
        SettingsError: a value, a key or a file is wrong; the message is one line for the operator.
        SystemExit: see `parse_flags`.
    """
    values: dict[str, Any] = {name: field.default for name, field in FIELDS.items()}
    origins: dict[str, str] = {}
    for name, where, value in _read_sources(parse_flags(argv), environ):
        try:
            values[name] = KINDS[name].check(value)
        except ValueError as error:
            raise SettingsError(f"{where}: {error}") from None
        origins[name] = where
    if values["turn_secret_file"]:
        values["turn_secret"] = _read_secret(values, origins)
    if problem := misfit(values, lambda name: f" (from {origins[name]})" if name in origins else " (default)"):
        raise SettingsError(problem)
    return Settings(**values)


def _read_sources(flags: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    """What each source gives, the weakest first: a setting's name, where it was given, and its unchecked value.

    "Where" is a flag, a variable, or a file and the key in it. An empty variable counts as not set, as for the
    Go server: container tools pass on what nobody set as "".
    """
    if path := flags.get("config") or environ.get(CONFIG_VARIABLE):
        for key, value in _read_table(path).items():
            if key not in FIELDS:
                nearest = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.0)[0]
                raise SettingsError(f"{path}: {shown(key)} is not a setting; the nearest that is one: {nearest}")
            yield key, f"{path}: {key}", KINDS[key].from_toml(value)
    variables = chain(BARE_VARIABLES.items(), ((name, variable(name)) for name in FIELDS))
    for name, where in variables:
        if text := environ.get(where):
            yield name, where, KINDS[name].from_text(text.strip())
    for name in FIELDS:
        if name in flags:
            yield name, flag(name), KINDS[name].from_text(flags[name].strip())


def _read_table(path: str) -> dict[str, object]:
    try:
        with Path(path).open("rb") as file:
            document = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: {_reason(error)}; expected a readable TOML file") from error
    for key in document:
        if key != _TABLE:
            raise SettingsError(f"{path}: {shown(key)} is out of place; expected the table [{_TABLE}] only")
    table = document.get(_TABLE, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {_TABLE} is not a table; expected [{_TABLE}] and settings under it")
    return table


def _read_secret(values: Mapping[str, Any], origins: Mapping[str, str]) -> object:
    """What the file holds that `turn_secret_file` names, without space around it. SettingsError: no secret."""
    path, where = values["turn_secret_file"], origins["turn_secret_file"]
    if values["turn_secret"]:
        raise SettingsError(
            f"{where}: turn_secret is given too, by {origins['turn_secret']}; expected one of them"
        )
    try:
        secret = Path(path).read_text(encoding="ascii").strip()
        if not secret:
            raise ValueError("the file is empty")
        return KINDS["turn_secret"].check(secret)
    except (OSError, ValueError) as error:
        # A decoding error would show a byte of the secret.
        reason = "is not ASCII" if isinstance(error, UnicodeError) else _reason(error)
        raise SettingsError(f"{where}: {path}: {reason}; expected a secret in a file of its own") from None


def _reason(error: Exception) -> object:
    return error.strerror if isinstance(error, OSError) else error
