"""The session's table as a TLA+ module, in which the formal model in spec/model/ looks its rules up.

`Signaling.tla` does for each session what `session_table` says for its state and the event, and a step
that leads elsewhere leads to no state at all, which an invariant finds. So the model can't differ
from the code's table, and a row that is changed there is changed in the model.
"""

from collections.abc import Iterable
from typing import Any, get_args

from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.messages import FROM_CLIENT
from curhat_trio.protocol.session import TABLE, Closed
from curhat_trio.specification.tables import STATES, rule_name

OTHER_EVENTS: tuple[type[Any], ...] = tuple(kind for kind in get_args(Event) if kind is not MessageReceived)
"""All events of a session but messages from its client."""

_HEAD = """\
----------------------------- MODULE SessionTable -----------------------------
(* Drawn by `curhat-trio spec` from TABLE in curhat_trio/protocol/session.py: change that, not this. *)
(*                                                                                                   *)
(* Table[state][event]: which rule a session in this state follows when this happens, and the states *)
(* that it may lead to; or else the session stays where it is. The client's messages are lower case. *)
(* Where TABLE has no row a message is refused ("wrong_state"), and anything else is ignored         *)
(* ("ignore"), as `step` does.                                                                       *)

"""


def session_table() -> str:
    """`SessionTable.tla`: a rule for every state and event, and where it may lead."""
    messages = [kind.type for kind in FROM_CLIENT.values()]
    others = [kind.__name__ for kind in OTHER_EVENTS]
    return (
        _HEAD + f"States == {_set(map(_state, STATES))}\n"
        f"Messages == {_set(messages)}\n"
        f"OtherEvents == {_set(others)}\n\n"
        "Row(rule, to) == [rule |-> rule, to |-> to]\n\n"
        "Table == [\n" + ",\n".join(map(_rows, STATES)) + "]\n\n"
        "RuleOf(state, event) == Table[state][event].rule\n"
        "MayLead(state, event) == {state} \\cup Table[state][event].to\n"
        f"{'=' * 79}\n"
    )


def _rows(state: type[Any]) -> str:
    rows = [(kind.type, _row(state, kind, "wrong_state")) for kind in FROM_CLIENT.values()]
    rows += [(kind.__name__, _row(state, kind, "ignore")) for kind in OTHER_EVENTS]
    return f"  {_state(state)} |-> [\n" + ",\n".join(f"    {event} |-> {row}" for event, row in rows) + "]"


def _row(state: type[Any], kind: type[Any], otherwise: str) -> str:
    row = TABLE.get((state, kind))
    if row is None:
        return f'Row("{"ignore" if state is Closed else otherwise}", {{}})'
    return f'Row("{rule_name(row)}", {_set(map(_state, row.to))})'


def _state(state: type[Any]) -> str:
    return state.__name__.lower()


def _set(names: Iterable[str]) -> str:
    return "{" + ", ".join(f'"{name}"' for name in names) + "}"
