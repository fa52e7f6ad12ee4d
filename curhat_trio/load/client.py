"""One client of a load: it joins, exchanges messages and leaves.

A message that does not arrive in time is a different fault in each step:

    join        until the server announces the partner                     unmatched
    exchange    K messages back and forth                                  stalled
    leave       the client that received the last message leaves, and its
                partner receives `leave`                                   leave_missing
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import trio

from curhat_trio.load.checker import Fault
from curhat_trio.load.connection import Connection, ConnectionEnded
from curhat_trio.load.labels import Label, compose, read_label, read_message
from curhat_trio.load.pairing import ConversationFailed, Participant, Statistics
from curhat_trio.load.plan import Plan

_RELAYED = frozenset({"offer", "answer", "candidate"})
_SLACK = 0.05
"""Seconds by which a timeout may be too short: moving a deadline costs more than reading the clock."""
_GRACE = 0.5
"""Seconds for which a client still waits for a partner when a churn is over."""


class Client:
    """A client with a connection, for one conversation.

    Args:
        index: Its number among the clients.
        connection: An open connection; a curhat.v1 client has received its `welcome`. `aclose` closes it.
    """

    def __init__(self, index: int, plan: Plan, statistics: Statistics, connection: Connection) -> None:
        self._index = index
        self._plan = plan
        self._statistics = statistics
        self._connection = connection
        self._inbox: deque[dict[str, Any]] = deque()
        self._ready_room = ""
        self._partner_id: object = None
        self._participant: Participant | None = None
        self._scope = trio.CancelScope()
        self._timeout_began = 0.0
        self._received_at = 0.0
        self._timeout_fault = Fault.UNMATCHED
        """The fault to count if the next message does not arrive in time."""

    async def converse(self, answered: Callable[[], None] = lambda: None) -> None:
        """Join, exchange messages and leave; faults are counted, not raised.

        Args:
            answered: Called when the server has answered the join, and possibly again later.
        """
        try:
            with self._scope:
                participant = self._participant = await self._join(answered)
                await self._exchange(participant)
                await self._leave(participant)
        except ConnectionEnded as error:
            self._fail(Fault.CLOSED_EARLY, f"connection {error}")
        except ConversationFailed as error:
            self._fail(error.fault, error.detail)
        except trio.Cancelled:
            if self._participant is not None:
                self._participant.pairing.fail(Fault.CLOSED_EARLY)
            raise
        else:
            if self._scope.cancelled_caught:
                fault = self._timeout_fault
                self._fail(fault, f"{fault}: no message for {self._plan.timeout:g} s")
        finally:
            answered()
            if self._participant is not None:
                self._statistics.leave(self._participant)

    async def aclose(self) -> None:
        """Do the closing handshake. Messages that arrive during it are checked too."""
        try:
            with trio.move_on_after(self._plan.timeout) as scope:
                for text in await self._connection.close_gracefully():
                    with suppress(ConversationFailed):
                        self._receive_late(_read(text))
            if scope.cancelled_caught:
                self._statistics.checker.faults.count(
                    Fault.CLOSE_MISSING, "the server did not answer the closing handshake"
                )
        finally:
            self._connection.close()

    # ------------------------------------------------------------ the three steps

    async def _join(self, answered: Callable[[], None]) -> Participant:
        self._restart_timeout(Fault.UNMATCHED)
        joined_at = trio.current_time()
        await self._send(orjson.dumps({"type": "join", "username": f"u{self._index}"}))
        while True:
            message = await self._next_message()
            answered()
            kind = message.get("type")
            if kind == "ready":
                self._ready_room = str(message.get("roomId"))
            elif kind == "join":
                self._partner_id = message.get("from")
                self._statistics.relay_only |= message.get("iceTransportPolicy") == "relay"
                room = str(message.get("roomId") or self._ready_room)
                return self._statistics.enter(room, self._index, joined_at, message.get("role") != "answerer")
            elif kind == "offer" and self._is_for_own_room(
                message
            ):  # some servers announce the pairing to the offerer only
                self._inbox.appendleft(message)
                return self._statistics.enter(self._ready_room, self._index, joined_at, False)
            else:
                self._handle_other(message, kind)

    def _is_for_own_room(self, message: dict[str, Any]) -> bool:
        label = read_label("offer", message.get("payload"))
        return label is not None and label.room == self._ready_room

    async def _exchange(self, participant: Participant) -> None:
        self._restart_timeout(Fault.STALLED)
        plan = self._plan
        position, sent_at = 0, 0.0
        while position < plan.messages:
            end = plan.end_of_turn(position)
            if plan.is_initiators(position) is participant.is_initiator:
                for each in range(position, end):
                    await self._send_message(participant, each)
                sent_at = trio.current_time()
            else:
                await self._receive_turn(participant, end - position)
                times = self._statistics.round_trips if position > 1 else self._statistics.answering
                if position > 0:  # before the first turn this client has not sent anything
                    times.add(self._received_at - sent_at)
            position = end

    async def _send_message(self, participant: Participant, position: int) -> None:
        kind, mine = self._plan.kind(position), participant.mine
        text, payload = compose(Label(mine.run, mine.room, mine.sender, mine.sent), kind, self._plan.size)
        mine.send(kind, payload)
        self._statistics.sent += 1
        await self._send(text)

    async def _receive_turn(self, participant: Participant, count: int) -> None:
        """Receive a whole turn of the partner's; `_received_at` is when its first message arrived."""
        self._received_at = 0.0
        wanted = count + (participant.theirs.complete if participant.theirs else 0)
        while participant.theirs is None or participant.theirs.complete < wanted:
            message = await self._next_message()
            kind = message.get("type")
            if kind in _RELAYED:
                self._received_at = self._received_at or trio.current_time()
                self._receive_relayed(message)
            else:
                self._handle_other(message, kind)

    async def _leave(self, participant: Participant) -> None:
        self._restart_timeout(Fault.LEAVE_MISSING)
        if self._plan.is_initiators(self._plan.messages - 1) is participant.is_initiator:
            await self._receive_leave()
            participant.pairing.left.set()
            return
        await self._send(b'{"type":"leave"}')
        if self._plan.profile == "v1":  # a legacy client's own leave is not answered
            await self._receive_leave()
        await participant.pairing.left.wait()

    async def _receive_leave(self) -> None:
        while (kind := (message := await self._next_message()).get("type")) != "leave":
            self._handle_other(message, kind)

    # ------------------------------------------------------------ sending and receiving

    async def _send(self, text: bytes) -> None:
        if not self._connection.send(text):
            await self._connection.flush()

    async def _next_message(self) -> dict[str, Any]:
        """The next message; the timeout restarts."""
        if not self._inbox:
            if trio.current_time() > self._timeout_began + _SLACK:
                self._restart_timeout(self._timeout_fault)
            self._inbox.extend(map(_read, await self._connection.receive()))
        return self._inbox.popleft()

    def _restart_timeout(self, fault: Fault) -> None:
        """Start the timeout anew; `fault` is counted if it expires."""
        now = self._timeout_began = trio.current_time()
        self._timeout_fault = fault
        deadline, over_at = now + self._plan.timeout, self._statistics.churns_until
        if fault is Fault.UNMATCHED and over_at is not None:
            deadline = min(deadline, max(now, over_at + _GRACE))
        self._scope.deadline = deadline

    def _receive_relayed(self, message: dict[str, Any]) -> None:
        """Check a relayed message."""
        self._statistics.received += 1
        checker, theirs = self._statistics.checker, self._participant.theirs if self._participant else None
        kind, payload = message["type"], message.get("payload")
        if theirs is None:
            checker.misrouted(read_label(kind, payload))
        elif (foreign := theirs.receive(kind, payload)) is not None:
            checker.misrouted(foreign)
        elif self._is_misattributed(message, theirs.room):
            checker.faults.count(Fault.MISATTRIBUTED, "a message had the wrong `from` or `roomId`")

    def _is_misattributed(self, message: dict[str, Any], room: str) -> bool:
        sender = message.get("from")
        if self._partner_id is None:
            self._partner_id = sender
        return message.get("roomId", room) != room or (sender is not None and sender != self._partner_id)

    def _receive_late(self, message: dict[str, Any]) -> None:
        """Check a message that arrives after the conversation, if there was one."""
        if self._participant is not None and message.get("type") in _RELAYED:
            self._receive_relayed(message)

    def _handle_other(self, message: dict[str, Any], kind: object) -> None:
        """Handle a message that is not the expected one."""
        if kind in _RELAYED:
            self._receive_relayed(message)
        elif kind == "error":
            self._handle_error(message)
        elif kind == "leave" and self._participant is not None:
            reason = message.get("reason", "without a reason")
            raise ConversationFailed(Fault.LEFT_EARLY, f"the server sent leave during a conversation: {reason}")
        elif kind == "join":
            raise ConversationFailed(Fault.MISMATCHED, "a client was paired with a second partner")

    def _handle_error(self, message: dict[str, Any]) -> None:
        code, ref = message.get("code"), message.get("ref")
        fault = Fault.RATE_LIMITED if code == "rate_limited" else Fault.REFUSED
        unread = fault is Fault.RATE_LIMITED and ref is None  # a server may drop the message without parsing it
        if self._participant is not None and (ref in _RELAYED or unread):
            self._participant.mine.refused += 1
        self._statistics.checker.faults.count(fault, f"error {code}: {str(message.get('message'))[:120]}")

    def _fail(self, fault: Fault, detail: str) -> None:
        statistics = self._statistics
        if self._participant is None:
            if statistics.is_churn_over and fault is Fault.UNMATCHED:
                statistics.waiting_at_end += 1
                return
        else:
            pairing = self._participant.pairing
            if pairing.failed:
                return
            pairing.fail(fault)
            if statistics.is_churn_over and len(pairing.participants) < 2:  # the partner had just stopped waiting
                return
        statistics.checker.faults.count(fault, detail)


def _read(text: bytes) -> dict[str, Any]:
    """Parse a message.

    Raises:
        ConversationFailed: It is not a JSON object.
    """
    message = read_message(text)
    if message is None:
        raise ConversationFailed(Fault.UNREADABLE, "a message was not a JSON object")
    return message
