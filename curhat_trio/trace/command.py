"""`curhat-trio check-trace FILE...`: check whether a server can have written these traces."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from curhat_trio.trace.checker import Refused, check_trace


def main(arguments: Sequence[str]) -> int:
    """The subcommand. Returns its exit status: 0 if all were accepted, 1 if not, 2 if one can't be read."""
    parser = argparse.ArgumentParser(
        prog="curhat-trio check-trace",
        description="Check whether a server can have written these traces (see --trace).",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a trace, or a folder with *.ndjson")
    parser.add_argument("--cut-short", action="store_true", help="accept traces of servers that were killed")
    options = parser.parse_args(arguments)
    began, lines, refused, files = time.monotonic(), 0, 0, list(_traces(options.files))
    if not files:
        print("curhat-trio: no trace found; expected files, or folders with *.ndjson", file=sys.stderr)
        return 2
    for file in files:
        try:
            text = file.read_bytes()
        except OSError as error:
            print(f"curhat-trio: {file}: {error.strerror}; expected a readable trace", file=sys.stderr)
            return 2
        try:
            lines += check_trace(text, cut_short=options.cut_short)
        except Refused as refusal:
            refused += 1
            print(f"{file}: {refusal}")
    seconds = time.monotonic() - began
    print(f"{len(files) - refused} of {len(files)} traces accepted, {lines} lines in {seconds:.1f} s")
    return 1 if refused else 0


def _traces(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("*.ndjson"))
        else:
            yield path
