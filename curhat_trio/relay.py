"""Bounded hand-over between tasks: into a session (`Inbox`) and out to its client (`Outbox`).

Towards a client nothing ever waits: what does not fit marks that client as lost, and its own task finds out.
"""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import trio

from curhat_trio.protocol.events import Event

Heard = TypeVar("Heard")
"""What a link hands over when its client has said something."""


class Inbox(Generic[Heard]):
    """All that a session is told, in one order: by the matchmaker, by the partner, and by its own link.

    Args:
        capacity: How many things may wait to be read.
        watch: Told of every event that is handed over, and whether it fitted.
    """

    def __init__(self, capacity: int, watch: Callable[[Event, bool], None] | None = None) -> None:
        self._send, self._receive = trio.open_memory_channel[Event | Heard](capacity)
        self._watch = watch
        self.overflowed = False
        """Something did not fit and is lost: the session has to close."""

    def tell(self, event: Event) -> bool:
        """Hand an event over without waiting; False: nobody is there to read it, or there is no room."""
        try:
            self._send.send_nowait(event)
        except trio.BrokenResourceError:
            return False
        except trio.WouldBlock:
            self.overflowed = True
            fits = False
        else:
            fits = True
        if self._watch is not None:
            self._watch(event, fits)
        return fits

    @property
    def has_room(self) -> bool:
        """Whether something more fits, and nothing was ever lost."""
        seen = self._send.statistics()
        return not self.overflowed and seen.current_buffer_used < seen.max_buffer_size

    def put(self, heard: Heard) -> None:
        """Hand over something for which there is room.

        Raises:
            trio.WouldBlock, trio.BrokenResourceError: There is none, or nobody reads any more.
        """
        self._send.send_nowait(heard)

    async def wait_to_tell(self, heard: Heard) -> bool:
        """Hand over what the own client said, waiting for room; False: nobody reads any more."""
        try:
            await self._send.send(heard)
        except trio.BrokenResourceError:
            return False
        return True

    async def receive(self) -> list[Event | Heard]:
        """All that is there, at least one."""
        batch = [await self._receive.receive()]
        batch += self._drain()
        return batch

    def close(self) -> list[Event | Heard]:
        """Read no more. Returns what was still unread: a match among it must be answered."""
        unread = self._drain()
        self._receive.close()
        return unread

    def _drain(self) -> list[Event | Heard]:
        batch: list[Event | Heard] = []
        try:
            while True:
                batch.append(self._receive.receive_nowait())
        except (trio.WouldBlock, trio.ClosedResourceError):
            return batch


class Outbox:
    """Frames on their way to one client.

    Args:
        max_frames: How many may wait.
        max_bytes: How many bytes may wait.
    """

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: list[bytes] = []
        self._bytes = 0
        self._closed = False
        self._news = trio.Event()

    def put(self, frames: Iterable[bytes]) -> bool:
        """Add frames without waiting; False: the client does not read fast enough, and they are lost. After
        `close` they are dropped."""
        if self._closed:
            return True
        for frame in frames:
            self._bytes += len(frame)
            self._frames.append(frame)
        self._news.set()
        return len(self._frames) <= self._max_frames and self._bytes <= self._max_bytes

    def close(self, discard: bool = False) -> None:
        """Take nothing more; `discard` also forgets what is waiting."""
        self._closed = True
        if discard:
            self._frames.clear()
        self._news.set()

    async def take(self) -> bytes:
        """All frames that wait, as one stretch of bytes; empty: closed, and nothing is left."""
        if not self._frames and not self._closed:
            self._news = trio.Event()
            await self._news.wait()
        taken, self._frames, self._bytes = b"".join(self._frames), [], 0
        return taken
