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
from curhat_trio.config.kinds import shown
from curhat_trio.config.settings import FIELDS

CONFIG_VARIABLE = "CURHAT_CONFIG"
BARE_VARIABLES = {"host": "HOST", "port": "PORT"}


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    return f"CURHAT_{name.upper()}"


def parse_flags(argv: Sequence[str]) -> dict[str, str]:
    """The flags that were given, by field name, as text; "config" among them if it was.

    Raises:
        SystemExit: code 0 after `--help` or `--version` was printed; code 2 after one line on stderr if the
            flags themselves make no sense.
    """
    parser = _make_parser()
    namespace, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].partition("=")[0]  # what follows may be a secret
        near = difflib.get_close_matches(name, map(flag, FIELDS), n=1)
        parser.error(f"{shown(name)} is no flag of mine{f', but {near[0]} is' if near else ''}")
    return vars(namespace)


class _HelpFormatter(argparse.HelpFormatter):
    """argparse's, but a line break in a flag's help stays one: the sentence, then the facts."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return [part for line in text.splitlines() for part in textwrap.wrap(line, width)]


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is one line: the usage of some thirty flags would bury it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.color = False  # Python 3.14 would look into os.environ to decide it

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _make_parser() -> _Parser:
    parser = _Parser(
        prog="curhat-trio",
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]",
        description="WebRTC signaling for anonymous one-to-one video chat.",
        epilog=(
            "A flag wins over its CURHAT_ variable, that over the bare HOST or PORT, that over the file, and "
            "the file over the default. An empty variable counts as not set. In the file a setting has its "
            "flag's name with underscores, in the table [curhat_trio]."
        ),
        # A fixed width, because argparse would ask os.environ for COLUMNS.
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
    """What the setting does, then what would do, its variables and its default, as argparse's format string."""
    bare = f" or {BARE_VARIABLES[field.name]}" if field.name in BARE_VARIABLES else ""
    default = f"{field.default:.10g}" if isinstance(field.default, float) else field.default or "none"
    facts = f"{field.metadata['kind'].expected}; env {variable(field.name)}{bare}; default {default}"
    return f"{field.metadata['help']}\n[{facts}]".replace("%", "%%")
