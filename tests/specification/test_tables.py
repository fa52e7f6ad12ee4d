"""The tables for those who write a client show what happens on the wire, and nothing of the code."""

from collections.abc import Callable
from typing import Any, get_args

import pytest

from curhat_trio.protocol.events import Event
from curhat_trio.protocol.messages import FROM_CLIENT
from curhat_trio.protocol.session import TABLE
from curhat_trio.protocol.states import Connected, Live, Negotiating, Paired, Waiting
from curhat_trio.specification.tables import client_table, rule_table


def cells(table: str) -> dict[str, list[str]]:
    """First cell of a row -> the others."""
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return {first.strip(): [cell.strip() for cell in others] for first, *others in rows[2:]}


def test_a_client_sees_where_each_message_leads() -> None:
    seen = cells(client_table())
    for name, kind in FROM_CLIENT.items():
        for cell, state in zip(seen[f"`{name}`"], get_args(Live), strict=True):
            row = TABLE.get((state, kind))
            assert (cell == "`wrong_state`") == (row is None)
            if row is not None and name != "candidate":
                ends = [end.__name__.lower() for end in row.to]
                assert cell.partition("→ ")[2] == " or ".join(ends)


def test_a_candidate_seems_to_change_no_state() -> None:
    assert {cell.partition("→")[1] for cell in cells(client_table())["`candidate`"]} == {""}


@pytest.mark.parametrize(
    ("what", "where", "expected"),
    [
        ("a partner is found", Waiting, "`join` → paired"),
        ("the partner leaves, or is lost", Negotiating, "`leave` → connected"),
        ("a time limit passes", Connected, "close 4502, if nothing was sent → closed"),
        ("a time limit passes", Waiting, ""),
        ("a time limit passes", Paired, "`leave` → connected"),
    ],
)
def test_a_client_sees_what_others_do(what: str, where: type[Any], expected: str) -> None:
    assert cells(client_table())[what][get_args(Live).index(where)] == expected


@pytest.mark.parametrize("table", [client_table, rule_table])
def test_only_the_second_table_names_the_code(table: Callable[[], str]) -> None:
    names = {kind.__name__ for kind in get_args(Event)} & {kind.__name__ for _, kind in TABLE}
    named = [name for name in names if name in table()]
    assert len(named) == (0 if table is client_table else len(names))
