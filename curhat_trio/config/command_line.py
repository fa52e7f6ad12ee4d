"""The command line: a flag and an entry in `--help` for every setting of the table."""

import argparse
import difflib
import textwrap
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any, NoReturn

import attrs

from curhat_trio import __version__
from curhat_trio.config.kinds import quote
from curhat_trio.config.settings import FIELDS

CONFIG_VARIABLE = "CURHAT_CONFIG"
BARE_VARIABLES = {"host": "HOST", "port": "PORT"}


def flag(name: str) -> str:
    """The command-line flag of a setting, such as `--max-connections`."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """The environment variable of a setting, such as `CURHAT_MAX_CONNECTIONS`."""
    return f"CURHAT_{name.upper()}"


def parse_flags(argv: Sequence[str]) -> dict[str, str]:
    """The flags that are present in `argv`, by field name, as text; `config` is among them.

    Raises:
        SystemExit: code 0 after `--help` or `--version` was printed; code 2 after one line on stderr if the
            command line can't be parsed.
    """
    parser = _make_parser()
    for argument in argv:
        name, _, value = argument.partition("=")
        if name.startswith("-") and value == "--":  # some versions of argparse drop it and return a list
            parser.error(f'argument {quote(name)}: "--" is not a value')
    namespace, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(_unknown(unknown[0]))
    return vars(namespace)


def _unknown(argument: str) -> str:
    name = argument.partition("=")[0]  # what follows may be a secret
    if not name.startswith("-"):
        return f"unexpected argument {quote(name)}"
    near = difflib.get_close_matches(name, map(flag, FIELDS), n=1)
    return f"unknown option {quote(name)}{f' (did you mean {near[0]}?)' if near else ''}"


class _HelpFormatter(argparse.HelpFormatter):
    """argparse's formatter, but keeps the line break between a flag's description and its facts."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return [part for line in text.splitlines() for part in textwrap.wrap(line, width)]


class _Parser(argparse.ArgumentParser):
    """argparse's parser, but an error is one line: the usage of thirty flags would bury it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.color = False  # Python 3.14 would read os.environ to decide

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _make_parser() -> _Parser:
    parser = _Parser(
        prog="curhat-trio",
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]",
        description="WebRTC signaling for anonymous one-to-one video chat.",
        epilog=(
            "A flag overrides its CURHAT_ variable, which overrides the plain HOST or PORT, which overrides the "
            "file, which overrides the default. An empty variable counts as unset. In the file, settings are keys "
            "of the table [curhat_trio], named like their flags but with underscores."
        ),
        # A fixed width, because argparse would read COLUMNS from os.environ.
        formatter_class=partial(_HelpFormatter, width=100, max_help_position=30),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "--config", metavar="FILE", help=f"TOML file to read.\n[env {CONFIG_VARIABLE}; default none]"
    )
    for title, fields in groupby(FIELDS.values(), key=lambda field: str(field.metadata["group"])):
        group = parser.add_argument_group(title)
        for field in fields:
            group.add_argument(flag(field.name), metavar=field.metadata["kind"].metavar, help=_help(field))
    return parser


def _help(field: "attrs.Attribute[Any]") -> str:
    """What the setting does, its valid values, variables and default, as a format string for argparse."""
    bare = f" or {BARE_VARIABLES[field.name]}" if field.name in BARE_VARIABLES else ""
    default = f"{field.default:.10g}" if isinstance(field.default, float) else field.default or "none"
    facts = f"{field.metadata['kind'].expected}; env {variable(field.name)}{bare}; default {default}"
    return f"{field.metadata['help']}\n[{facts}]".replace("%", "%%")
