"""A client written from spec/protocol.md alone: the scripted server must pass it.

It has no media: its peer connection is the signaling state of perfect negotiation, with sections for audio and
video. It has failed as soon as the partner has no more candidates. `bad_clients.py` has clients that break rules.
"""

import json
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

Dial = Callable[[], Awaitable[trio.abc.Stream]]
Message = dict[str, Any]

ABNORMAL = 1006
COMES_BACK = (1001, 1005, ABNORMAL, 1011, 1012, 1013, 1014)
"""Close codes below 4000 after which a client reconnects (P-9.1)."""
GIVES_UP = 4900
PONG_SECONDS = 10.0

SDP_TO_THE_FRAGMENT = """v=0
o=- 1 1 IN IP4 0.0.0.0
s=-
t=0 0
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=mid:0
a=sendrecv
a=rtpmap:111 opus/48000/2
a=ice-ufrag:""".replace("\n", "\r\n")
"""A description of a media section for audio, but for the ICE user fragment and the end of its line."""
VIDEO_SECTION = """m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=mid:1
a=sendrecv
a=rtpmap:96 VP8/90000
""".replace("\n", "\r\n")
HOST_CANDIDATE = "candidate:1 1 udp 1 127.0.0.1 9 typ host"


class Client:
    """Follows the rules.

    Args:
        dial: Makes a connection to the server.
        name: The user's.
        chance: The source of jitter.
    """

    subprotocols: tuple[str, ...] = ("curhat.v1",)
    breaks: tuple[str, ...] = ()
    """The rule that a bad client breaks, and those that it breaks in consequence."""

    def __init__(self, dial: Dial, name: str = "Ani", chance: random.Random | None = None) -> None:
        self._dial = dial
        self._name = name
        self._chance = chance or random.Random(1)
        self._wanted = trio.Event()
        self._wants_partner = False
        self._retry_after = 0.0
        self._generations = 0
        self._sending = trio.Lock()
        self._ws: WSConnection | None = None
        self._resuming = False
        self._timers: trio.Nursery | None = None
        self._microphone = True
        self._ponged = trio.Event()
        self._forget_connection()

    def _forget_connection(self) -> None:
        self._limits: dict[str, int] = {}
        self._features: list[str] = []
        self._stream: trio.abc.Stream | None = None
        self._welcomed = False
        self._id = ""
        self._leaving: str | None = None
        self._waiting = False
        self._token: str | None = None
        self._last_seq = 0
        self._sent: list[tuple[str, dict[str, Any]]] = []
        self._forgotten = 0  # so many before those of `_sent`, which the server has counted
        self._forget_partner()

    def _forget_partner(self) -> None:
        self._room: str | None = None
        self._polite = False
        self._pending: str | None = None  # our offer that is unanswered
        self._negotiated = False
        self._has_video = True
        self._ignoring = False
        self._relay_only = False
        self._reported_failure = False

    # ------------------------------------------------------------ the user

    async def join(self) -> None:
        """Look for a partner."""
        self._wants_partner = True
        self._wanted.set()
        if self._welcomed and not self._waiting and self._room is None and self._leaving is None:
            await self.send_join()

    async def leave(self) -> None:
        self._wants_partner = False
        if self._waiting or self._room is not None:
            self._leaving = "leave"
            self._waiting = False
            self._forget_partner()
            await self.send("leave")

    async def next(self) -> None:
        if self._room is not None:
            self._leaving = "next" if "next" in self._features else "leave"
            self._forget_partner()
            await self.send(self._leaving)

    async def chat(self, text: str) -> None:
        size = len(json.dumps({"type": "chat", "text": text}, ensure_ascii=False).encode())
        if self._room is not None and "chat" in self._features and size <= self._limits["messageBytes"]:
            await self.send("chat", text=text[: self._limits["chatCharacters"]])

    async def renegotiate(self) -> None:
        if self._room is not None and self._negotiated and self._pending is None:
            await self.offer()

    async def media(self, text: str) -> None:
        """Switch the microphone."""
        self._microphone = text == "on"
        if self._room is not None:
            await self.send_media()

    async def send_media(self) -> None:
        if "media" in self._features:
            await self.send("media", audio=self._microphone, video=True)

    async def quit(self) -> None:
        self._wants_partner = False
        self._wanted = trio.Event()
        await self._send(CloseConnection(1000))
        if self._stream is not None:
            await self._stream.aclose()

    # ------------------------------------------------------------ the connection

    async def live(self) -> None:
        """Connect when the user wants to, and reconnect when the protocol requires it."""
        async with trio.open_nursery() as self._timers:
            await self._live()

    async def _live(self) -> None:
        attempt = 0
        while True:
            await self._wanted.wait()
            code = await self._connection()
            attempt = 0 if self._welcomed else attempt
            wanted = self._wants_partner
            self._resuming = self._token is not None and wanted and code in (*COMES_BACK, 4002)
            self._stream, self._welcomed = None, False
            if not self._resuming:
                self._forget_connection()
            if self.reconnects(code) and wanted:
                attempt += 1
                await trio.sleep(self.pause(attempt))
                self._retry_after = 0.0
            else:
                attempt, self._wants_partner = 0, False
                self._wanted = trio.Event()

    def reconnects(self, code: int) -> bool:
        return code in COMES_BACK or 4000 <= code < 4500

    def pause(self, attempt: int) -> float:
        """Seconds until the next attempt."""
        most: float = min(30.0, 0.5 * 2**attempt)
        return self._retry_after + most * self._chance.uniform(0.5, 1)

    async def _connection(self) -> int:
        """One connection; returns its close code."""
        try:
            self._stream = await self._dial()
            return await self._talk(self._stream)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
            return ABNORMAL
        finally:
            if self._stream is not None:
                await trio.aclose_forcefully(self._stream)

    async def _talk(self, stream: trio.abc.Stream) -> int:
        ws = self._ws = WSConnection(ConnectionType.CLIENT)
        target = f"/ws?username={self._name}"
        await self._send(Request(host="curhat.test", target=target, subprotocols=list(self.subprotocols)))
        text = ""
        while True:
            data = bytes(await stream.receive_some(65536))
            ws.receive_data(data or None)
            for event in ws.events():
                match event:
                    case AcceptConnection():
                        pass
                    case RejectConnection():
                        return ABNORMAL
                    case TextMessage():
                        text += event.data
                        if event.message_finished:
                            await self.handle(json.loads(text))
                            text = ""
                    case Ping():
                        await self.pong(event)
                    case CloseConnection():
                        # Without a close frame of the server, wsproto itself found the connection to have failed.
                        code = int(event.code) if ws.state is ConnectionState.REMOTE_CLOSING else ABNORMAL
                        await self._send(event.response())
                        return code

    async def keep_alive(self, seconds: float, stream: trio.abc.Stream | None) -> None:
        """Send pings while this is our connection; give it up when the answer to one is late."""
        while True:
            await trio.sleep(seconds)
            if self._stream is not stream:
                return
            self._ponged = trio.Event()
            await self.send("ping")
            with trio.move_on_after(PONG_SECONDS):
                await self._ponged.wait()
            if self._stream is stream and not self._ponged.is_set():
                await self.give_up()
                return

    async def give_up(self) -> None:
        """Close the connection, whose session is to be resumed."""
        await self._send(CloseConnection(GIVES_UP))
        if self._stream is not None:
            await self._stream.aclose()

    async def pong(self, ping: Ping) -> None:
        await self._send(ping.response())

    async def _send(self, event: Event) -> None:
        async with self._sending:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError):
                if self._stream is not None and self._ws is not None:
                    await self._stream.send_all(self._ws.send(event))

    async def send(self, type: str, **fields: Any) -> None:
        self._sent.append((type, fields))
        if not self._resuming:
            await self.transmit(type, fields)

    async def transmit(self, type: str, fields: dict[str, Any]) -> None:
        await self._send(TextMessage(json.dumps({"type": type, **fields}, ensure_ascii=False)))

    async def send_join(self) -> None:
        await self.send("join", username=self._name, topics=["music"])

    # ------------------------------------------------------------ receiving

    async def handle(self, message: Message) -> None:
        if not self._resuming and message["type"] != "resumed":
            self._last_seq = message["seq"]
        handler = getattr(self, f"on_{message['type']}", None)
        if handler is None:
            await self.on_unknown_type()
        else:
            await handler(message)

    async def on_unknown_type(self) -> None:
        """Of a later version."""

    async def on_welcome(self, message: Message) -> None:
        self._welcomed = True
        if self._timers is not None:
            self._timers.start_soon(self.keep_alive, message["pingSeconds"], self._stream)
        if self._resuming:
            self._fresh = message
            await self.transmit("resume", {"token": self._token, "lastSeq": self.resume_position()})
            return
        self._token = message.get("resumeToken")
        self._id, self._limits, self._features = message["sessionId"], message["limits"], message["features"]
        if self._wants_partner:
            await self.send_join()

    def resume_position(self) -> int:
        return self._last_seq

    async def on_resumed(self, message: Message) -> None:
        self._token, self._resuming = message["resumeToken"], False
        await self.resend(message["heard"])

    async def resend(self, heard: int) -> None:
        """Send again what the server has not received."""
        for type, fields in self._sent[heard - self._forgotten :]:
            await self.transmit(type, fields)

    async def on_ready(self, _message: Message) -> None:
        if self._leaving is None:
            self._waiting = True

    async def on_join(self, message: Message) -> None:
        if self._leaving is not None:
            return
        self._forget_partner()
        self._waiting = False
        self._room, self._polite = message["roomId"], message["polite"]
        await self.on_ice(message)
        if not self._microphone:
            await self.send_media()
        if message["role"] == "offerer":
            await self.offer()

    async def on_ice(self, message: Message) -> None:
        """Servers to gather from, and how long their credentials are valid."""
        self._relay_only = message["iceTransportPolicy"] == "relay"
        if self._timers is not None and "ttlSeconds" in message and "ice" in self._features:
            self._timers.start_soon(self.renew, message["ttlSeconds"], self._room)

    async def renew(self, seconds: float, room: str | None) -> None:
        """Ask for fresh credentials in time, unless the pairing is over by then."""
        await trio.sleep(0.75 * seconds)
        if self._room == room:
            await self.send("ice")

    def is_current(self, message: Message) -> bool:
        return self._room is not None and message["roomId"] == self._room

    async def on_offer(self, message: Message) -> None:
        if not self.is_current(message):
            return
        self._ignoring = self._pending is not None and not self.yields()
        if self._ignoring:
            return
        self._pending = None
        self._has_video = "\nm=video" in message["payload"]["sdp"]
        await self.answer()
        if not self._has_video:
            await self.negotiation_needed()

    async def negotiation_needed(self) -> None:
        """The partner's offer had no media section for our video: an offer of ours adds it, again if it has to."""
        self._has_video = True
        await self.offer()

    def yields(self) -> bool:
        """Whether our own pending offer is rolled back for the partner's."""
        return self._polite

    async def on_answer(self, message: Message) -> None:
        if self.is_current(message) and self._pending is not None:
            self._pending, self._negotiated = None, True

    async def on_leave(self, message: Message) -> None:
        if self._leaving is not None:
            if message["from"] == self._id:
                await self.left()
        elif self.is_current(message):
            self._forget_partner()
            self._wants_partner = message["reason"] == "server_shutdown"

    async def left(self) -> None:
        """Our leave or next is answered. After `next` the server makes us wait again."""
        leaving, self._leaving = self._leaving, None
        if leaving == "leave" and self._wants_partner:
            await self.send_join()

    async def on_rate_limited(self, type: str, seconds: float) -> None:
        """Send the last message of this type again, unless it is out of date by then."""
        room, dropped = self._room, next((each for each in reversed(self._sent) if each[0] == type), None)
        await trio.sleep(seconds)
        if dropped is not None and room == self._room:
            await self.send(type, **dropped[1])

    async def on_error(self, message: Message) -> None:
        is_dropped = message["code"] == "rate_limited"
        if is_dropped and message["fatal"]:
            self._retry_after = max(10.0, message["retryAfterSeconds"])
        elif is_dropped and self._timers is not None:
            self._timers.start_soon(self.on_rate_limited, message["ref"], message["retryAfterSeconds"])
        if self._resuming and message["code"] == "resume_failed":
            stream, self._resuming = self._stream, False
            self._forget_connection()
            self._stream, self._last_seq = stream, message["seq"]
            await self.on_welcome(self._fresh)
            return
        if message.get("ref") == self._leaving is not None and message["code"] == "wrong_state":
            self._leaving = None
            if self._wants_partner:
                await self.send_join()

    async def on_goaway(self, message: Message) -> None:
        self._retry_after = message["retryAfterSeconds"]

    async def on_candidate(self, message: Message) -> None:
        """Would go to the peer connection, which gives up after the last one."""
        is_last = not message["payload"]["candidate"]
        if is_last and self.is_current(message) and self._negotiated and not self._reported_failure:
            self._reported_failure = True
            await self.media_failed()

    async def media_failed(self) -> None:
        if "status" in self._features:
            await self.send("status", media="failed", stage="checking")

    async def on_chat(self, message: Message) -> None:
        """Would be shown."""

    async def on_pong(self, message: Message) -> None:
        """The answer to our ping: what it has counted need not be kept."""
        self._ponged.set()
        if not self._resuming:
            del self._sent[: message["heard"] - self._forgotten]
            self._forgotten = message["heard"]

    # ------------------------------------------------------------ negotiating

    def description(self, kind: str) -> Message:
        self._generations += 1
        self._ufrag = f"g{self._generations:03d}"
        video = VIDEO_SECTION + f"a=ice-ufrag:{self._ufrag}\r\n" if self._has_video else ""
        return {"type": kind, "sdp": SDP_TO_THE_FRAGMENT + f"{self._ufrag}\r\n" + video}

    async def offer(self) -> None:
        description = self.description("offer")
        self._pending = description["sdp"]
        await self.send("offer", payload=description)
        await self.candidates()

    async def answer(self) -> None:
        self._negotiated = True
        await self.send("answer", payload=self.description("answer"))
        await self.candidates()

    async def candidates(self) -> None:
        """Those that were gathered; there was no relay to get one from."""
        if not self._relay_only:
            line = f"{HOST_CANDIDATE} ufrag {self._ufrag}"
            await self.send("candidate", payload={"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0})
        await self.no_more_candidates()

    async def no_more_candidates(self) -> None:
        await self.send("candidate", payload={"candidate": "", "sdpMid": "0", "sdpMLineIndex": 0})
