"""The task that owns the pool.

It is told through a memory channel and tells through inboxes; it never waits for a client.
"""

import math

import trio

from curhat_trio.policy.matching import Pool, Tell, introduce
from curhat_trio.protocol.effects import Enter, Withdraw


async def run_matchmaker(requests: trio.MemoryReceiveChannel[Enter | Withdraw], tell: Tell, pool: Pool) -> None:
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
            if isinstance(request, Enter):
                pair = pool.join(request.ticket, now)
                if pair is not None:
                    introduce(pair, tell, now)
            elif isinstance(request, Withdraw):
                pool.leave(request.ticket)
            for pair in pool.relax(now):
                introduce(pair, tell, now)
