"""How sessions find and reach each other. One interface; `memory` is the reference."""

from typing import Any, Protocol

from curhat_trio.protocol.effects import Request
from curhat_trio.protocol.events import PeerLeft, PeerPresence, PeerSaid
from curhat_trio.protocol.ids import ClientId
from curhat_trio.relay import Inbox


class Rendezvous(Protocol):
    """The pool and the way to partners, as a session's driver sees them."""

    def attach(self, client: ClientId, inbox: Inbox[Any]) -> None:
        """From now on what is meant for the client goes into this inbox."""

    def detach(self, client: ClientId) -> None:
        """From now on nobody can reach the client."""

    async def ask(self, request: Request) -> None:
        """Ask something of the matchmaker. May wait for it, never for a client. A `Matched` for a ticket that is
        being withdrawn or suspended may still arrive; after a withdrawal it must be answered with `PeerLeft`."""

    def publish(self, partner: ClientId, event: PeerSaid | PeerLeft | PeerPresence) -> None:
        """Tell a partner's session, without waiting. A partner who is gone or overwhelmed is told nothing:
        its own end of the pairing tells the rest."""
