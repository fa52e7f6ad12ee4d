"""How sessions find each other. One interface; `memory` is the reference."""

from typing import Protocol

from curhat_trio.protocol.effects import Request


class Rendezvous(Protocol):
    """The way to the matchmaker, as whoever drives sessions sees it."""

    @property
    def is_backed_up(self) -> bool:
        """Some requests wait to be passed on."""

    def ask(self, request: Request) -> None:
        """Ask something of the matchmaker, without waiting. Requests are served in order. A match for a ticket
        that is being withdrawn or suspended may still come; after a withdrawal it must be declined."""

    async def requests_taken(self) -> None:
        """Wait until all that was asked is on its way. It may take as long as the matchmaker, never as long as a
        client."""
