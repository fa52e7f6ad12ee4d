"""The interface for observers of a server, which are notified of everything that happens, in order.

The trace, the metrics and the log of sessions are observers. An observer must not change anything, block or raise.
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
    """Does nothing by itself. Subclasses override the methods that they need."""

    # ------------------------------------------------------------ sessions

    def attached(self, session: Session) -> None:
        """A session has begun and is registered; its `ConnectionOpened` comes next."""

    def received(self, client: ClientId, event: Event) -> None:
        """A client sent a message, and this is how it was decoded; the session handles it next."""

    def stepped(
        self, before: Session, source: str, event: Event, after: Session, effects: Sequence[Effect]
    ) -> None:
        """A session has handled an event; the events that it forwards to partners come next."""

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        """A session has changed to another of the five states."""

    def counted(self, what: str) -> None:
        """A session has incremented the counter of this name, by the effect `Count`."""

    def queued(self, client: ClientId, event: Event) -> None:
        """An event was queued for a session."""

    def missed(self, client: ClientId) -> None:
        """An event was for a session that has ended."""

    def failed(self, client: ClientId, failed_event: tuple[str, Event] | None) -> None:
        """A bug interrupted a session. If it was handling an event, that is passed, after its source. The session
        is closed next."""

    def detached(self, session: Session, code: CloseCode | None, sent: int) -> None:
        """A session has ended, with this close code, after it has sent this many messages to its client."""

    # ------------------------------------------------------------ the matchmaker

    def served(self, request: Request, pair: Pair | None, waiting: int) -> None:
        """The matchmaker has served a request. `waiting` tickets are in the pool; a pair is introduced next."""

    def widened(self, ticket: Ticket, pair: Pair | None, waiting: int) -> None:
        """A ticket with topics no longer requires a shared one. A pair is introduced next."""

    # ------------------------------------------------------------ the end

    def draining(self) -> None:
        """The server is shutting down; all sessions are closed next."""

    def drained(self) -> None:
        """All sessions have been closed for shutdown."""


_METHODS = [name for name in vars(Observer) if not name.startswith("_")]


def combine(*observers: Observer) -> Observer:
    """Combine observers into one that notifies all of them, in this order.

    A method that no observer overrides, or only one, is called without a loop.
    """
    combined: Any = Observer()
    for name in _METHODS:
        methods = [
            getattr(each, name) for each in observers if getattr(type(each), name) is not vars(Observer)[name]
        ]
        if methods:
            setattr(combined, name, methods[0] if len(methods) == 1 else _call_all(methods))
    observer: Observer = combined
    return observer


def _call_all(methods: list[Callable[..., None]]) -> Callable[..., None]:
    def call(*arguments: object) -> None:
        for method in methods:
            method(*arguments)

    return call
