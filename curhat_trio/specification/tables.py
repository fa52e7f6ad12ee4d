"""Tables of the protocol as Markdown, from the tables that run."""

import inspect
from collections.abc import Iterable, Sequence

from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.session import TABLE, Closed, Connected, Negotiating, Paired, Row, Waiting

STATES = (Connected, Waiting, Paired, Negotiating, Closed)
_NOT_ALLOWED = "wrong_state"
_NOTHING = "ignored"


def state_table() -> str:
    """What happens at each event in each state."""
    kinds = list(dict.fromkeys(kind for _, kind in TABLE))
    rows = [
        [_event_name(kind), *(_cell(TABLE.get((state, kind)), state, kind) for state in STATES)] for kind in kinds
    ]
    return (
        "What each state does with each event: the rule, and the state it may lead to. Quoted events are what the "
        "client says.\n\n" + table(["", *(state.__name__.lower() for state in STATES)], rows)
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
        ["code", "name", "reason said", "come back by yourself?"],
        (
            [str(code.value), code.name.lower(), code.explanation, "yes" if code.retry else "no"]
            for code in sorted(CloseCode)
        ),
    )


def rule_name(row: Row) -> str:
    """The name of a row's rule, as it stands in session.py but for the underscore before it."""
    return row.rule.__name__.strip("_")


def _event_name(kind: type) -> str:
    name = getattr(kind, "type", None)
    return f"`{name}`" if isinstance(name, str) else kind.__name__


def _cell(row: Row | None, state: type, kind: type) -> str:
    if row is None:
        return _NOT_ALLOWED if hasattr(kind, "type") and state is not Closed else _NOTHING
    rule = rule_name(row).replace("_", " ")
    return " → ".join([rule, *([" or ".join(end.__name__.lower() for end in row.to)] if row.to else [])])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _codes(kind: type[ErrorCode] | type[LeaveReason]) -> list[str]:
    return [f"`{member.value}`" for member in kind]


def _comments(kind: type[ErrorCode] | type[LeaveReason]) -> list[str]:
    """The string below each member: the code is the one place where they are explained."""
    members = inspect.getsource(kind).split("\n\n", 1)[1].split('"""')
    return [" ".join(text.split()) for text in members[1::2]]
