"""The rules of matching as `policy/matching.py` states them, applied to a list that is searched from end to end.

A second implementation on purpose: all other code asks the pool itself who is paired, so only independent rules
can show that the pool is wrong.
"""

import attrs

from curhat_trio.protocol.effects import Ticket


@attrs.frozen
class Waiter:
    ticket: Ticket
    since: float

    def is_flexible(self, now: float, widen_after: float) -> bool:
        """Whether it may be matched with any other flexible one."""
        return self.ticket.room is not None or not self.ticket.topics or now >= self.since + widen_after


def are_compatible(one: Waiter, other: Waiter, now: float, widen_after: float) -> bool:
    if one.ticket.room != other.ticket.room:
        return False
    if one.ticket.topics & other.ticket.topics:
        return True
    return one.is_flexible(now, widen_after) and other.is_flexible(now, widen_after)


def prefer(newcomer: Ticket, choices: list[Waiter]) -> Waiter | None:
    """The best of these compatible waiters, which are given from the longest waiting to the newest."""
    best = None
    for choice in choices:
        if best is None or _is_better(newcomer, choice.ticket, best.ticket):
            best = choice
    return best


def _is_better(newcomer: Ticket, choice: Ticket, best: Ticket) -> bool:
    met, best_met = _met_last(newcomer, choice), _met_last(newcomer, best)
    if met != best_met:
        return best_met
    return len(newcomer.topics & choice.topics) > len(newcomer.topics & best.topics)


def _met_last(one: Ticket, other: Ticket) -> bool:
    return one.avoid == other.client or other.avoid == one.client
