"""The task that owns the pool.

It is told through a memory channel and tells through inboxes; it never waits for a client.
"""

import math

import trio

from curhat_trio.policy.matching import Pair, Pool, Tell, introduce
from curhat_trio.protocol.effects import Enter, Reinstate, Request, Suspend, Withdraw
from curhat_trio.trace.writer import TraceWriter


async def run_matchmaker(
    requests: trio.MemoryReceiveChannel[Request], tell: Tell, pool: Pool, trace: TraceWriter | None = None
) -> None:
    """Serve requests until the channel ends or the task is cancelled. Nothing is awaited between a request
    and what follows from it, so a cancelled matchmaker has never half a pair."""
    with requests:  # or a session that ends after this one would wait for ever with its withdrawal
        while True:
            request = None
            with trio.move_on_at(pool.next_relaxation() or math.inf):
                try:
                    request = await requests.receive()
                except trio.EndOfChannel:
                    return
            now = trio.current_time()
            if request is not None:
                pair = _serve(request, pool, now)
                if trace is not None:
                    trace.served(request, pair, len(pool))
                if pair is not None:
                    introduce(pair, tell, now)
            for ticket, pair in pool.relaxing(now):
                if trace is not None:
                    trace.relaxed(ticket, pair, len(pool))
                if pair is not None:
                    introduce(pair, tell, now)


def _serve(request: Request, pool: Pool, now: float) -> Pair | None:
    match request:
        case Enter(ticket):
            return pool.join(ticket, now)
        case Withdraw(ticket):
            pool.leave(ticket)
        case Suspend(ticket):
            pool.suspend(ticket)
        case Reinstate(ticket):
            return pool.reinstate(ticket)
    return None
