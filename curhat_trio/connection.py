"""One client: the driver that owns the session, and the link it speaks over.

The driver reads its inbox, steps the session and performs the effects. Stepping and performing never await, so
whatever arrived together is decided and answered together; what must wait (for the matchmaker) comes after.

A driver may outlive its link. When a client asks over a new connection to go on with its old session, the new
connection's driver lends its link to the old one (`Loan`) and does nothing more until that is done with it.
"""

import math
import secrets
import time
from collections import deque
from contextlib import suppress
from functools import partial

import attrs
import trio
from structlog.contextvars import bound_contextvars

from curhat_trio.backends import Rendezvous
from curhat_trio.config import Settings
from curhat_trio.frames import text_frame
from curhat_trio.link import Heard, Link, LinkInbox, Loan
from curhat_trio.log import get_logger
from curhat_trio.metrics import Metrics, state_name
from curhat_trio.policy.limits import Allowance, TokenBucket
from curhat_trio.policy.replay import BYTES, MESSAGES, Replay
from curhat_trio.policy.slots import ConnectionSlot, ConnectionSlots
from curhat_trio.policy.turn import Turn
from curhat_trio.protocol.codec import decode, encode
from curhat_trio.protocol.effects import (
    Close,
    Count,
    Effect,
    Enter,
    FindSession,
    Forward,
    Reinstate,
    Request,
    Send,
    SetDeadline,
    Suspend,
    Withdraw,
)
from curhat_trio.protocol.errors import CloseCode, Fault
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionLost,
    ConnectionOpened,
    DeadlinePassed,
    Event,
    InvalidMessage,
    Matched,
    MessageReceived,
    Profile,
    RateLimited,
    ResumeRefused,
    SessionResumed,
    Superseded,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Ice, IceServer, Join, Next, Resume, Resumed, ServerMessage
from curhat_trio.protocol.session import Closed, Rules, Session, step
from curhat_trio.resumption import Resumptions
from curhat_trio.trace.writer import TraceWriter

_log = get_logger(__name__)


@attrs.frozen
class Environment:
    """What every connection of a server shares."""

    settings: Settings
    rendezvous: Rendezvous
    metrics: Metrics = attrs.Factory(Metrics)
    draining: trio.Event = attrs.Factory(trio.Event)
    """Set when the server is going away: who comes now is closed at once."""
    trace: TraceWriter | None = None
    """Told of all that sessions do."""
    resumptions: "Resumptions[Driver]" = attrs.Factory(Resumptions)
    """The sessions that may go on over another connection."""
    slots: ConnectionSlots = attrs.field(init=False)
    """How many sessions there are, and may be."""
    rules: Rules = attrs.field(init=False)
    """The part of the settings that sessions decide by."""
    turn: Turn | None = attrs.field(init=False)
    """What makes TURN credentials; None: the operator has no TURN server."""

    @slots.default
    def _slots_from_settings(self) -> ConnectionSlots:
        return ConnectionSlots(self.settings.max_connections)

    @rules.default
    def _rules_from_settings(self) -> Rules:
        settings = self.settings
        return Rules(
            first_message_seconds=settings.first_message_seconds,
            offer_seconds=settings.offer_seconds,
            media_seconds=settings.media_seconds,
            resume_seconds=settings.resume_seconds,
            ping_seconds=settings.ping_seconds,
            max_message_bytes=settings.max_message_bytes,
            ice_servers=(IceServer(settings.stun_urls),) if settings.stun_urls else (),
            turn_ttl_seconds=settings.turn_ttl_seconds if settings.turn_urls else None,
            ice_transport_policy=settings.ice_transport_policy,
        )

    @turn.default
    def _turn_from_settings(self) -> Turn | None:
        settings = self.settings
        if not settings.turn_urls:
            return None
        return Turn(settings.turn_urls, settings.turn_secret, settings.turn_ttl_seconds)

    def fresh_turn(self) -> IceServer | None:
        """The TURN server with credentials for one client, good from now on."""
        return None if self.turn is None else self.turn.lend(secrets.token_urlsafe(12), time.time())


async def serve_client(
    link: Link, profile: Profile, username: str, slot: ConnectionSlot, environment: Environment
) -> None:
    """Run one client's session over its link until one of them ends. The link is closed then."""
    client = ClientId(secrets.token_urlsafe(12))
    with bound_contextvars(connection=client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.keep_writing)
            async with trio.open_nursery() as closing:
                await Driver(client, profile, username, link, slot, environment, closing).run()
            nursery.cancel_scope.cancel()


class Driver:
    """Owns one session: the only caller of its `step`, and the interpreter of its effects.

    Args:
        link: Its first link; the session may outlive it.
        slot: Its connection slot. Until that is acquired, the client may only ask for another session.
        closing: Runs the closing handshake of that link, if the session outlives it; is waited for.
    """

    def __init__(
        self,
        client: ClientId,
        profile: Profile,
        username: str,
        link: Link,
        slot: ConnectionSlot,
        environment: Environment,
        closing: trio.Nursery,
    ) -> None:
        settings = environment.settings
        self._session = Session(client, profile, username, environment.rules)
        self._closing = closing
        self._link: Link | None = link
        """None: it was lost, and the client may come back over another."""
        self._loan: Loan | None = None
        """If the link is somebody else's."""
        self._lent: Loan | None = None
        """If the own link is somebody else's now."""
        self._slot = slot
        self._replay = Replay(
            min(MESSAGES, settings.outbound_messages // 2), min(BYTES, settings.outbound_bytes // 2)
        )
        self._token: str | None = None
        self._heard = 0
        """How many messages of the client's were read, but for `resume`."""
        self._environment = environment
        self._rendezvous = environment.rendezvous
        self._metrics = environment.metrics
        self._trace = trace = environment.trace
        self._inbox = LinkInbox(settings.outbound_messages, None if trace is None else partial(trace.told, client))
        self._allowance = Allowance(
            TokenBucket(settings.messages_per_second, settings.message_burst),
            TokenBucket(settings.bytes_per_second, settings.byte_burst),
        )
        self._missed_since = 0
        """While there is no link: the last message that the client may have got."""
        self._unread: deque[Event | Heard | Loan] = deque()
        """What was taken from the inbox and is not stepped through yet."""
        self._deadline = math.inf
        self._said = 0
        """How many messages to the client so far."""
        self._broken: tuple[str, Event] | None = None
        """What the session could not be stepped with, for a bug: where it came from, and the event."""
        self._frames: list[bytes] = []
        self._requests: list[Request] = []
        self._close_code: CloseCode | None = None

    async def run(self) -> None:
        """Drive the session to its end. However that comes about, partner and pool are told."""
        self._attach()
        try:
            await self._drive()
        except Exception:
            _log.exception("bug", state=state_name(self._session))
            if self._trace is not None:
                self._trace.stumbled(self._session.client, self._broken)
            self._advance(ClosingForced(CloseCode.INTERNAL))
        finally:
            self._detach()
            with trio.CancelScope(shield=True), suppress(trio.BrokenResourceError):
                await self._make_requests()
            if self._loan is not None:
                self._loan.give_back(self._close_code)
            if self._lent is not None:
                await self._wait_for_return(self._lent)
        if self._lent is None and self._link is not None and self._loan is None:
            await self._link.close(self._close_code)

    @property
    def _closed(self) -> bool:
        return isinstance(self._session.state, Closed)

    async def _drive(self) -> None:
        assert self._link is not None
        self._advance(ConnectionOpened(trio.current_time(), self._fresh_token()))
        self._link.start(self._inbox)
        if self._environment.draining.is_set():
            self._advance(ClosingForced(CloseCode.SHUTDOWN))
        while not self._closed:
            await self._wait()
            self._read()
            if self._inbox.overflowed:
                self._advance(ClosingForced(CloseCode.SLOW_CONSUMER))
            await self._make_requests()

    def _attach(self) -> None:
        self._metrics.enter_state(self._session)
        self._rendezvous.attach(self._session.client, self._inbox)
        if self._trace is not None:
            self._trace.attached(self._session)
        _log.debug("session_opened", profile=self._session.profile)

    def _detach(self) -> None:
        """End the session if nothing else has, and answer what it can no longer read. Never awaits."""
        self._rendezvous.detach(self._session.client)
        self._revoke_token()
        self._advance(ConnectionClosed())
        self._unread += self._inbox.close()
        self._read()
        self._metrics.leave_state(self._session)
        if self._trace is not None:
            self._trace.detached(self._session.client, self._close_code, self._said)
        if self._close_code is None:
            _log.debug("session_closed", by="client")
        else:
            _log.info("session_closed", by="server", code=int(self._close_code), why=self._close_code.name.lower())

    # ------------------------------------------------------------ events

    async def _wait(self) -> None:
        """Wait for the inbox or a deadline, whichever is first."""
        with trio.move_on_at(min(self._deadline, self._slot.deadline)) as scope:
            self._unread += await self._inbox.receive()
        if scope.cancelled_caught:
            now = trio.current_time()
            if now >= self._slot.deadline and not self._slot.acquire():
                self._advance(ClosingForced(CloseCode.TOO_MANY_CONNECTIONS))
            elif now >= self._deadline:
                self._unread.append(DeadlinePassed(now))

    def _read(self) -> None:
        """Step through all that is there. What there is to say then goes to the link together."""
        while self._unread:
            item = self._unread.popleft()
            if self._lent is not None and _is_of_the_link(item):
                self._lent.unread.append(item)
            elif isinstance(item, Heard):
                item.taken.set()
                if self._link is not None:  # or the client will say it again
                    self._read_words(item)
            elif isinstance(item, Loan):
                self._borrow(item)
            elif isinstance(item, ConnectionLost):
                self._lose_link(item)
            elif isinstance(item, DeadlinePassed):
                self._step(item, "driver")
            elif isinstance(item, Matched):
                self._step(attrs.evolve(item, fresh_turn=self._environment.fresh_turn()), "inbox")
            else:
                self._step(item, "inbox")
        self._flush()

    def _read_words(self, heard: Heard) -> None:
        """Step through what the client said; nobody looks at what comes after the end."""
        for position, text in enumerate(heard.texts):
            if self._closed:
                if self._lent is not None:
                    self._lent.unread.append(Heard(heard.texts[position:]))
                return
            event = self._understand(text)
            asks_to_resume = _asks_to_resume(event)
            if not asks_to_resume and not self._slot.acquire():
                self._advance(ClosingForced(CloseCode.TOO_MANY_CONNECTIONS))
                return
            self._heard += not asks_to_resume
            if self._trace is not None:
                self._trace.heard(self._session.client, event)
            self._step(event, "client")

    def _understand(self, text: str) -> Event:
        now = trio.current_time()
        wait = self._allowance.spend(len(text) if text.isascii() else len(text.encode()), now)
        if wait > 0:
            return RateLimited(math.ceil(wait * 10) / 10)
        message = decode(text, self._session.profile, self._session.rules.features)
        if isinstance(message, Fault):
            return InvalidMessage(message)
        fresh_room = RoomId(secrets.token_urlsafe(12)) if isinstance(message, Join | Next) else None
        fresh_turn = self._environment.fresh_turn() if isinstance(message, Ice) else None
        return MessageReceived(message, now, fresh_room, fresh_turn)

    # ------------------------------------------------------------ links that come and go

    def _fresh_token(self) -> str | None:
        """What the client may show on another connection; none, if this server does not resume."""
        self._revoke_token()
        if self._session.profile == "v1" and self._session.rules.resume_seconds > 0:
            self._token = self._environment.resumptions.issue(self)
        return self._token

    def _revoke_token(self) -> None:
        if self._token is not None:
            self._environment.resumptions.revoke(self._token)
            self._token = None

    def _lose_link(self, event: ConnectionLost) -> None:
        """The session may go on without a link; then the old one is closed beside it."""
        self._step(event, "inbox")
        if not self._closed and not self._slot.acquire():
            self._advance(ConnectionClosed())  # nobody's return is waited for without a slot
        if not self._closed and self._link is not None:  # reader and writer both tell of the same loss
            self._let_go(event.code)
            self._missed_since = self._said

    def _let_go(self, code: CloseCode | None) -> None:
        """Give the link back to whom it belongs; the own one is closed here."""
        if self._link is None:
            return
        self._link.mute()
        if self._loan is not None:
            self._loan.give_back(code)
        else:
            self._closing.start_soon(self._discard, self._link, code)
        self._link = self._loan = None

    async def _discard(self, link: Link, code: CloseCode | None) -> None:
        await link.discard(code)
        self._slot.close_socket()

    def _reclaim(self, token: str, last_seq: int) -> None:
        """Look for the session that the client wants to go on with, and let it have the link. What is still unread
        of this one's follows before the borrower's task runs, because nothing is awaited until then."""
        other = None if self._loan is not None else self._environment.resumptions.claim(token)
        if other is None or other is self or not other.can_borrow(last_seq):
            if other is not None and other is not self:
                other.give_up()
            self._step(ResumeRefused(), "driver")
            return
        self._step(Superseded(), "driver")
        assert self._link is not None
        self._flush()
        self._lent = Loan(self._link, last_seq, self._said, [])
        if self._trace is not None:
            self._trace.lent(self._session.client, other._session.client)
        other.lend(self._lent)

    def can_borrow(self, last_seq: int) -> bool:
        """Whether the session can go on over another link, for a client that has its first messages."""
        return not self._closed and self._inbox.has_room and self._replay.since(last_seq) is not None

    def give_up(self) -> None:
        """The client has come back, but the session can't go on."""
        self._inbox.tell(ClosingForced(CloseCode.REPLACED))

    def lend(self, loan: Loan) -> None:
        """Let the session go on over this link, from the next thing that it reads."""
        if self._link is not None:
            self._link.mute()
        self._inbox.put(loan)  # before anything that the new link tells
        loan.link.start(self._inbox)

    def _borrow(self, loan: Loan) -> None:
        """Go on over another link: what the client has missed comes first, then what it says."""
        self._flush()
        missed = None if self._closed else self._replay.since(loan.last_seq)
        if missed is None:
            loan.give_back(self._close_code or CloseCode.SLOW_CONSUMER)
            self._advance(ClosingForced(CloseCode.REPLACED))
            return
        self._let_go(CloseCode.REPLACED)
        self._link, self._loan = loan.link, loan
        token = self._fresh_token()
        assert token is not None, "who was asked for by a token gets another"
        self._step(SessionResumed(token, self._heard), "driver")
        self._frames += missed
        self._unread.extendleft(reversed(loan.unread))

    async def _wait_for_return(self, loan: Loan) -> None:
        """Keep the connection open for as long as its link is lent, and close it as the borrower says."""
        self._slot.release()  # the borrower's session has one
        try:
            await loan.returned.wait()
        finally:
            if not loan.returned.is_set():
                loan.link.interrupt()
        await loan.link.close(loan.code)

    # ------------------------------------------------------------ effects

    def _advance(self, event: Event) -> None:
        """Step through one event of the driver's own, unless the end has come already."""
        if not self._closed:
            self._step(event, "driver")
        self._flush()

    def _step(self, event: Event, source: str) -> None:
        before = self._session
        try:
            self._session, effects = step(before, event)
        except Exception:
            self._broken = source, event
            raise
        if type(self._session.state) is not type(before.state):
            self._note_transition(before, event)
        if self._trace is not None:
            self._trace.stepped(before, source, event, self._session, effects)
        for effect in effects:
            self._perform(effect)

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        if self._link is None:
            if not self._closed and self._replay.since(self._missed_since) is None:
                self._advance(ConnectionClosed())  # more was missed than can be told again
        elif frames and not self._link.send(frames):
            self._advance(ClosingForced(CloseCode.SLOW_CONSUMER))

    def _note_transition(self, before: Session, event: Event) -> None:
        self._metrics.leave_state(before)
        self._metrics.enter_state(self._session)
        _log.debug(
            "transition",
            before=state_name(before),
            after=state_name(self._session),
            cause=_kind(event),
            room=self._session.room or before.room,
        )

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(message):
                self._say(message)
            case Forward(partner, event):
                self._rendezvous.publish(partner, event)
            case SetDeadline(at):
                self._deadline = math.inf if at is None else at
            case Enter() | Withdraw() | Suspend() | Reinstate():
                self._requests.append(effect)
            case FindSession(token, last_seq):
                self._reclaim(token, last_seq)
            case Count(what):
                self._metrics.events[what] += 1
            case Close(code):
                self._close_code = code

    def _say(self, message: ServerMessage) -> None:
        if isinstance(message, Resumed) and self._loan is not None:
            self._frames.append(text_frame(encode(message, self._loan.told + 1)))
            return
        self._said += 1
        seq = self._said if self._session.profile == "v1" else None
        frame = text_frame(encode(message, seq))
        self._frames.append(frame)
        if self._token is not None:
            self._replay.keep(frame)

    async def _make_requests(self) -> None:
        """Pass on what the session asked of the matchmaker, in order. Cancelled, it can be called again."""
        while self._requests:
            await self._rendezvous.ask(self._requests[0])
            del self._requests[0]


def _is_of_the_link(item: Event | Heard | Loan) -> bool:
    match item:
        case Heard() | ConnectionClosed() | ConnectionLost():
            return True
        case ClosingForced(code):
            return code is not CloseCode.SHUTDOWN
    return False


def _asks_to_resume(event: Event) -> bool:
    return isinstance(event, MessageReceived) and isinstance(event.message, Resume)


def _kind(event: Event) -> str:
    return event.message.type if isinstance(event, MessageReceived) else type(event).__name__
