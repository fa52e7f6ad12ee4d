"""The task that owns the pool: requests come in by one bounded channel, pairs go out by another.

It knows no client and waits for none. It does wait for room in the channel of pairs, so whoever receives those
must never wait for room in the channel of requests.
"""

from collections.abc import Iterator

import trio

from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Outcome, Pair, Pool, Widened
from curhat_trio.protocol.effects import Request


async def run_matchmaker(
    requests: trio.MemoryReceiveChannel[Request],
    introductions: trio.MemorySendChannel[Pair],
    pool: Pool,
    observer: Observer,
) -> None:
    """Serve requests until nobody can ask any more, or the task is cancelled.

    Nothing is awaited between a request and its pair, but for room in the channel of pairs. Who is cancelled there
    loses whole pairs, never half of one.

    Args:
        requests: What is asked. Closed when this returns, or who asks after that would wait for ever.
        introductions: Whom to introduce to each other, in the order in which they left the pool. Closed too.
        pool: Nobody else's from now on.
        observer: Told of each outcome before its pair is sent.

    Raises:
        trio.BrokenResourceError: Nobody receives the pairs any more.
    """
    with requests, introductions:
        while True:
            try:
                request = await _receive(requests, pool.next_widening())
            except trio.EndOfChannel:
                return
            await _serve(request, introductions, pool, observer)
            for request in _waiting(requests):
                await _serve(request, introductions, pool, observer)


async def _receive(requests: trio.MemoryReceiveChannel[Request], until: float | None) -> Request | None:
    """The next request; None: the time came first. A cancel scope is made only where there is a time."""
    if until is None:
        return await requests.receive()
    with trio.move_on_at(until):
        return await requests.receive()
    return None


def _waiting(requests: trio.MemoryReceiveChannel[Request]) -> Iterator[Request]:
    """What else is there already: many who join at once cost one task switch together."""
    while True:
        try:
            request = requests.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return
        yield request


async def _serve(
    request: Request | None, introductions: trio.MemorySendChannel[Pair], pool: Pool, observer: Observer
) -> None:
    for outcome in pool.serve(request, trio.current_time()):
        _observe(outcome, observer)
        if outcome.pair is None:
            continue
        try:
            introductions.send_nowait(outcome.pair)
        except trio.WouldBlock:
            await introductions.send(outcome.pair)


def _observe(outcome: Outcome, observer: Observer) -> None:
    if isinstance(outcome.cause, Widened):
        observer.widened(outcome.cause.ticket, outcome.pair, outcome.waiting)
    else:
        observer.served(outcome.cause, outcome.pair, outcome.waiting)
