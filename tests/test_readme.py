"""The README's picture of the states is the session's table."""

import re
from pathlib import Path

from curhat_trio.protocol.session import TABLE

README = Path(__file__).parent.parent / "README.md"


def drawn_arrows() -> set[tuple[str, str]]:
    [picture] = re.findall(r"```mermaid\n(.*?)```", README.read_text(), re.DOTALL)
    return set(re.findall(r"(\w+) --> (\w+)", picture))


def test_every_arrow_is_a_row_and_every_row_an_arrow() -> None:
    rows = {(state.__name__, row.to.__name__) for (state, _), row in TABLE.items() if row.to is not None}
    assert drawn_arrows() == rows
