"""The task that owns the pool.

It is told through a memory channel and tells through inboxes; it never waits for a client.
"""

import math
from collections.abc import Callable

import trio

from curhat_trio.policy.matching import Pair, Pool
from curhat_trio.protocol.effects import Enter, Ticket, Withdraw
from curhat_trio.protocol.errors import LeaveReason
from curhat_trio.protocol.events import Event, Matched, PeerLeft
from curhat_trio.protocol.ids import ClientId

Tell = Callable[[ClientId, Event], bool]
"""Hand an event to a client's session without waiting; False: it can't be reached."""


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


def introduce(pair: Pair, tell: Tell, now: float) -> None:
    """Tell both partners in one step; if one can't be reached, tell the other that it is over already."""
    first = tell(pair.first.client, _matched(pair, pair.first, pair.second, now))
    second = tell(pair.second.client, _matched(pair, pair.second, pair.first, now))
    lost = PeerLeft(pair.first.id, LeaveReason.PEER_LOST)
    if first and not second:
        tell(pair.first.client, lost)
    elif second and not first:
        tell(pair.second.client, lost)


def _matched(pair: Pair, own: Ticket, partner: Ticket, now: float) -> Matched:
    return Matched(
        ticket=own.id,
        room=pair.first.id,
        partner=partner.client,
        partner_username=partner.username,
        partner_profile=partner.profile,
        offerer=own is pair.first,
        topics=pair.topics,
        at=now,
    )
