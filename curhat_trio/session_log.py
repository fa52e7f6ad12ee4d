"""Logs sessions: a line for each end and, at level debug, for each beginning and each transition."""

from curhat_trio.log import get_logger, logs_debug
from curhat_trio.metrics import state_name
from curhat_trio.observer import Observer
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.session import Session

_log = get_logger(__name__)


class SessionLog(Observer):
    """Logs ids, states and types of events, never the content of messages."""

    def attached(self, session: Session) -> None:
        """Log the beginning, at level debug."""
        if logs_debug():
            _log.debug("session_opened", connection=session.client, profile=session.profile)

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        """Log the transition, at level debug."""
        if logs_debug():  # transitions are frequent: do not format a line that is dropped
            _log.debug(
                "transition",
                connection=after.client,
                before=state_name(before),
                after=state_name(after),
                cause=event.message.type if isinstance(event, MessageReceived) else type(event).__name__,
                room=after.room or before.room,
            )

    def detached(self, session: Session, code: CloseCode | None, sent: int) -> None:
        """Log the end: at level info if the server has closed the connection, else at level debug."""
        if code is None:
            _log.debug("session_closed", connection=session.client, by="client")
        else:
            why = code.name.lower()
            _log.info("session_closed", connection=session.client, by="server", code=int(code), why=why)
