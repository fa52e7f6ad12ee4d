"""The model of the shell: its connections and sessions, with what must be written to each.

All of this is kept a second time, beside `Endpoint` and `curhat_trio.connection`, because here independence is the
point.
"""

from collections.abc import Callable
from enum import Enum, auto
from math import inf
from typing import Any, TypeAlias

import attrs

from curhat_trio.config import Settings
from curhat_trio.conformance.wire import CLOSE, PING, PONG, TEXT, frame
from curhat_trio.frames import FrameReader
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Profile
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.rate_limit import RateLimit

Record: TypeAlias = tuple[Any, ...]
"""What happened, and to what:

    opening wire         the client at this wire gets its WebSocket
    read wire data       these bytes of the client's have come; none: nothing can be read any more
    cut wire             the connection's task was cancelled
    handed wire data     the network was given these bytes, which begin with the first that it has not taken yet
    took wire size       the network has taken so many
    broke wire           nothing can be written any more
    gone wire            the server has closed the connection, and released it
    due whose            a deadline has come, of a session or of the connection at this wire
    introduced pair      a pair has come from the matchmaker
    passed now           the clock moved
    served outcome       the matchmaker did something
    ...                  anything else that an observer was called with, by the name of its method
"""


# ---------------------------------------------------------------- connections and sessions


class Phase(Enum):
    HTTP = auto()
    OPEN = auto()
    CLOSING = auto()
    GONE = auto()


@attrs.define(eq=False)
class Connection:
    """One WebSocket connection."""

    wire: Any
    profile: Profile
    username: str
    reader: FrameReader
    controls: RateLimit
    phase: Phase = Phase.HTTP
    serves: "Client | None" = None
    has_socket: bool = False
    """It was not refused, so it counts."""
    read: int = 0
    """Bytes so far, after the opening request."""
    sent_bytes: bytearray = attrs.Factory(bytearray)
    """All that is to be written, first to last. The opening response is put before it when it is written."""
    frame_ends: list[int] = attrs.Factory(list)
    """The ends of its frames."""
    taken: int = 0
    """So many bytes of it the network has taken."""
    handed: int = 0
    """So many it has taken, or they wait for it and can't be taken back."""
    opcodes: list[int] = attrs.Factory(list)
    payloads: dict[int, list[bytes]] = attrs.Factory(lambda: {TEXT: [], PING: [], PONG: [], CLOSE: []})
    """The payloads of the frames of each opcode."""
    close_code: CloseCode | int | None = None
    ping_at: float = inf
    pong_by: float = inf
    is_overdue: bool = False
    """The pong; but it may have come unnoticed."""
    write_by: float = inf
    close_by: float = inf
    peer_closed: bool = False
    is_faulty: bool = False
    """The client broke the framing, so its close frame can't be found any more."""
    is_aborted: bool = False
    """Nothing more is read or written."""
    is_read_out: bool = False
    """Nothing more can be read, or the task was cancelled."""
    is_cut_off: bool = False
    """The test has cancelled the task."""

    @property
    def deadline(self) -> float:
        match self.phase:
            case Phase.OPEN:
                return min(self.ping_at if self.pong_by == inf else self.pong_by, self.write_by)
            case Phase.CLOSING:
                return self.close_by
        return inf

    @property
    def unwritten(self) -> int:
        return len(self.sent_bytes) - self.taken

    @property
    def is_finished(self) -> bool:
        """There is nothing left to do."""
        is_closed_by_both = self.peer_closed and not self.unwritten
        return self.is_read_out or self.is_aborted or is_closed_by_both

    def send(self, opcode: int, payload: bytes) -> None:
        assert self.phase is not Phase.CLOSING or opcode == CLOSE, "nothing follows a close frame"
        self.sent_bytes += frame(opcode, payload, masked=False)
        self.frame_ends.append(len(self.sent_bytes))
        self.opcodes.append(opcode)
        self.payloads[opcode].append(payload)

    def add_opening_response(self, data: bytes) -> None:
        """Put the response that opens the WebSocket before everything else."""
        head, end, _ = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert (b"curhat.v1" in head) == (self.profile == "v1")
        self.sent_bytes[:0] = head + end
        self.frame_ends = [each + len(head + end) for each in self.frame_ends]

    def hand_over(self, data: bytes) -> None:
        if not self.handed:
            self.add_opening_response(data)
        self.handed = self.taken + len(data)
        assert self.sent_bytes[self.taken : self.handed] == data, "this is not what comes next"

    def take_back(self) -> None:
        """Remove what the network was not given yet."""
        del self.sent_bytes[self.handed :]
        while self.frame_ends and self.frame_ends[-1] > self.handed:
            self.frame_ends.pop()
            self.payloads[self.opcodes.pop()].pop()

    def is_behind(self, limits: Settings) -> bool:
        """Whether more waits for the client than is allowed. Messages count until they are handed over."""
        waiting = sum(end > self.handed for end in self.frame_ends)
        return self.unwritten > limits.outbound_bytes or waiting > limits.outbound_messages


@attrs.define(eq=False)
class Slot:
    """A connection slot, as the model counts it."""

    is_full: Callable[[], bool]
    """Whether the server has none left."""
    give_up_at: float
    is_held: bool = False

    def acquire(self) -> bool:
        self.is_held = self.is_held or not self.is_full()
        return self.is_held

    def release(self) -> None:
        """A session that is over is not counted anyway."""

    @property
    def deadline(self) -> float:
        return inf if self.is_held else self.give_up_at


@attrs.define(eq=False)
class Client:
    """One session. Its endpoint has to agree with everything here."""

    slot: Slot
    connection: Connection | None
    """None: it is away, or the connection is another session's."""
    keeps: tuple[int, int]
    token: str | None = None
    resumed_as: int = 0
    """The number of the next `resumed`."""
    was_resumed: bool = False
    sent: list[bytes] = attrs.Factory(list)
    """All messages to the client but `resumed`, over whichever connection."""
    expected: list[bytes] = attrs.Factory(list)
    """What is to be transmitted now."""
    received: int = 0
    missed_from: int = 0
    """While it is away: how many messages its client may have got."""
    endpoint: Endpoint = attrs.field(init=False)

    @property
    def id(self) -> ClientId:
        return self.endpoint.session.client

    def after(self, number: int) -> list[bytes] | None:
        """What was sent after message `number`; None: that is not kept any more, or was never sent."""
        if self.token is None or not 0 <= number <= len(self.sent):
            return None
        messages, size = self.keeps
        missed = self.sent[number:]
        return missed if len(missed) <= messages and sum(map(len, missed)) <= size else None
