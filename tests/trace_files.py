"""Where the servers of a whole test run write their traces: `CURHAT_TEST_TRACES=FOLDER pytest`."""

import itertools
import os
from pathlib import Path

VARIABLE = "CURHAT_TEST_TRACES"
"""The folder. Also the modules that don't know pytest look here."""

_numbers = itertools.count(1)


def was_killed(trace: Path | None) -> None:
    """A server ended as in a crash: its trace, if there is one, lacks the end and gets another name."""
    if trace is not None and trace.exists():
        trace.rename(trace.with_suffix(".cut"))


def new_trace_file() -> Path | None:
    """A file for one more server's trace, named after the test that runs; None: this run is not traced."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    test = os.environ.get("PYTEST_CURRENT_TEST", "server").partition(" ")[0].rpartition("::")[2]
    name = "".join(character if character.isalnum() else "-" for character in test)[:60]
    return Path(folder) / f"{os.getpid()}-{next(_numbers):04}-{name}.ndjson"
