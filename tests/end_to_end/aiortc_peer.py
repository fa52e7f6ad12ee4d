"""A peer without a browser: finds a partner through a server, sends a video and receives theirs.

    pip install 'curhat-trio[aiortc]'
    python -m tests.end_to_end.aiortc_peer ws://127.0.0.1:8080/ws

Signaling is `curhat_trio.client` on Trio, in the main thread. aiortc wants asyncio, whose loop has a thread of its
own: `Asyncio` runs coroutines there. Every line on standard output is an event.
"""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from fractions import Fraction
from functools import partial
from typing import Any, Literal, Self, TypeVar

import trio
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
    VideoStreamTrack,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp
from av import VideoFrame

from curhat_trio.client import (
    Answer,
    AnyEvent,
    Candidate,
    Chat,
    Client,
    IceCandidate,
    Joined,
    Left,
    Offer,
    Relayed,
    connect,
)

WIDTH, HEIGHT = 320, 240
OnEvent = Callable[[str], None]
T = TypeVar("T")


class Asyncio:
    """An asyncio loop in a thread of its own, for the time of a `with` block."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns; Trio's other tasks go on meanwhile."""
        return await trio.to_thread.run_sync(asyncio.run_coroutine_threadsafe(coroutine, self._loop).result)


class GreenWithABar(VideoStreamTrack):
    """A green picture, over which a dark bar moves."""

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        shift = pts // 3000 * 4 % WIDTH
        row = b"".join(b"\x00\x50\x00" if 0 <= x - shift < 40 else b"\x00\xc0\x00" for x in range(WIDTH))
        frame = VideoFrame(WIDTH, HEIGHT, "rgb24")
        frame.planes[0].update(row * HEIGHT)
        frame.pts, frame.time_base = pts, Fraction(time_base)
        return frame


def _colour(frame: VideoFrame) -> str:
    """Which of the three a picture has most of."""
    pixel = bytes(frame.reformat(width=1, height=1, format="rgb24").planes[0])[:3]
    return ("red", "green", "blue")[pixel.index(max(pixel))]


class Call:
    """One call with aiortc; lives in asyncio's thread.

    Args:
        joined: How the partner was introduced.
        on_event: Called from asyncio's thread: the connection's state, or the colour of the partner's video.
    """

    def __init__(self, joined: Joined, on_event: OnEvent) -> None:
        self._joined = joined
        self._on_event = on_event
        self._watching: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        servers = [
            RTCIceServer(list(server.urls), server.username, server.credential)
            for server in self._joined.ice_servers
        ]
        policy = RTCIceTransportPolicy(self._joined.ice_transport_policy)
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=servers, iceTransportPolicy=policy))
        self._pc.on("connectionstatechange", lambda: self._on_event(self._pc.connectionState))
        self._pc.on("track", self._take)
        self._pc.addTrack(GreenWithABar())
        if self._joined.role == "offerer":
            self._pc.addTransceiver("audio", direction="recvonly")

    def _take(self, track: MediaStreamTrack) -> None:
        if track.kind == "video":
            task = asyncio.ensure_future(self._watch(track))
            self._watching.add(task)
            task.add_done_callback(self._watching.discard)

    async def _watch(self, track: MediaStreamTrack) -> None:
        seen = 0
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, VideoFrame)
                seen += 1
                if seen == 10:
                    self._on_event(f"receives {_colour(frame)}")
        except MediaStreamError:
            return  # it has ended

    async def offer(self) -> str:
        await self._pc.setLocalDescription(await self._pc.createOffer())
        return self._pc.localDescription.sdp

    async def answer(self, offer: str) -> str:
        await self._pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self._pc.setLocalDescription(await self._pc.createAnswer())
        return self._pc.localDescription.sdp

    async def set_answer(self, answer: str) -> None:
        await self._pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def add_candidate(self, payload: IceCandidate) -> None:
        if not payload.candidate:
            return  # aiortc needs no end of candidates
        candidate = candidate_from_sdp(payload.candidate.removeprefix("candidate:"))
        candidate.sdpMid, candidate.sdpMLineIndex = payload.sdpMid, payload.sdpMLineIndex
        await self._pc.addIceCandidate(candidate)

    async def end(self) -> None:
        await self._pc.close()


class Peer:
    """Takes part in one call."""

    def __init__(self, client: Client, run: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]) -> None:
        self._client = client
        self._run_in_asyncio = run
        self._call: Call | None = None
        self._events_in, self._events = trio.open_memory_channel[str](100)

    async def run(self) -> None:
        """Wait for a partner, and stay in the call until they leave."""
        await self._client.join()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report_status)
            try:
                async for event in self._client:
                    await self._handle(event)
                    if isinstance(event, Left):
                        break
            finally:
                with trio.CancelScope(shield=True):
                    if self._call is not None:
                        await self._run_in_asyncio(self._call.end())
            nursery.cancel_scope.cancel()

    async def _handle(self, event: AnyEvent) -> None:
        match event:
            case Joined():
                print(f"talking with {event.username!r}, as {event.role}", flush=True)
                token = trio.lowlevel.current_trio_token()
                emit = self._events_in.send_nowait
                self._call = Call(event, lambda what: token.run_sync_soon(partial(emit, what)))
                await self._run_in_asyncio(self._call.begin())
                if event.role == "offerer":
                    await self._describe("offer", self._call.offer())
            case Relayed(message=Offer(payload)) if self._call is not None:
                await self._describe("answer", self._call.answer(payload.sdp))
            case Relayed(message=Answer(payload)) if self._call is not None:
                await self._run_in_asyncio(self._call.set_answer(payload.sdp))
            case Relayed(message=Candidate(payload)) if self._call is not None:
                await self._run_in_asyncio(self._call.add_candidate(payload))
            case Relayed(message=Chat(text)):
                await self._client.chat(f"You said: {text}")
            case Left():
                print(f"the partner has left: {event.reason}", flush=True)
            case _:
                pass

    async def _describe(self, kind: Literal["offer", "answer"], description: Coroutine[Any, Any, str]) -> None:
        """aiortc gathers first: its description holds all its candidates."""
        sdp = await self._run_in_asyncio(description)
        await (self._client.offer(sdp) if kind == "offer" else self._client.answer(sdp))
        await self._client.candidate("", "0", 0)

    async def _report_status(self) -> None:
        async for what in self._events:
            print(what, flush=True)
            if what == "connected":
                await self._client.status("connected")
            elif what == "failed":
                await self._client.status("failed")


async def main(url: str, name: str = "Python") -> None:
    with Asyncio() as aio:
        async with connect(url, username=name) as client:
            await Peer(client, aio.run).run()


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
