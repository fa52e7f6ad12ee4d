"""Tables of the protocol as Markdown, made from those that the server uses."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from curhat_trio.protocol import events, lifetime, messages, pairing
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.messages import FROM_CLIENT
from curhat_trio.protocol.session import TABLE, Row
from curhat_trio.protocol.states import Closed, Connected, Negotiating, State

STATES: tuple[type[Any], ...] = get_args(State)
_MESSAGES = frozenset(FROM_CLIENT.values())
_NOT_ALLOWED = "wrong_state"
_NOTHING = "ignored"


def state_table() -> str:
    """Both tables of states: what a client sees, and every row of the session table."""
    return f"# What a client sees\n\n{client_table()}\n# Every event and rule\n\n{rule_table()}"


def client_table() -> str:
    """What a client sees in each state before `closed`."""
    kinds = dict.fromkeys(kind for _, kind in TABLE if kind in _MESSAGES or kind in _SEEN_EVENTS)
    states = [state for state in STATES if state is not Closed]
    rows = [
        [_SEEN_EVENTS.get(kind, f"`{event_name(kind)}`"), *(_seen(state, kind) for state in states)]
        for kind in kinds
    ]
    return (
        "What follows a message of the client, and what else happens: what the client receives or what becomes of "
        "its message, and the state that this may lead to. The rules are in [`protocol.md`](../protocol.md).\n\n"
        + table(["", *map(_state_name, states)], rows)
    )


def rule_table() -> str:
    """The rule for each event in each state."""
    kinds = list(dict.fromkeys(kind for _, kind in TABLE))
    rows = [
        [_heading(kind), *(_cell(TABLE.get((state, kind)), state, kind) for state in STATES)] for kind in kinds
    ]
    return (
        "For those who work on the server: each row of `TABLE` in "
        "[`session.py`](../../curhat_trio/protocol/session.py), with its rule and the states that it may lead to. "
        "Quoted events are messages from the client; the others are the code's own.\n\n"
        + table(["", *map(_state_name, STATES)], rows)
    )


_SEEN_EVENTS = {
    events.InvalidMessage: "a message that could not be understood",
    events.RateLimited: "a message over the rate limit",
    events.Matched: "a partner is found",
    events.PeerSent: "the partner sends something",
    events.PeerLeft: "the partner leaves, or is lost",
    events.PeerPresence: "the partner's connection is lost, or is back",
    events.DeadlinePassed: "a time limit passes",
    events.ConnectionClosed: "the client closes the connection",
    events.ConnectionLost: "the connection is lost",
    events.SessionResumed: "the session is resumed",
    events.ClosingForced: "the server closes the connection",
}
"""The events that a client notices, in its words. The code has more, for instance between two sessions."""

_SEEN = {
    pairing.join: "`ready`",
    pairing.leave_wait: "`leave`",
    pairing.leave_pairing: "`leave`",
    pairing.next_partner: "`leave`, `ready`",
    pairing.relay_chat: "relayed, or `unsupported`",
    pairing.relay_to_v1: "relayed",
    pairing.media_status: "counted",
    pairing.pair: "`join`",
    pairing.decline: "",
    pairing.relay_from_partner: "received, or dropped",
    pairing.partner_left: "`leave`",
    pairing.partner_presence: "`peer`",
    lifetime.find_session: "`resumed`, or `resume_failed`",
    lifetime.refresh_ice: "`ice`",
    lifetime.pong: "`pong`",
    lifetime.invalid_message: "`error`, after too many",
    lifetime.rate_limit: "`rate_limited`, after too many",
    lifetime.first_message_timeout: "close 4502, if nothing was sent",
    lifetime.resume_timeout: "",
    lifetime.offer_timeout: "`leave`",
    lifetime.media_timeout: "`leave`",
    lifetime.lose: "",
    lifetime.detach: "may be resumed; later",
    lifetime.resume: "`resumed`",
    lifetime.close_by_force: "`goaway` at a shutdown",
}
"""Rule -> what its client notices, besides a change of the state."""


_SEEN_SIGNALS = {
    messages.Offer: "relayed, refused, or dropped in a glare",
    messages.Answer: "relayed, or refused",
    messages.Candidate: "relayed, held or dropped",
}
"""What becomes of the messages that share one rule."""

RELEASES_OFFER = {(messages.Candidate, Negotiating), (events.DeadlinePassed, Negotiating)}
"""Events that lead to a state by releasing a partner's offer that was held for a legacy client. To its client that
is the partner's offer."""


def _seen(state: type[Any], kind: type[Any]) -> str:
    row = TABLE.get((state, kind))
    if row is None:
        return "`wrong_state`" if kind in _MESSAGES else ""
    ends = [end for end in row.to if (kind, end) not in RELEASES_OFFER]
    if kind is events.DeadlinePassed and state is not Connected:
        ends = [end for end in ends if end is not Closed]  # the time to resume: in the row of the lost connection
    return " ".join(filter(None, [_SEEN_SIGNALS.get(kind) or _SEEN[row.rule], _leads_to(ends)]))


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
    return " ".join(filter(None, [rule, _leads_to(row.to)]))


def _leads_to(ends: Sequence[type[State]]) -> str:
    return f"→ {' or '.join(map(_state_name, ends))}" if ends else ""


def _state_name(state: type[Any]) -> str:
    return state.__name__.lower()


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
