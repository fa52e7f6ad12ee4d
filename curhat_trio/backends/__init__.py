"""How sessions find and reach each other. One interface; `memory` is the reference."""

from typing import Any, Protocol

from curhat_trio.protocol.effects import Ticket
from curhat_trio.protocol.events import PeerLeft, PeerSaid
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.relay import Inbox


class Rendezvous(Protocol):
    """The pool and the way to partners, as a session's driver sees them."""

    def attach(self, client: ClientId, inbox: Inbox[Any]) -> None:
        """From now on what is meant for the client goes into this inbox."""

    def detach(self, client: ClientId) -> None:
        """From now on nobody can reach the client."""

    async def enter(self, ticket: Ticket) -> None:
        """Put a ticket into the pool. May wait for the matchmaker, never for a client."""

    async def withdraw(self, ticket: RoomId) -> None:
        """Take a ticket out. A `Matched` for it may still arrive, and must be answered with `PeerLeft`."""

    def publish(self, partner: ClientId, event: PeerSaid | PeerLeft) -> None:
        """Tell a partner's session, without waiting. A partner who is gone or overwhelmed is told nothing:
        its own end of the pairing tells the rest."""
