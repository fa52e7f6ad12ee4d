"""Sessions of one process: inboxes in a dictionary, and a bounded memory channel to the matchmaker."""

from typing import Any

import trio

from curhat_trio.protocol.effects import Request
from curhat_trio.protocol.events import Event, PeerLeft, PeerPresence, PeerSaid
from curhat_trio.protocol.ids import ClientId
from curhat_trio.relay import Inbox
from curhat_trio.trace.writer import TraceWriter


class MemoryRendezvous:
    """A `Rendezvous` within one process.

    Args:
        capacity: How many requests may wait for the matchmaker before drivers wait with them.
        trace: Told of every event that nobody is there to get; of the others the inboxes tell.
    """

    def __init__(self, capacity: int = 256, trace: TraceWriter | None = None) -> None:
        self._trace = trace
        self._inboxes: dict[ClientId, Inbox[Any]] = {}
        self._ask, self.requests = trio.open_memory_channel[Request](capacity)

    def attach(self, client: ClientId, inbox: Inbox[Any]) -> None:
        self._inboxes[client] = inbox

    def detach(self, client: ClientId) -> None:
        del self._inboxes[client]

    async def ask(self, request: Request) -> None:
        await self._ask.send(request)

    def publish(self, partner: ClientId, event: PeerSaid | PeerLeft | PeerPresence) -> None:
        self.tell(partner, event)

    def tell(self, client: ClientId, event: Event) -> bool:
        """Put an event into a client's inbox; False: nobody is there, or there is no room."""
        inbox = self._inboxes.get(client)
        if inbox is not None:
            return inbox.tell(event)
        if self._trace is not None:
            self._trace.missed(client)
        return False

    def tell_all(self, event: Event) -> None:
        """Tell every session of this process."""
        for inbox in self._inboxes.values():
            inbox.tell(event)
