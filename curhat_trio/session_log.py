"""The log of what sessions do: one line for each end and, at level debug, for each beginning and transition."""

from curhat_trio.log import get_logger, logs_debug
from curhat_trio.metrics import state_name
from curhat_trio.observer import Observer
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.session import Session

_log = get_logger(__name__)


class SessionLog(Observer):
    """Only ids, states and kinds of events: nothing that anybody sent."""

    def attached(self, session: Session) -> None:
        if logs_debug():
            _log.debug("session_opened", connection=session.client, profile=session.profile)

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        if logs_debug():  # or a line would be composed for nobody, at each of many transitions
            _log.debug(
                "transition",
                connection=after.client,
                before=state_name(before),
                after=state_name(after),
                cause=event.message.type if isinstance(event, MessageReceived) else type(event).__name__,
                room=after.room or before.room,
            )

    def detached(self, session: Session, code: CloseCode | None, sent: int) -> None:
        if code is None:
            _log.debug("session_closed", connection=session.client, by="client")
        else:
            why = code.name.lower()
            _log.info("session_closed", connection=session.client, by="server", code=int(code), why=why)
