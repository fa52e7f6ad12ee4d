"""What a join and a leave cost while many wait: `python -m tests.benchmarks.matching_cost`.

One row for each way to come, one column for each number of people who wait already. Every figure is CPU time of
this process for one operation, in microseconds. A row that grows as the number does is a flaw of the pool; a
factor of two or three is the processor's cache, which no longer holds the dictionaries.
"""

import gc
import time
from collections.abc import Callable, Iterable, Sequence

import attrs

from curhat_trio.policy.matching import Pair, Pool
from curhat_trio.protocol.effects import Enter, Request, Ticket, Withdraw
from curhat_trio.protocol.ids import ClientId, RoomId

WAITERS = (10, 1_000, 100_000)
OPERATIONS = 2_000
ROUNDS = 5
"""The best of this many measurements counts: the others were disturbed by something else."""
WIDEN_AFTER_SECONDS = 10.0


def ticket(name: str, *, room: str | None = None, topics: Iterable[str] = ()) -> Ticket:
    return Ticket(
        id=RoomId(name),
        client=ClientId(f"client of {name}"),
        username="somebody",
        profile="v1",
        room=room,
        topics=frozenset(topics),
        avoid=None,
    )


def strict(number: int) -> Ticket:
    """A ticket with a topic that no other has."""
    return ticket(f"strict {number}", topics=[f"topic {number}"])


def alone(number: int) -> Ticket:
    """A ticket that is alone in its named room."""
    return ticket(f"alone {number}", room=f"room {number}")


def many_topics(number: int) -> Ticket:
    """A ticket with five topics that no other has."""
    return ticket(f"many_topics {number}", topics=[f"topic {number}.{part}" for part in range(5)])


def any_of_these(number: int) -> Ticket:
    return (strict, alone, many_topics)[number % 3](number)


@attrs.frozen
class Case:
    """Tickets that wait already, and the newcomer. Its `partner` joins just before it, which is not measured."""

    name: str
    waiter: Callable[[int], Ticket]
    newcomer: Callable[[int], Ticket]
    partner: Callable[[int], Ticket] | None = None


CASES = (
    Case("strict, stays", strict, strict),
    Case("strict with 5 topics, stays", many_topics, many_topics),
    Case("alone in a room, stays", alone, alone),
    Case("mixed, stays", any_of_these, any_of_these),
    Case(
        "pairs by a topic",
        strict,
        lambda number: ticket(f"newcomer {number}", topics=[f"common {number}", f"own {number}"]),
        lambda number: ticket(f"partner {number}", topics=[f"common {number}"]),
    ),
    Case(
        "pairs in a room",
        alone,
        lambda number: ticket(f"newcomer {number}", room=f"common {number}"),
        lambda number: ticket(f"partner {number}", room=f"common {number}"),
    ),
    Case(
        "pairs of flexible tickets",
        any_of_these,
        lambda number: ticket(f"newcomer {number}"),
        lambda number: ticket(f"partner {number}"),
    ),
)


def measure(case: Case, waiters: int) -> tuple[float, float | None]:
    """Microseconds for one join, and for one leave where the newcomer stays."""
    pool = Pool(WIDEN_AFTER_SECONDS)
    for number in range(waiters):
        assert not pairs(pool, Enter(case.waiter(number)), now=0.0)
    joins, leaves = [], []
    for number in range(ROUNDS):
        first = waiters + number * OPERATIONS
        newcomers = [Enter(case.newcomer(each)) for each in range(first, first + OPERATIONS)]
        if case.partner is None:
            joins.append(cpu_seconds(lambda request: pool.serve(request, now=1.0), newcomers))
            withdrawals = [Withdraw(newcomer.ticket.id) for newcomer in newcomers]
            leaves.append(cpu_seconds(lambda request: pool.serve(request, now=1.0), withdrawals))
        else:
            partners = [Enter(case.partner(each)) for each in range(first, first + OPERATIONS)]
            joins.append(sum(map(cpu_seconds_of_pairing, [pool] * OPERATIONS, partners, newcomers)))
        assert len(pool) == waiters
    micro = 1e6 / OPERATIONS
    return min(joins) * micro, min(leaves) * micro if leaves else None


def cpu_seconds(do: Callable[[Request], object], requests: Sequence[Request]) -> float:
    start = time.process_time()
    for each in requests:
        do(each)
    return time.process_time() - start


def cpu_seconds_of_pairing(pool: Pool, partner: Enter, newcomer: Enter) -> float:
    """The partner joins before the measurement starts, so the time is that of the newcomer alone."""
    assert not pairs(pool, partner, now=1.0)
    start = time.process_time()
    (outcome,) = pool.serve(newcomer, now=1.0)
    spent = time.process_time() - start
    assert outcome.pair is not None
    return spent


def pairs(pool: Pool, request: Request, now: float) -> list[Pair]:
    return [outcome.pair for outcome in pool.serve(request, now) if outcome.pair is not None]


def measure_widening(waiters: int) -> float:
    """Microseconds to widen one strict ticket, with so many beside it that stay strict."""
    pool = Pool(WIDEN_AFTER_SECONDS)
    widening = 1_000
    for number in range(widening):
        pool.serve(Enter(strict(number)), now=0.0)
    for number in range(widening, widening + waiters):
        pool.serve(Enter(strict(number)), now=1.0)
    start = time.process_time()
    outcomes = pool.serve(None, now=WIDEN_AFTER_SECONDS)
    spent = time.process_time() - start
    assert len(outcomes) == widening
    return spent / widening * 1e6


def main() -> None:
    gc.disable()
    print("CPU time of one operation, us".ljust(38) + "".join(f"{count:>10,}" for count in WAITERS))
    for case in CASES:
        joins, leaves = zip(*(measure(case, waiters) for waiters in WAITERS), strict=True)
        print_row(f"join:  {case.name}", joins)
        if case.partner is None:
            print_row(f"leave: {case.name}", leaves)
    print_row("widen: one strict ticket", [measure_widening(waiters) for waiters in WAITERS])


def print_row(name: str, microseconds: Iterable[float]) -> None:
    print(name.ljust(38) + "".join(f"{each:>10.2f}" for each in microseconds))


if __name__ == "__main__":
    main()
