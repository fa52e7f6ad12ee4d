"""Tables of the protocol as Markdown, made from those that the server uses."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.messages import FROM_CLIENT
from curhat_trio.protocol.session import TABLE, Row
from curhat_trio.protocol.states import Closed, State

STATES: tuple[type[Any], ...] = get_args(State)
_MESSAGES = frozenset(FROM_CLIENT.values())
_NOT_ALLOWED = "wrong_state"
_NOTHING = "ignored"


def state_table() -> str:
    """The rule for each event in each state."""
    kinds = list(dict.fromkeys(kind for _, kind in TABLE))
    rows = [
        [_heading(kind), *(_cell(TABLE.get((state, kind)), state, kind) for state in STATES)] for kind in kinds
    ]
    return (
        "What each state does with each event: the rule, and the states that it may lead to. Quoted events are "
        "messages from the client.\n\n" + table(["", *(state.__name__.lower() for state in STATES)], rows)
    )


def error_table() -> str:
    """Codes of `error`."""
    return table(["code", "what it means"], zip(_codes(ErrorCode), _comments(ErrorCode), strict=True))


def leave_reason_table() -> str:
    """Reasons of `leave`."""
    return table(["reason", "why"], zip(_codes(LeaveReason), _comments(LeaveReason), strict=True))


def close_code_table() -> str:
    """WebSocket close codes."""
    return table(
        ["code", "name", "reason", "reconnect without asking the user?"],
        (
            [str(code.value), code.name.lower(), code.explanation, "yes" if code.retry else "no"]
            for code in sorted(CloseCode)
        ),
    )


def rule_name(row: Row) -> str:
    """The name of a row's rule: a function of pairing.py or lifetime.py."""
    return row.rule.__name__


def event_name(kind: type[Any]) -> str:
    """The name of an event: of a client's message its type on the wire, of anything else its class."""
    return str(kind.type) if kind in _MESSAGES else kind.__name__


def _heading(kind: type[Any]) -> str:
    name = event_name(kind)
    return f"`{name}`" if name in FROM_CLIENT else name


def _cell(row: Row | None, state: type, kind: type) -> str:
    if row is None:
        return _NOT_ALLOWED if kind in _MESSAGES and state is not Closed else _NOTHING
    rule = rule_name(row).replace("_", " ")
    return " → ".join([rule, *([" or ".join(end.__name__.lower() for end in row.to)] if row.to else [])])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _codes(kind: type[ErrorCode] | type[LeaveReason]) -> list[str]:
    return [f"`{member.value}`" for member in kind]


def _comments(kind: type[ErrorCode] | type[LeaveReason]) -> list[str]:
    """The docstring below each member: they are explained there and nowhere else."""
    members = inspect.getsource(kind).split("\n\n", 1)[1].split('"""')
    return [" ".join(text.split()) for text in members[1::2]]
