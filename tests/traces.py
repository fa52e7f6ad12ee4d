"""Where the servers of a whole test run write their traces: `pytest --traces FOLDER`."""

import itertools
import os
from pathlib import Path

VARIABLE = "CURHAT_TEST_TRACES"
"""The folder. A variable and no option, because the tests of the command line and the browser start processes."""

_numbers = itertools.count(1)


def new_trace_file() -> Path | None:
    """A file for one more server's trace, named after the test that runs; None: this run is not traced."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    test = os.environ.get("PYTEST_CURRENT_TEST", "server").partition(" ")[0].rpartition("::")[2]
    name = "".join(character if character.isalnum() else "-" for character in test)[:60]
    return Path(folder) / f"{os.getpid()}-{next(_numbers):04}-{name}.ndjson"
