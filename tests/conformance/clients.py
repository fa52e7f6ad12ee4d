"""A client written from spec/protocol.md alone, and worse ones: what the scripted server has to tell apart.

The good one has no media: its peer connection is the signaling state of perfect negotiation, with a place for
audio, and has failed as soon as the partner has no more candidates. Each bad one breaks one rule, in the way that
its docstring tells.
"""

import json
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
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
"""A description of a place for audio, but for the ICE user fragment and the end of its line."""
HOST_CANDIDATE = "candidate:1 1 udp 1 127.0.0.1 9 typ host"


class Client:
    """Follows the rules.

    Args:
        dial: Makes a connection to the server.
        name: The person's.
        chance: Where jitter comes from.
    """

    subprotocols: tuple[str, ...] = ("curhat.v1",)
    breaks: tuple[str, ...] = ()
    """The rule that a worse client breaks, and those that it breaks in consequence."""

    def __init__(self, dial: Dial, name: str = "Ani", chance: random.Random | None = None) -> None:
        self._dial = dial
        self._name = name
        self._chance = chance or random.Random(1)
        self._person_wants = trio.Event()
        self._wants_partner = False
        self._retry_after = 0.0
        self._generations = 0
        self._sending = trio.Lock()
        self._ws: WSConnection | None = None
        self._resuming = False
        self._timers: trio.Nursery | None = None
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
        self._words: list[tuple[str, dict[str, Any]]] = []
        self._forget_partner()

    def _forget_partner(self) -> None:
        self._room: str | None = None
        self._polite = False
        self._pending: str | None = None  # our offer that is unanswered
        self._negotiated = False
        self._ignoring = False
        self._relay_only = False
        self._told_failure = False

    # ------------------------------------------------------------ the person

    async def join(self) -> None:
        """Look for a partner."""
        self._wants_partner = True
        self._person_wants.set()
        if self._welcomed and not self._waiting and self._room is None and self._leaving is None:
            await self.say_join()

    async def leave(self) -> None:
        self._wants_partner = False
        if self._waiting or self._room is not None:
            self._leaving = "leave"
            self._waiting = False
            self._forget_partner()
            await self.say("leave")

    async def next(self) -> None:
        if self._room is not None:
            self._leaving = "next" if "next" in self._features else "leave"
            self._forget_partner()
            await self.say(self._leaving)

    async def chat(self, text: str) -> None:
        size = len(json.dumps({"type": "chat", "text": text}, ensure_ascii=False).encode())
        if self._room is not None and "chat" in self._features and size <= self._limits["messageBytes"]:
            await self.say("chat", text=text[: self._limits["chatCharacters"]])

    async def renegotiate(self) -> None:
        if self._room is not None and self._negotiated and self._pending is None:
            await self.offer()

    async def quit(self) -> None:
        self._wants_partner = False
        self._person_wants = trio.Event()
        await self._send(CloseConnection(1000))
        if self._stream is not None:
            await self._stream.aclose()

    # ------------------------------------------------------------ the connection

    async def live(self) -> None:
        """Connect when the person wants to, and come back when the protocol says so."""
        async with trio.open_nursery() as self._timers:
            await self._live()

    async def _live(self) -> None:
        attempt = 0
        while True:
            await self._person_wants.wait()
            code = await self._connection()
            attempt = 0 if self._welcomed else attempt
            wanted = self._wants_partner
            self._resuming = self._token is not None and wanted and code in (ABNORMAL, 4002)
            self._stream, self._welcomed = None, False
            if not self._resuming:
                self._forget_connection()
            if self.comes_back(code) and wanted:
                attempt += 1
                await trio.sleep(self.pause(attempt))
                self._retry_after = 0.0
            else:
                attempt, self._wants_partner = 0, False
                self._person_wants = trio.Event()

    def comes_back(self, code: int) -> bool:
        return code == ABNORMAL or 4000 <= code < 4500

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
                            await self.hear(json.loads(text))
                            text = ""
                    case Ping():
                        await self.pong(event)
                    case CloseConnection():
                        await self._send(event.response())
                        return int(event.code)

    async def pong(self, ping: Ping) -> None:
        await self._send(ping.response())

    async def _send(self, event: Event) -> None:
        async with self._sending:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError):
                if self._stream is not None and self._ws is not None:
                    await self._stream.send_all(self._ws.send(event))

    async def say(self, type: str, **fields: Any) -> None:
        self._words.append((type, fields))
        if not self._resuming:
            await self.utter(type, fields)

    async def utter(self, type: str, fields: dict[str, Any]) -> None:
        await self._send(TextMessage(json.dumps({"type": type, **fields}, ensure_ascii=False)))

    async def say_join(self) -> None:
        await self.say("join", username=self._name, topics=["music"])

    # ------------------------------------------------------------ hearing

    async def hear(self, message: Message) -> None:
        if not self._resuming and message["type"] != "resumed":
            self._last_seq = message["seq"]
        hear = getattr(self, f"on_{message['type']}", None)
        if hear is None:
            await self.on_unknown_type()
        else:
            await hear(message)

    async def on_unknown_type(self) -> None:
        """Of a later version."""

    async def on_welcome(self, message: Message) -> None:
        self._welcomed = True
        if self._resuming:
            self._fresh = message
            await self.utter("resume", {"token": self._token, "lastSeq": self.resumes_after()})
            return
        self._token = message.get("resumeToken")
        self._id, self._limits, self._features = message["sessionId"], message["limits"], message["features"]
        if self._wants_partner:
            await self.say_join()

    def resumes_after(self) -> int:
        return self._last_seq

    async def on_resumed(self, message: Message) -> None:
        self._token, self._resuming = message["resumeToken"], False
        await self.say_again(message["heard"])

    async def say_again(self, heard: int) -> None:
        """What the server has not read."""
        for type, fields in self._words[heard:]:
            await self.utter(type, fields)

    async def on_ready(self, _message: Message) -> None:
        if self._leaving != "leave":
            self._leaving, self._waiting = None, True

    async def on_join(self, message: Message) -> None:
        if self._leaving == "leave":
            return
        self._forget_partner()
        self._leaving, self._waiting = None, False
        self._room, self._polite = message["roomId"], message["polite"]
        await self.on_ice(message)
        if message["role"] == "offerer":
            await self.offer()

    async def on_ice(self, message: Message) -> None:
        """Servers to gather from, and how long they are good."""
        self._relay_only = message["iceTransportPolicy"] == "relay"
        if self._timers is not None and "ttlSeconds" in message and "ice" in self._features:
            self._timers.start_soon(self.renew, message["ttlSeconds"], self._room)

    async def renew(self, seconds: float, room: str) -> None:
        """Ask for fresh credentials in time, unless the pairing is over by then."""
        await trio.sleep(0.75 * seconds)
        if self._room == room:
            await self.say("ice")

    def is_current(self, message: Message) -> bool:
        return self._room is not None and message["roomId"] == self._room

    async def on_offer(self, message: Message) -> None:
        if not self.is_current(message):
            return
        self._ignoring = self._pending is not None and not self.yields()
        if self._ignoring:
            return
        self._pending = None
        await self.answer()

    def yields(self) -> bool:
        """Whether our own pending offer is given up for the partner's."""
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
            await self.say_join()

    async def on_error(self, message: Message) -> None:
        if self._resuming and message["code"] == "resume_failed":
            stream, self._resuming = self._stream, False
            self._forget_connection()
            self._stream, self._last_seq = stream, message["seq"]
            await self.on_welcome(self._fresh)
            return
        if message.get("ref") == self._leaving is not None and message["code"] == "wrong_state":
            self._leaving = None
            if self._wants_partner:
                await self.say_join()

    async def on_goaway(self, message: Message) -> None:
        self._retry_after = message["retryAfterSeconds"]

    async def on_candidate(self, message: Message) -> None:
        """Would go to the peer connection, which gives up after the last one."""
        is_last = not message["payload"]["candidate"]
        if is_last and self.is_current(message) and self._negotiated and not self._told_failure:
            self._told_failure = True
            await self.media_failed()

    async def media_failed(self) -> None:
        if "status" in self._features:
            await self.say("status", media="failed", stage="checking")

    async def on_chat(self, message: Message) -> None:
        """Would be shown."""

    async def on_pong(self, message: Message) -> None:
        """The server lives."""

    # ------------------------------------------------------------ negotiating

    def description(self, kind: str) -> Message:
        self._generations += 1
        self._ufrag = f"g{self._generations:03d}"
        return {"type": kind, "sdp": SDP_TO_THE_FRAGMENT + f"{self._ufrag}\r\n"}

    async def offer(self) -> None:
        description = self.description("offer")
        self._pending = description["sdp"]
        await self.say("offer", payload=description)
        await self.candidates()

    async def answer(self) -> None:
        self._negotiated = True
        await self.say("answer", payload=self.description("answer"))
        await self.candidates()

    async def candidates(self) -> None:
        """Those that it has gathered; no relay was there to give it one."""
        if not self._relay_only:
            line = f"{HOST_CANDIDATE} ufrag {self._ufrag}"
            await self.say("candidate", payload={"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0})
        await self.no_more_candidates()

    async def no_more_candidates(self) -> None:
        await self.say("candidate", payload={"candidate": "", "sdpMid": "0", "sdpMLineIndex": 0})


# ---------------------------------------------------------------- worse ones


class OffersAsAnswerer(Client):
    """Offers to everybody it is introduced to."""

    breaks = ("P-5.2",)

    async def on_join(self, message: Message) -> None:
        await super().on_join({**message, "role": "offerer"})


class NeverOffers(Client):
    """Waits for the other to offer, always."""

    breaks = ("P-5.3", "P-2.15", "P-3.2", "P-4.8", "P-4.9")

    async def on_join(self, message: Message) -> None:
        await super().on_join({**message, "role": "answerer"})


class NeverAnswers(Client):
    """Takes no offer."""

    breaks = ("P-5.7", "P-2.15", "P-4.8", "P-5.9", "P-8.4", "P-13.4")

    async def answer(self) -> None:
        pass


class OffersWhilePending(Client):
    """Renegotiates whenever its person likes."""

    breaks = ("P-5.5",)

    async def renegotiate(self) -> None:
        if self._room is not None:
            await self.offer()


class YieldsThoughImpolite(Client):
    """Answers every offer."""

    breaks = ("P-5.9",)

    def yields(self) -> bool:
        return True


class InsistsThoughPolite(Client):
    """Never gives up its own offer."""

    breaks = ("P-5.10",)

    def yields(self) -> bool:
        return False


class SendsNoPongs(Client):
    """Has a WebSocket library that answers no pings."""

    breaks = ("P-7.2",)

    async def pong(self, ping: Ping) -> None:
        pass


class IgnoresRooms(Client):
    """Takes everything for its partner's."""

    breaks = ("P-4.8", "P-4.10")

    def is_current(self, message: Message) -> bool:
        return self._room is not None


class SendsBinary(Client):
    """Sends its messages as binary ones."""

    breaks = ("P-2.10",)

    async def utter(self, type: str, fields: dict[str, Any]) -> None:
        await self._send(BytesMessage(json.dumps({"type": type, **fields}).encode()))


class SendsTwoInOne(Client):
    """Says the end of its candidates in one message with a ping."""

    breaks = ("P-2.10", "P-6.4")

    async def no_more_candidates(self) -> None:
        end = json.dumps({"type": "candidate", "payload": {"candidate": "", "sdpMid": "0"}})
        await self._send(TextMessage(end + '\n{"type": "ping"}'))


class SendsTooMuch(Client):
    """Sends what its person writes, however long it is."""

    breaks = ("P-2.12", "P-3.2")

    async def chat(self, text: str) -> None:
        await self.say("chat", text=text)


class SendsManyFrames(Client):
    """Sends its candidates letter by letter."""

    breaks = ("P-2.12", "P-13.4")

    async def candidates(self) -> None:
        text = json.dumps({"type": "candidate", "payload": {"candidate": f"{HOST_CANDIDATE} ufrag {self._ufrag}"}})
        for position, letter in enumerate("" if self._relay_only else text):
            await self._send(TextMessage(letter, message_finished=position == len(text) - 1))
        await self.no_more_candidates()


class DiesAtUnknownTypes(Client):
    """Ends when it hears what it does not know."""

    breaks = ("P-2.15", "P-13.10")

    async def on_unknown_type(self) -> None:
        await self.quit()


class RefusesUnknownFields(Client):
    """Takes no message with a field that it does not know."""

    breaks = ("P-2.15",)

    async def hear(self, message: Message) -> None:
        if "later" not in message:
            await super().hear(message)


class ComesBackAlways(Client):
    """Comes back after any close code."""

    breaks = ("P-9.2",)

    def comes_back(self, code: int) -> bool:
        return True


class ComesBackAtOnce(Client):
    """Comes back without a pause."""

    breaks = ("P-9.1",)

    def pause(self, attempt: int) -> float:
        return self._retry_after


class ComesBackWithoutJitter(Client):
    """Doubles its pause exactly."""

    breaks = ("P-9.1",)

    def pause(self, attempt: int) -> float:
        return float(self._retry_after + 0.5 * 2**attempt)


class NeverComesBack(Client):
    """Takes every end for the last."""

    breaks = ("P-9.1",)

    def comes_back(self, code: int) -> bool:
        return False


class ComesBackTooEarly(Client):
    """Takes no notice of `goaway`."""

    breaks = ("P-9.3",)

    async def on_goaway(self, _message: Message) -> None:
        pass


class NamesNoEnd(Client):
    """Does not tell that there are no more candidates."""

    breaks = ("P-6.4",)

    async def no_more_candidates(self) -> None:
        pass


class NamesNoFragments(Client):
    """Sends candidates that tell not whose they are."""

    breaks = ("P-6.3",)

    async def candidates(self) -> None:
        if not self._relay_only:
            await self.say("candidate", payload={"candidate": HOST_CANDIDATE, "sdpMid": "0"})
        await self.no_more_candidates()


class TakesErrorsForTheEnd(Client):
    """Leaves its partner when it hears of an error."""

    breaks = ("P-8.4", "P-2.15", "P-4.9")

    async def on_error(self, message: Message) -> None:
        self._forget_partner()


class ClosesOnErrors(Client):
    """Closes when it hears of an error."""

    breaks = ("P-8.4", "P-2.15", "P-4.2", "P-4.9")

    async def on_error(self, message: Message) -> None:
        await self.quit()


class WaitsForItsOwnLeave(Client):
    """Knows one answer to `leave` and `next` only."""

    breaks = ("P-4.9", "P-8.4")

    async def on_error(self, message: Message) -> None:
        pass


class OffersNoSubprotocol(Client):
    """Asks for a WebSocket of any kind."""

    breaks = ("P-2.2",)
    subprotocols = ()


class SendsWrongTypes(Client):
    """Sends a number where there must be a string."""

    breaks = ("P-3.4", "P-6.4")

    async def no_more_candidates(self) -> None:
        await self.say("candidate", payload={"candidate": "", "sdpMid": 0})


class TalksTooMuch(Client):
    """Says `ping` without end when something is refused."""

    breaks = ("P-7.3",)

    async def on_error(self, message: Message) -> None:
        await super().on_error(message)
        for _ in range(250):
            await self.say("ping")


class OffersEverything(Client):
    """Does not care what the server has."""

    breaks = ("P-3.2",)

    async def on_welcome(self, message: Message) -> None:
        await super().on_welcome({**message, "features": [*message["features"], "chat", "next"]})


class GoesWithoutAWord(Client):
    """Leaves for good without a close frame."""

    breaks = ("P-9.4",)

    async def quit(self) -> None:
        self._wants_partner = False
        if self._stream is not None:
            await self._stream.aclose()


class RendersMarkup(Client):
    """Shows a stranger's name as it came: the browser asks for the picture in it."""

    breaks = ("P-11.2",)

    async def on_join(self, message: Message) -> None:
        if "<img" in message["username"]:
            path = urlsplit(message["username"].split('"')[1]).path
            async with await self._dial() as stream:
                await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: curhat.test\r\n\r\n".encode())
        await super().on_join(message)


class SaysNothingAgain(Client):
    """Takes what it has said for heard."""

    breaks = ("P-13.4",)

    async def say_again(self, heard: int) -> None:
        pass


class LeavesWhoIsAway(Client):
    """Has no patience with a partner in a tunnel."""

    breaks = ("P-13.10",)

    async def on_peer(self, _message: Message) -> None:
        await self.quit()


class PingsBeforeItResumes(Client):
    """Says something else first."""

    breaks = ("P-13.9",)

    async def on_welcome(self, message: Message) -> None:
        if self._resuming:
            await self.utter("ping", {})
        await super().on_welcome(message)


class LetsCredentialsExpire(Client):
    """Takes its first credentials for good for ever."""

    breaks = ("P-3.16",)

    async def renew(self, seconds: float, room: str) -> None:
        pass


class TellsNothingOfItsMedia(Client):
    """Keeps it to itself that audio and video do not come about."""

    breaks = ("P-3.18",)

    async def media_failed(self) -> None:
        pass


class TakesAnAnswerForACall(Client):
    """Tells that audio and video flow as soon as all has been said."""

    breaks = ("P-3.18",)

    async def media_failed(self) -> None:
        await self.say("status", media="connected")


class ChatsToNobody(Client):
    """Asks who is there, while it waits."""

    breaks = ("P-4.10",)

    async def on_ready(self, message: Message) -> None:
        await super().on_ready(message)
        await self.say("chat", text="Is anybody there?")


class LooksBack(Client):
    """Says goodbye when the partner has long gone."""

    breaks = ("P-4.10",)

    async def on_leave(self, message: Message) -> None:
        await super().on_leave(message)
        if self._timers is not None:
            self._timers.start_soon(self._say_goodbye)

    async def _say_goodbye(self) -> None:
        await trio.sleep(6)
        if self._room is None:
            await self.say("chat", text="ClosedConnection!")


class TellsItsAddress(Client):
    """Gathers what it likes, whatever the policy."""

    breaks = ("P-6.7",)

    async def candidates(self) -> None:
        self._relay_only = False
        await super().candidates()


class DescribesItsAddress(Client):
    """Gathers what it likes, and tells it in its descriptions."""

    breaks = ("P-6.7",)

    def description(self, kind: str) -> Message:
        description = super().description(kind)
        return {**description, "sdp": f"{description['sdp']}a={HOST_CANDIDATE}\r\n"}


BAD_CLIENTS: tuple[type[Client], ...] = tuple(kind for kind in Client.__subclasses__() if kind.breaks)


# ---------------------------------------------------------------- as a program


async def _obey(client: Client) -> None:
    """Do what the lines on standard input say."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        deed, _, text = line.strip().partition(" ")
        await (client.chat(text) if deed == "chat" else getattr(client, deed)())


async def main(url: str, kind: str) -> None:
    """A client of this kind at this address, for `--client-command`."""
    host, _, port = url.removeprefix("ws://").removesuffix("/ws").rpartition(":")

    async def dial() -> trio.abc.Stream:
        return await trio.open_tcp_stream(host, int(port))

    client = globals()[kind](dial)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.live)
        nursery.start_soon(_obey, client)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
