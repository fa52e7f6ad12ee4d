"""Loading the settings: read and check every source, apply their precedence, and look for conflicts.

Every value is checked, even one that another source overrides, and an error names the flag, variable or file to
correct.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from curhat_trio.config.command_line import BARE_VARIABLES, CONFIG_VARIABLE, flag, parse_flags, variable
from curhat_trio.config.kinds import quote
from curhat_trio.config.settings import FIELDS, KINDS, Settings, find_conflict

_TABLE = "curhat_trio"


class SettingsError(Exception):
    """A mistake of the operator's: one line that names the setting, its source, the fault and what is expected."""


def load_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read every source and build the settings, from nothing but the arguments and the files that they name.

    Args:
        argv: the command line without the program's name, such as `sys.argv[1:]`.
        environ: the environment variables, such as `os.environ`.

    Raises:
        SettingsError: a value, a key or a file is not valid; the message is one line for the operator.
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
    if problem := find_conflict(
        values, lambda name: f" (from {origins[name]})" if name in origins else " (default)"
    ):
        raise SettingsError(problem)
    return Settings(**values)


def _read_sources(flags: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    """Yield name, origin and unchecked value of every setting that a source has, in ascending precedence.

    The origin is a flag, a variable, or a file and the key in it. An empty variable counts as unset, as for the Go
    server: container tools pass variables that nobody has set as "".
    """
    if path := flags.get("config") or environ.get(CONFIG_VARIABLE):
        for key, value in _read_table(path).items():
            if key not in FIELDS:
                near = difflib.get_close_matches(key, FIELDS, n=1)
                advice = f"did you mean {near[0]}?" if near else "curhat-trio --help lists them all"
                raise SettingsError(f"{path}: unknown setting {quote(key)}; {advice}")
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
    except OSError as error:
        raise SettingsError(f"{path}: can't be read: {error.strerror}; expected a readable TOML file") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: not valid TOML: {_syntax_problem(error)}; correct the file") from error
    for key in document:
        if key != _TABLE:
            raise SettingsError(
                f"{path}: unexpected {quote(key)} at the top level; settings go in the table [{_TABLE}]"
            )
    table = document.get(_TABLE, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {_TABLE} is not a table; expected [{_TABLE}] with the settings below it")
    return table


def _syntax_problem(error: Exception) -> object:
    """Why a file is not valid TOML: tomllib's own message, unless that would not help the operator."""
    if isinstance(error, RecursionError):
        return "arrays or tables are nested too deeply"
    if isinstance(error, (tomllib.TOMLDecodeError, UnicodeDecodeError)):
        return error
    return "a number has too many digits"  # Python refuses to convert it


def _read_secret(values: Mapping[str, Any], origins: Mapping[str, str]) -> object:
    """Read the file that `turn_secret_file` names, without the space around its content."""
    path, where = values["turn_secret_file"], origins["turn_secret_file"]
    if values["turn_secret"]:
        raise SettingsError(f"{where}: turn_secret is set too, by {origins['turn_secret']}; set only one of them")
    try:
        secret = Path(path).read_text(encoding="ascii").strip()
        if secret:
            return KINDS["turn_secret"].check(secret)
        problem = "the file is empty"
    except OSError as error:
        problem = f"can't be read: {error.strerror}"
    except UnicodeError:  # its message would show a byte of the secret
        problem = "the file is not ASCII"
    except ValueError as error:
        problem = str(error)
    raise SettingsError(f"{where}: {path}: {problem}; expected a file that contains only the secret")
