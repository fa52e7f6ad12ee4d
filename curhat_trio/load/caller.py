"""One client of a load: join, exchange, part.

Each part has a fault of its own for a message that does not come in time:

    join        until the server tells of a partner                   unmatched
    exchange    K messages back and forth                             stalled
    part        who heard the last one leaves; the partner is told    leave_missing
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import trio

from curhat_trio.load.checker import Fault
from curhat_trio.load.labels import Label, compose, read_label, read_message
from curhat_trio.load.meeting import BrokenOff, Seat, Tally
from curhat_trio.load.plan import Plan
from curhat_trio.load.wire import Connection, Ended

_RELAYED = frozenset({"offer", "answer", "candidate"})
_SLACK = 0.05
"""Seconds by which a wait may end too soon: moving a deadline costs more than looking at a clock."""
_LAST_CHANCE = 0.5
"""Seconds that a client goes on waiting for a partner when a churn is over."""


class Caller:
    """A client with a connection, for one conversation.

    Args:
        index: Its number among the clients.
        connection: A curhat.v1 client's welcome has been heard. `aclose` closes it.
    """

    def __init__(self, index: int, plan: Plan, tally: Tally, connection: Connection) -> None:
        self._index = index
        self._plan = plan
        self._tally = tally
        self._connection = connection
        self._inbox: deque[dict[str, Any]] = deque()
        self._ready_room = ""
        self._partner_id: object = None
        self._seat: Seat | None = None
        self._scope = trio.CancelScope()
        self._patience_began = 0.0
        self._heard_at = 0.0
        self._overdue = Fault.UNMATCHED
        """What it means if the next message does not come in time."""

    async def converse(self, answered: Callable[[], None] = lambda: None) -> None:
        """Join, exchange, part. Whatever goes wrong is counted.

        Args:
            answered: Called when the server has answered the join, and again later.
        """
        try:
            with self._scope:
                try:
                    seat = self._seat = await self._join(answered)
                    await self._exchange(seat)
                    await self._part(seat)
                except Ended as error:
                    raise BrokenOff(Fault.CLOSED_EARLY, f"connection {error}") from None
            if self._scope.cancelled_caught:
                raise BrokenOff(self._overdue, f"{self._overdue}: nothing came for {self._plan.timeout:g} s")
        except BrokenOff as end:
            self._break_off(end)
        except trio.Cancelled:
            if self._seat is not None:
                self._seat.meeting.break_off(Fault.CLOSED_EARLY)
            raise
        finally:
            answered()
            if self._seat is not None:
                self._tally.rise(self._seat)

    async def aclose(self) -> None:
        """Close the connection politely. Messages that come only now are judged, too."""
        try:
            with trio.move_on_after(self._plan.timeout) as patience:
                for text in await self._connection.say_goodbye():
                    with suppress(BrokenOff):
                        self._hear_late(_read(text))
            if patience.cancelled_caught:
                self._tally.ledger.faults.count(Fault.CLOSE_MISSING, "a close was not answered")
        finally:
            self._connection.close()

    # ------------------------------------------------------------ the three parts

    async def _join(self, answered: Callable[[], None]) -> Seat:
        self._be_patient(Fault.UNMATCHED)
        joined_at = trio.current_time()
        await self._say(orjson.dumps({"type": "join", "username": f"u{self._index}"}))
        while True:
            message = await self._next()
            answered()
            kind = message.get("type")
            if kind == "ready":
                self._ready_room = str(message.get("roomId"))
            elif kind == "join":
                self._partner_id = message.get("from")
                self._tally.relays_only |= message.get("iceTransportPolicy") == "relay"
                room = str(message.get("roomId") or self._ready_room)
                return self._tally.sit(room, self._index, joined_at, message.get("role") != "answerer")
            elif kind == "offer" and self._is_for_my_room(message):  # some servers tell only who is to begin
                self._inbox.appendleft(message)
                return self._tally.sit(self._ready_room, self._index, joined_at, False)
            else:
                self._take_other(message, kind)

    def _is_for_my_room(self, message: dict[str, Any]) -> bool:
        label = read_label("offer", message.get("payload"))
        return label is not None and label.room == self._ready_room

    async def _exchange(self, seat: Seat) -> None:
        self._be_patient(Fault.STALLED)
        plan = self._plan
        position, spoke_at = 0, 0.0
        while position < plan.messages:
            end = plan.end_of_turn(position)
            if plan.is_initiators(position) is seat.is_initiator:
                for each in range(position, end):
                    await self._speak(seat, each)
                spoke_at = trio.current_time()
            else:
                await self._listen(seat, end - position)
                times = self._tally.round_trips if position > 1 else self._tally.answering
                if position > 0:  # before the first turn this client has not spoken
                    times.add(self._heard_at - spoke_at)
            position = end

    async def _speak(self, seat: Seat, position: int) -> None:
        kind, mine = self._plan.kind(position), seat.mine
        text, payload = compose(Label(mine.run, mine.room, mine.sender, mine.sent), kind, self._plan.size)
        mine.send(kind, payload)
        self._tally.sent += 1
        await self._say(text)

    async def _listen(self, seat: Seat, count: int) -> None:
        """Hear a whole turn of the partner's; `_heard_at` is when its first message came."""
        self._heard_at = 0.0
        wanted = count + (seat.theirs.complete if seat.theirs else 0)
        while seat.theirs is None or seat.theirs.complete < wanted:
            message = await self._next()
            kind = message.get("type")
            if kind in _RELAYED:
                self._heard_at = self._heard_at or trio.current_time()
                self._hear(message)
            else:
                self._take_other(message, kind)

    async def _part(self, seat: Seat) -> None:
        self._be_patient(Fault.LEAVE_MISSING)
        if self._plan.is_initiators(self._plan.messages - 1) is seat.is_initiator:
            await self._hear_leave()
            seat.meeting.left.set()
            return
        await self._say(b'{"type":"leave"}')
        if self._plan.profile == "v1":  # a legacy client's own leave is not answered
            await self._hear_leave()
        await seat.meeting.left.wait()

    async def _hear_leave(self) -> None:
        while (kind := (message := await self._next()).get("type")) != "leave":
            self._take_other(message, kind)

    # ------------------------------------------------------------ saying and hearing

    async def _say(self, text: bytes) -> None:
        if not self._connection.send(text):
            await self._connection.flush()

    async def _next(self) -> dict[str, Any]:
        """The next message, in time."""
        if not self._inbox:
            if trio.current_time() > self._patience_began + _SLACK:
                self._be_patient(self._overdue)
            self._inbox.extend(map(_read, await self._connection.hear()))
        return self._inbox.popleft()

    def _be_patient(self, overdue: Fault) -> None:
        """The time to wait begins again."""
        now = self._patience_began = trio.current_time()
        self._overdue = overdue
        deadline, over_at = now + self._plan.timeout, self._tally.churns_until
        if overdue is Fault.UNMATCHED and over_at is not None:
            deadline = min(deadline, max(now, over_at + _LAST_CHANCE))
        self._scope.deadline = deadline

    def _hear(self, message: dict[str, Any]) -> None:
        """Something that was relayed: the ledger judges it."""
        self._tally.heard += 1
        ledger, theirs = self._tally.ledger, self._seat.theirs if self._seat else None
        kind, payload = message["type"], message.get("payload")
        if theirs is None:
            ledger.misrouted(read_label(kind, payload))
        elif (stray := theirs.hear(kind, payload)) is not None:
            ledger.misrouted(stray)
        elif self._is_misattributed(message, theirs.room):
            ledger.faults.count(Fault.MISATTRIBUTED, "a message named another sender or room than its own")

    def _is_misattributed(self, message: dict[str, Any], room: str) -> bool:
        sender = message.get("from")
        if self._partner_id is None:
            self._partner_id = sender
        return message.get("roomId", room) != room or (sender is not None and sender != self._partner_id)

    def _hear_late(self, message: dict[str, Any]) -> None:
        """What came after the end, if there was anything to be heard before."""
        if self._seat is not None and message.get("type") in _RELAYED:
            self._hear(message)

    def _take_other(self, message: dict[str, Any], kind: object) -> None:
        """What is not what one waits for."""
        if kind in _RELAYED:
            self._hear(message)
        elif kind == "error":
            self._take_error(message)
        elif kind == "leave" and self._seat is not None:
            reason = message.get("reason", "without a reason")
            raise BrokenOff(Fault.LEFT_EARLY, f"the server said leave in mid-conversation: {reason}")
        elif kind == "join":
            raise BrokenOff(Fault.MISMATCHED, "a client was told of a second partner")

    def _take_error(self, message: dict[str, Any]) -> None:
        code, ref = message.get("code"), message.get("ref")
        fault = Fault.RATE_LIMITED if code == "rate_limited" else Fault.REFUSED
        unread = fault is Fault.RATE_LIMITED and ref is None  # a server need not read what it drops for that
        if self._seat is not None and (ref in _RELAYED or unread):
            self._seat.mine.refused += 1
        self._tally.ledger.faults.count(fault, f"error {code}: {str(message.get('message'))[:120]}")

    def _break_off(self, end: BrokenOff) -> None:
        tally = self._tally
        if self._seat is None:
            if tally.is_over and end.fault is Fault.UNMATCHED:
                tally.waiting_at_end += 1
                return
        else:
            meeting = self._seat.meeting
            if meeting.broken:
                return
            meeting.break_off(end.fault)
            if len(meeting.seats) < 2 and tally.is_over:  # paired with a client that had just given up waiting
                return
        tally.ledger.faults.count(end.fault, end.detail)


def _read(text: bytes) -> dict[str, Any]:
    """
    Raises:
        BrokenOff: Not a JSON object.
    """
    message = read_message(text)
    if message is None:
        raise BrokenOff(Fault.UNREADABLE, "a message was not a JSON object")
    return message
