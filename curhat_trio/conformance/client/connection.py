"""One connection of a client under test, from the scripted server's side: what a situation says and hears on it.

The situation says what it likes, whether or not a server would. The reader answers `ping` and WebSocket pings,
writes the transcript and shows everything to the watch; it judges nothing itself.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, NoReturn

import attrs
import orjson
import trio
from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from curhat_trio.conformance.client.http_frontend import Caller
from curhat_trio.conformance.client.fake_peer import AUDIO_AND_VIDEO, Stranger
from curhat_trio.conformance.client.monitor import Breach, Watch
from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import encode
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import ClientMessage, Relayable, Relayed, ServerMessage

ME = ClientId("c-under-test")
"""The `sessionId` of every client under test."""

FEATURES = ("chat", "next", "rooms", "status", "topics")
RESUME_SECONDS = 30.0
LIMITS = messages.Limits(message_bytes=65536)

_CLOSING_SECONDS = 2.0
_SETTLE_SECONDS = 0.2
_WRITE_SECONDS = 10.0
_RECEIVE_BYTES = 65536
_SHOWN_CHARACTERS = 400


class Broken(Exception):
    """The situation ends here: the client broke a rule, or did not get far enough."""

    def __init__(self, breach: Breach) -> None:
        super().__init__(breach)
        self.breach = breach


class NotShown(Exception):
    """The situation came to nothing, through no fault of the client's."""


@attrs.frozen
class Patience:
    """How long things may take, in seconds."""

    answer: float = 5.0
    """What the client has to say by itself."""
    deed: float = 5.0
    """What its person was asked to do."""
    watch: float = 2.5
    """How long to watch that something does not happen."""
    comeback: float = 20.0
    """Until a client has come back by itself."""
    offer: float = 20.0
    """The first offer (P-5.3)."""
    media: float = 45.0
    """Until a client has given up that audio and video come about."""


@attrs.define
class Transcript:
    """What was said, a line each, with the time since it began."""

    began: float
    lines: list[str] = attrs.Factory(list)

    def note(self, line: str) -> None:
        self.lines.append(f"{trio.current_time() - self.began:7.3f} {line}")


@attrs.frozen
class Ended:
    """How the client ended its connection."""

    code: int | None
    """Of its close frame; None: there was none."""

    def __str__(self) -> str:
        return "without a close frame" if self.code is None else f"with close code {self.code}"


class Visit:
    """A connection that was accepted.

    Args:
        caller: Who it is.
        connection: wsproto's side of it.
        transcript: Where to write down what is said.
        patience: How long to wait for anything.
    """

    def __init__(self, caller: Caller, connection: Connection, transcript: Transcript, patience: Patience) -> None:
        self.caller = caller
        self.watch = Watch()
        self.ended: Ended | None = None
        """How the client ended it; None: it has not."""
        self.stranger: Stranger | None = None
        """The partner of the present pairing."""
        self.answers_pings = True
        """A `ping` of the client's is answered at once."""
        self.said: list[ClientMessage] = []
        """All that the client has said so far, and could be understood."""
        self._ws = connection
        self._transcript = transcript
        self._patience = patience
        self._sending = trio.Lock()
        self._seq = 0
        self._heard = 0
        self._news = trio.Event()
        self._impolite = False
        self._pings = 0
        self._unanswered: set[bytes] = set()
        self._binary = bytearray()
        self._text: list[str] = []
        self._frames = 0

    # ------------------------------------------------------------ reading

    async def read(self) -> None:
        """Take in what the client says, until it ends the connection."""
        try:
            while self.ended is None:
                for event in self._ws.events():
                    await self._take(event)
                if self.ended is None:
                    self._ws.receive_data(bytes(await self.caller.stream.receive_some(_RECEIVE_BYTES)) or None)
        except RemoteProtocolError as error:
            self.watch.break_("P-2.10", f"frames that break RFC 6455: {error}")
            self._end(None)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end(None)

    async def _take(self, event: Event) -> None:
        match event:
            case TextMessage():
                self._text.append(event.data)
                self._frames += event.frame_finished
                if event.message_finished:
                    await self._take_text("".join(self._text), self._frames)
                    self._text, self._frames = [], 0
            case BytesMessage():
                self._binary += event.data
                if event.message_finished:
                    data = bytes(self._binary)
                    self._binary.clear()
                    self._transcript.note(f"> a binary message of {len(data)} bytes")
                    self.watch.binary_said(len(data))
                    await self._take_text(data.decode(errors="replace"), 1)  # told once, then understood
            case Ping():
                await self._send(event.response())
            case Pong():
                self._unanswered.discard(bytes(event.payload))
                self._wake()
            case CloseConnection():
                # An end of the stream without a close frame is told as 1006.
                code = None if event.code == CloseReason.ABNORMAL_CLOSURE else int(event.code)
                if code is not None and self._ws.state is ConnectionState.REMOTE_CLOSING:
                    await self._send(event.response())
                self._end(code)

    async def _take_text(self, text: str, frames: int) -> None:
        data = text.encode()
        self._transcript.note(f"> {_shown(data)}")
        message = self.watch.client_said(data, frames, trio.current_time())
        if message is None:
            return
        if isinstance(message, messages.Ping) and self.answers_pings:
            await self.say(messages.Pong(message.data))
        self.said.append(message)
        self._wake()

    def _end(self, code: int | None) -> None:
        if self.ended is None:
            self.ended = Ended(code)
            self._transcript.note(f"> the client ends the connection {self.ended}")
        self._wake()
        self.caller.gone.set()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    # ------------------------------------------------------------ hearing

    async def hear(self, *types: str, because: str | Sequence[str], within: float | None = None) -> ClientMessage:
        """The next message of one of these types; others are passed over.

        Args:
            because: The rules that are broken if it does not come.
            within: Seconds; by default what a program may take.

        Raises:
            Broken: It did not come.
        """
        seconds = self._patience.answer if within is None else within
        with trio.move_on_after(seconds):
            while True:
                while self._heard < len(self.said):
                    message = self.said[self._heard]
                    self._heard += 1
                    if message.type in types:
                        return message
                if self.ended is not None:
                    self.fail(because, f"expected {_either(types)}; the client ended the connection {self.ended}")
                await self._news.wait()
        self.fail(because, f"expected {_either(types)} within {seconds:g} s; none came")

    async def hear_nothing(self, *types: str, because: str, seconds: float | None = None) -> None:
        """Watch that no message of these types comes, and that the connection stays.

        Raises:
            Broken: One came, or the client ended the connection.
        """
        await self.stay(because, seconds, forbidden=types)

    async def stay(
        self, because: str | Sequence[str], seconds: float | None = None, forbidden: Sequence[str] = ()
    ) -> None:
        """Watch that the client keeps its connection, and says nothing that is `forbidden`."""
        with trio.move_on_after(self._patience.watch if seconds is None else seconds):
            while True:
                for message in self.said[self._heard :]:
                    if message.type in forbidden:
                        self.fail(because, f"expected no {_either(forbidden)}; one came")
                if self.ended is not None:
                    self.fail(because, f"the client ended the connection {self.ended}")
                await self._news.wait()

    async def hear_end(self, because: str, within: float) -> Ended:
        """The end of the connection by the client."""
        with trio.move_on_after(within):
            while self.ended is None:
                await self._news.wait()
        if self.ended is None:
            self.fail(because, f"expected the client to close the connection within {within:g} s")
        return self.ended

    async def hear_pongs(self) -> None:
        """Wait until all pings are answered; note it if they are not."""
        with trio.move_on_after(self._patience.answer):
            while self._unanswered and self.ended is None:
                await self._news.wait()
        if self._unanswered and self.ended is None:
            self.watch.break_("P-7.2", f"a WebSocket ping was not answered within {self._patience.answer:g} s")
            self._unanswered.clear()

    async def settle(self) -> None:
        """Give the client time to take in what was said to it: programs read in order, so a pong tells that."""
        if self.ended is None and not self.caller.gone.is_set():
            await self.ping()
            await self.hear_pongs()
            await trio.sleep(_SETTLE_SECONDS)

    def fail(self, because: str | Sequence[str], detail: str) -> NoReturn:
        """End the situation: these rules are broken."""
        raise Broken(Breach((because,) if isinstance(because, str) else tuple(because), detail))

    # ------------------------------------------------------------ saying

    async def say(self, message: ServerMessage, **more: Any) -> None:
        """Say this, numbered; `more` are fields that no schema has."""
        self.watch.server_said(message, trio.current_time())
        self._seq += 1
        await self._send_text({**orjson.loads(encode(message, self._seq)), **more})

    async def say_unknown(self, type: str, **fields: Any) -> None:
        """Say something of a later version."""
        self._seq += 1
        await self._send_text({"type": type, **fields, "seq": self._seq})

    async def _send_text(self, wire: dict[str, Any]) -> None:
        data = orjson.dumps(wire)
        self._transcript.note(f"< {_shown(data)}")
        await self._send(TextMessage(data.decode()))

    async def _send(self, event: Event) -> None:
        """What the client does not take any more is its loss: `hear` will tell that it has gone."""
        async with self._sending:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError):
                with trio.move_on_after(_WRITE_SECONDS):
                    await self.caller.stream.send_all(self._ws.send(event))
                    return
                self._transcript.note("  the client does not read")  # and the frame is torn: this is the end
                self.drop()

    async def ping(self) -> None:
        """A WebSocket ping; `hear_pongs` looks for the answer."""
        self._pings += 1
        payload = b"curhat %d" % self._pings
        self._unanswered.add(payload)
        self.watch.seen.add("P-7.2")
        await self._send(Ping(payload))

    async def close(self, code: int) -> None:
        """Close with this code, and wait a moment for the client's own close frame."""
        explanation = CloseCode(code).explanation if code in set(CloseCode) else ""
        self._transcript.note(f"< close {code}")
        await self._send(CloseConnection(code, explanation))
        with trio.move_on_after(_CLOSING_SECONDS):
            while self.ended is None:
                await self._news.wait()
        self.drop()

    def drop(self) -> None:
        """End the connection; without a close frame, if there was none yet."""
        if self.ended is None:
            self._transcript.note("< the connection breaks off")
        self.caller.gone.set()

    # ------------------------------------------------------------ phrases

    async def welcome(
        self,
        limits: messages.Limits = LIMITS,
        features: Sequence[str] = FEATURES,
        ping_seconds: float = 20.0,
        **more: Any,
    ) -> None:
        await self.say(messages.Welcome(ME, limits, tuple(features), ping_seconds), **more)

    async def resumed(self, before: "Visit", token: str, heard: int) -> None:
        """What the client had over the connection before goes on over this one."""
        self.watch.resumed(before.watch, trio.current_time())
        await self.say(messages.Resumed(ME, token, RESUME_SECONDS, heard))
        self._seq, self.stranger, self._impolite = before.seq, before.stranger, before._impolite

    @property
    def seq(self) -> int:
        """The number of the last message."""
        return self._seq

    async def ready(self, room: str, **more: Any) -> None:
        await self.say(messages.Ready(RoomId(room)), **more)

    async def introduce(
        self,
        role: Literal["offerer", "answerer"],
        room: str,
        name: str = "Stranger",
        policy: Literal["all", "relay"] = "all",
        servers: Sequence[messages.IceServer] = (),
        **more: Any,
    ) -> Stranger:
        """A partner is found: the client is the one to offer, or to answer."""
        self._impolite = role == "offerer"
        stranger = self.stranger = Stranger(ClientId(f"c-stranger-{room}"), name, RoomId(room))
        polite = role == "answerer"
        joined = messages.Joined(stranger.id, name, stranger.room_id, role, polite, (), tuple(servers), policy)
        await self.say(joined, **more)
        return stranger

    async def relay(self, said: Relayable, stranger: Stranger | None = None, **more: Any) -> None:
        """The stranger, or that of another room, says this."""
        by = stranger or self.stranger
        assert by is not None
        await self.say(Relayed(said, by.id, ME, by.room_id, by.name), **more)

    async def candidates(self, **more: Any) -> None:
        """The stranger's candidates: one, and no more."""
        assert self.stranger is not None
        await self.relay(messages.Candidate(self.stranger.candidate()), **more)
        await self.relay(messages.Candidate(self.stranger.no_more_candidates()), **more)

    async def offer(self, media: Sequence[str] = AUDIO_AND_VIDEO, **offer: Any) -> None:
        """The stranger offers."""
        assert self.stranger is not None
        await self.relay(self.stranger.offer(media, **offer))

    async def hear_answer(self, because: str | Sequence[str] = "P-5.7") -> None:
        """The client's answer to the stranger's offer."""
        assert self.stranger is not None
        answer = await self.hear("answer", because=because)
        assert isinstance(answer, messages.Answer)
        self.stranger.agree(answer)

    async def hear_offer(
        self, because: str | Sequence[str] = "P-5.3", within: float | None = None
    ) -> messages.Offer:
        """The client's offer."""
        seconds = self._patience.offer if within is None else within
        offer = await self.hear("offer", because=because, within=seconds)
        assert isinstance(offer, messages.Offer)
        return offer

    async def answer(self, offer: messages.Offer, **more: Any) -> None:
        """The stranger answers the client's offer."""
        assert self.stranger is not None
        await self.relay(self.stranger.answer(offer), **more)

    async def still_answers(self, because: str | Sequence[str]) -> None:
        """Whether the client is in the pairing still: it must answer a new offer of the stranger's.

        If it comes with an offer of its own just then, and is impolite, that one is answered first.
        """
        assert self.stranger is not None
        await self.offer()
        said = await self.hear("answer", "offer", because=because)
        if isinstance(said, messages.Offer) and self._impolite:
            await self.answer(said)
            await self.offer()
        if isinstance(said, messages.Answer):
            self.stranger.agree(said)
        else:
            await self.hear_answer(because)

    async def leave(self, reason: str, by: ClientId | None = None, **more: Any) -> None:
        """The pairing is over, by the stranger's doing or the client's own. `reason` may be one of tomorrow's."""
        assert self.stranger is not None
        left = messages.Left(by or self.stranger.id, self.stranger.room_id, LeaveReason.LEFT)
        await self.say(left, **{"reason": reason, **more})
        self.stranger = None

    async def goaway(self, retry_after: float, **more: Any) -> None:
        """The server is about to close."""
        await self.say(messages.GoAway(LeaveReason.SERVER_SHUTDOWN, retry_after), **more)

    async def error(
        self,
        code: ErrorCode | str,
        ref: str | None = None,
        *,
        fatal: bool = False,
        retry_after: float | None = None,
        **more: Any,
    ) -> None:
        """Something was refused. `code` may be one of tomorrow's."""
        message = messages.ErrorMessage(
            ErrorCode.BAD_MESSAGE, "said by the conformance kit", ref, fatal, retry_after
        )
        await self.say(message, **{"code": str(code), **more})


def _either(types: Sequence[str]) -> str:
    return " or ".join(f"`{type}`" for type in types)


def _shown(data: bytes) -> str:
    """A message for the transcript, without descriptions and candidates: they hold addresses and bury the rest."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = data.decode(errors="replace")
    if isinstance(value, dict) and isinstance(value.get("payload"), dict):
        value["payload"] = {name: _brief(name, part) for name, part in value["payload"].items()}
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(data)} bytes)"


def _brief(name: str, part: object) -> object:
    if name in ("sdp", "candidate") and isinstance(part, str) and part:
        return f"({len(part)} characters)"
    return part
