"""Who watches a server: one interface of what can be seen, in the order in which it happens.

The trace, the metrics and the log of transitions are observers. An observer changes nothing, never waits, and
must not raise.
"""

from collections.abc import Callable, Sequence
from typing import Any

from curhat_trio.policy.matching import Pair
from curhat_trio.protocol.effects import Effect, Request, Ticket
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.session import Session


class Observer:
    """Told of everything; by itself it does nothing. Subclasses override what they want to know."""

    # ------------------------------------------------------------ sessions

    def attached(self, session: Session) -> None:
        """A session has begun and can be reached from now on; its `ConnectionOpened` comes next."""

    def received(self, client: ClientId, event: Event) -> None:
        """A client sent something, and this is how it was understood; the session takes it next."""

    def stepped(
        self, before: Session, source: str, event: Event, after: Session, effects: Sequence[Effect]
    ) -> None:
        """A session has taken an event; what it forwards to partners comes next."""

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        """A session is in another of the five states now."""

    def counted(self, what: str) -> None:
        """Something worth counting happened; `session.py` tells which names there are."""

    def queued(self, client: ClientId, event: Event) -> None:
        """An event is on its way to a session of this process."""

    def missed(self, client: ClientId) -> None:
        """An event was for somebody who can't be reached any more."""

    def stumbled(self, client: ClientId, broken: tuple[str, Event] | None) -> None:
        """A bug broke what a session was at: an event that it could not be stepped with, told with where it came
        from, or something else. The session is closed next."""

    def detached(self, session: Session, code: CloseCode | None, sent: int) -> None:
        """A session has ended: with which close code, after how many messages to its client."""

    # ------------------------------------------------------------ the matchmaker

    def served(self, request: Request, pair: Pair | None, waiting: int) -> None:
        """The matchmaker has done what was asked; so many tickets wait now. A pair is introduced next."""

    def widened(self, ticket: Ticket, pair: Pair | None, waiting: int) -> None:
        """A ticket with topics no longer requires a shared one. A pair is introduced next."""

    # ------------------------------------------------------------ the end

    def draining(self) -> None:
        """The server is going away; every session is told next."""

    def drained(self) -> None:
        """Every session has been told."""


_NAMES = [name for name in vars(Observer) if not name.startswith("_")]


def combine(*observers: Observer) -> Observer:
    """One observer that tells all of them, in this order. What nobody or only one wants to know costs no more than
    that."""
    combined: Any = Observer()
    for name in _NAMES:
        wanting = [
            getattr(each, name) for each in observers if getattr(type(each), name) is not vars(Observer)[name]
        ]
        if wanting:
            setattr(combined, name, wanting[0] if len(wanting) == 1 else _tell_all(wanting))
    observer: Observer = combined
    return observer


def _tell_all(wanting: list[Callable[..., None]]) -> Callable[..., None]:
    def tell(*arguments: object) -> None:
        for each in wanting:
            each(*arguments)

    return tell
