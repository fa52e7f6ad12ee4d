"""What one session sends: within the rate limit, again if it was lost or dropped, and answered in time.

Here are the ids and numbers of the messages. What a client may send in which state is `machine.py`'s business.
"""

import itertools
import math

import attrs
import trio

from curhat_trio.client.events import ABNORMAL, Disconnected
from curhat_trio.client.pending_requests import ANSWER_SECONDS, PendingRequests
from curhat_trio.client.send_buffer import Outgoing, SendBuffer
from curhat_trio.client.websocket import WebSocket
from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.errors import ErrorCode
from curhat_trio.protocol.rate_limit import Allowance, RateLimit

SEND_BUFFER = 512
"""How many messages may be sent without being known to have been received, before sending waits."""
_PING_AFTER = 64
"""With so many messages in the send buffer a `ping` finds out which were received."""
_PING_SECONDS = (1.0, 20.0)
"""The shortest and the longest time between these pings, whatever the server's own interval is."""
_PART_OF_LIMITS = 0.95
"""How much of the server's rate limit is used: the network does not keep the distance between messages."""
_LEAST_RATE = 0.1
"""Messages or bytes per second, if a server names no rate that can be kept."""
_LAST_TURNS = 20
"""How often the task that receives gets its turn before an answer counts as late: it may have arrived while the
program kept Trio from running."""
_ROUNDING = 0.001
"""Seconds, so that no rounding makes the allowance a hair too small."""


class Unanswered(Disconnected):
    """The server has not answered a message in time.

    Attributes:
        was_received: It has received the message, and answered a later one.
    """

    def __init__(self, outgoing: Outgoing, was_received: bool) -> None:
        what = f"no answer to `{outgoing.message.type}` within {ANSWER_SECONDS:g} s"
        super().__init__(ABNORMAL, what, is_given_up=True)
        self.was_received = was_received


class Sender:
    """Sends the messages of one session at a time, over one connection at a time."""

    def __init__(self) -> None:
        self._buffer = SendBuffer()
        self._requests = PendingRequests()
        self._allowance = Allowance(math.inf, 1.0)
        self._rate_limit = RateLimit(self._allowance)
        self._not_before = -math.inf
        self._retry_seconds = 0.0
        """How long to wait after a message was dropped, and after each that is sent again."""
        self._ids = itertools.count(1)
        self._own_ping: str | None = None
        """The id of the present ping of the library; None if it is answered."""
        self._is_reading = True

    # ------------------------------------------------------------ queueing

    def compose(self, message: messages.ClientMessage, is_own: bool = False) -> Outgoing:
        """Encode a message, with a new id."""
        id = str(next(self._ids))
        return Outgoing(id, message, encode_client(message, id).decode(), is_own)

    def send(self, outgoing: Outgoing) -> None:
        """Queue a message."""
        self._buffer.append(outgoing)
        if len(self._buffer.messages) >= _PING_AFTER:
            self._ping()

    def _ping(self) -> None:
        """Find out how much the server has received (P-13.14), unless such a ping is under way."""
        if self._own_ping is None:
            ping = self.compose(messages.Ping(), is_own=True)
            self._own_ping = ping.id
            self._buffer.append(ping)

    @property
    def is_full(self) -> bool:
        """Whether another message has to wait."""
        return len(self._buffer.messages) >= SEND_BUFFER

    @property
    def changed(self) -> trio.Event:
        """Set at the next change of what is queued."""
        return self._buffer.changed

    def begin_session(self, limits: messages.Limits) -> None:
        """Drop everything: there is a new session, with these limits."""
        self.clear()
        self._allowance = Allowance(
            max(_LEAST_RATE, _PART_OF_LIMITS * limits.messages_per_second),
            max(1.0, _PART_OF_LIMITS * limits.message_burst),
            max(_LEAST_RATE, _PART_OF_LIMITS * limits.bytes_per_second),
            max(limits.message_bytes, _PART_OF_LIMITS * limits.byte_burst),
        )
        self._rate_limit = RateLimit(self._allowance)
        self._not_before = -math.inf

    def clear(self) -> None:
        """Drop everything: the session is over."""
        self._buffer.clear()
        self._requests.clear()
        self._own_ping = None

    # ------------------------------------------------------------ receiving

    def resume(self, heard: int) -> None:
        """Send again what the server has not received (P-13.4): the session has another connection."""
        self._requests.restart(trio.current_time(), self._buffer.resume(heard))

    def receive(self, message: messages.ServerMessage, session_id: str) -> bool:
        """Learn from a message of the server; returns whether it is of interest to the user, too."""
        request = self._requests.answer(message, session_id)
        if isinstance(message, messages.Pong):
            self._buffer.acknowledge(message.heard)
            return not self._answers_own_ping(request)
        if isinstance(message, messages.ErrorMessage):
            id = message.id or (request.id if request is not None else "")
            return not self._receive_error(message, id)
        return True

    def _answers_own_ping(self, request: Outgoing | None) -> bool:
        if request is None or not request.is_own:
            return False
        self._own_ping = None
        return True

    def _receive_error(self, error: messages.ErrorMessage, id: str) -> bool:
        """Send a message again that was dropped, or refused because one before it was (P-7.7)."""
        if error.code is ErrorCode.RATE_LIMITED:
            # A slow network can make a burst of what was not one. So there are none any more.
            self._rate_limit = RateLimit(attrs.evolve(self._allowance, message_burst=1.0))
            self._retry_seconds = error.retry_after_seconds or 0.0
            self._not_before = trio.current_time() + self._retry_seconds
            return self._buffer.send_again(id)
        if error.code is ErrorCode.WRONG_STATE and self._buffer.has_overtaken(id):
            return self._buffer.send_again(id)
        return False

    def pause_reading(self) -> None:
        """Nothing is received for a while, so that nothing counts as unanswered."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Messages are received again."""
        self._is_reading = True
        self._requests.restart(trio.current_time(), [])

    # ------------------------------------------------------------ tasks of one connection

    async def keep_sending(self, websocket: WebSocket) -> None:
        """Send what is queued.

        Raises:
            Disconnected: The server does not read any more.
        """
        while True:
            changed = self._buffer.changed
            await trio.sleep_until(self._not_before)
            outgoing = self._buffer.next
            if outgoing is None:
                await changed.wait()
                continue
            wait = self._rate_limit.spend(len(outgoing.text.encode()), trio.current_time())
            if wait > 0:
                await trio.sleep(wait + _ROUNDING)  # perhaps something else is next then
                continue
            if outgoing.first_number is not None:
                self._not_before = trio.current_time() + self._retry_seconds
            self._buffer.mark_sent()
            self._requests.add(outgoing, trio.current_time())
            await websocket.send(outgoing.text)

    async def keep_pinging(self, server_seconds: float) -> None:
        """Ping now and then: keeps the send buffer short (P-13.14), and notices when the server is gone.

        Args:
            server_seconds: The interval of the server's own pings.
        """
        shortest, longest = _PING_SECONDS
        while True:
            await trio.sleep(min(max(shortest, server_seconds), longest))
            self._ping()

    async def expect_answers(self) -> None:
        """Wait until an answer is late.

        Raises:
            Unanswered: This is how it ends.
        """
        while True:
            late = self._late_request(trio.current_time())
            if isinstance(late, Outgoing):
                raise Unanswered(late, self._buffer.is_forgotten(late.id))
            await trio.sleep_until(late)
            for _ in range(_LAST_TURNS):
                await trio.lowlevel.checkpoint()

    def _late_request(self, now: float) -> Outgoing | float:
        """The message whose answer is late, or the time before which none can be."""
        oldest = self._requests.oldest if self._is_reading else None
        if oldest is None:
            return now + ANSWER_SECONDS
        outgoing, since = oldest
        return outgoing if since + ANSWER_SECONDS <= now else since + ANSWER_SECONDS
