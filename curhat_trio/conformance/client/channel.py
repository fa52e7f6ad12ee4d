"""One WebSocket of a client under test: frames, pings, and what arrives over them.

The reader answers `ping` and WebSocket pings, writes the transcript and passes every message to the monitor. It
judges nothing itself; `expect` and its kind fail the scenario if something does not happen.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import attrs
import orjson
import trio
from wsproto import events
from wsproto.connection import Connection, ConnectionState
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from curhat_trio.conformance.client.http_frontend import UpgradeRequest
from curhat_trio.conformance.client.monitor import ConnectionMonitor
from curhat_trio.conformance.client.results import ScenarioFailed, Violation
from curhat_trio.conformance.client.timeouts import Timeouts
from curhat_trio.conformance.client.transcript import Transcript
from curhat_trio.conformance.wire import ANSWERED_BY
from curhat_trio.protocol.codec import encode, identify
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.messages import ClientMessage, ErrorMessage, Left, Ping, Pong, ServerMessage

_CLOSE_SECONDS = 2.0
_SETTLE_SECONDS = 0.2
_WRITE_SECONDS = 10.0
_RECEIVE_BYTES = 65536


@attrs.frozen
class Ended:
    """How the client ended its connection."""

    code: int | None
    """Of its close frame; None: there was none."""

    def __str__(self) -> str:
        return "without a close frame" if self.code is None else f"with close code {self.code}"


class MessageChannel:
    """Sends and receives messages over a WebSocket that was accepted.

    Args:
        upgrade: The request that opened it.
        websocket: wsproto's side of it.
        transcript: Gets a line for everything that is sent and received.
        timeouts: How long to wait.
    """

    def __init__(
        self, upgrade: UpgradeRequest, websocket: Connection, transcript: Transcript, timeouts: Timeouts
    ) -> None:
        self.upgrade = upgrade
        self.monitor = ConnectionMonitor()
        self.ended: Ended | None = None
        """How the client ended it; None: it has not."""
        self.answers_pings = True
        """Whether a `ping` message is answered at once."""
        self.answers_websocket_pings = True
        self.received: list[ClientMessage] = []
        """All messages of the client so far that could be decoded."""
        self._ws = websocket
        self._transcript = transcript
        self._timeouts = timeouts
        self._sending = trio.Lock()
        self._seq = 0
        self._consumed = 0
        self._changed = trio.Event()
        self._pings = 0
        self._unanswered: set[bytes] = set()
        self._binary = bytearray()
        self._text: list[str] = []
        self._frames = 0
        self._ids: dict[str, str | None] = {}
        """Type of a message that has no answer yet -> its `id`."""

    @property
    def seq(self) -> int:
        """The number of the last message that was sent."""
        return self._seq

    # ------------------------------------------------------------ receiving

    async def read(self) -> None:
        """Receive until the client ends the connection."""
        try:
            while self.ended is None:
                for event in self._ws.events():
                    await self._handle(event)
                if self.ended is None:
                    self._ws.receive_data(bytes(await self.upgrade.stream.receive_some(_RECEIVE_BYTES)) or None)
        except RemoteProtocolError as error:
            self.monitor.report("P-2.10", f"frames that break RFC 6455: {error}")
            self._end(None)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end(None)

    async def _handle(self, event: events.Event) -> None:
        match event:
            case events.TextMessage():
                self._text.append(event.data)
                self._frames += event.frame_finished
                if event.message_finished:
                    await self._handle_text("".join(self._text), self._frames)
                    self._text, self._frames = [], 0
            case events.BytesMessage():
                self._binary += event.data
                if event.message_finished:
                    data = bytes(self._binary)
                    self._binary.clear()
                    self._transcript.note(f"> a binary message of {len(data)} bytes")
                    self.monitor.on_binary_message(len(data))
                    await self._handle_text(data.decode(errors="replace"), 1)  # reported, then taken for text
            case events.Ping():
                if self.answers_websocket_pings:
                    await self._send_event(event.response())
            case events.Pong():
                self._unanswered.discard(bytes(event.payload))
                self._wake()
            case events.CloseConnection():
                # wsproto reports an end of the stream without a close frame as 1006.
                code = None if event.code == CloseReason.ABNORMAL_CLOSURE else int(event.code)
                if code is not None and self._ws.state is ConnectionState.REMOTE_CLOSING:
                    await self._send_event(event.response())
                self._end(code)

    async def _handle_text(self, text: str, frames: int) -> None:
        data = text.encode()
        self._transcript.note_received(data)
        message = self.monitor.on_client_message(data, frames, trio.current_time())
        if message is None:
            return
        self._ids[message.type] = identify(text, "v1")[1]
        if isinstance(message, Ping) and self.answers_pings:
            await self.send(Pong(self.monitor.heard, message.data))
        self.received.append(message)
        self._wake()

    def _end(self, code: int | None) -> None:
        if self.ended is None:
            self.ended = Ended(code)
            self._transcript.note(f"> the client ends the connection {self.ended}")
        self._wake()
        self.upgrade.finished.set()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # ------------------------------------------------------------ expecting

    async def expect(self, *types: str, rules: str | Sequence[str], within: float | None = None) -> ClientMessage:
        """The next message of one of these types; others are skipped.

        Args:
            *types: Such as `offer`.
            rules: Those that are broken if it does not arrive.
            within: Seconds; by default those for an answer.

        Raises:
            ScenarioFailed: It did not arrive.
        """
        seconds = self._timeouts.answer if within is None else within
        with trio.move_on_after(seconds):
            while True:
                while self._consumed < len(self.received):
                    message = self.received[self._consumed]
                    self._consumed += 1
                    if message.type in types:
                        return message
                if self.ended is not None:
                    self.fail(rules, f"expected {_either(types)}; the client ended the connection {self.ended}")
                await self._changed.wait()
        self.fail(rules, f"expected {_either(types)} within {seconds:g} s; none arrived")

    async def expect_none(self, *types: str, rules: str, seconds: float | None = None) -> None:
        """Make sure that no message of these types arrives, and that the connection stays open.

        Raises:
            ScenarioFailed: One arrived, or the client ended the connection.
        """
        await self.expect_open(rules, seconds, forbidden=types)

    async def expect_open(
        self, rules: str | Sequence[str], seconds: float | None = None, forbidden: Sequence[str] = ()
    ) -> None:
        """Make sure that the connection stays open, and that no message of a `forbidden` type arrives."""
        with trio.move_on_after(self._timeouts.quiet if seconds is None else seconds):
            while True:
                for message in self.received[self._consumed :]:
                    if message.type in forbidden:
                        self.fail(rules, f"expected no {_either(forbidden)}; one arrived")
                if self.ended is not None:
                    self.fail(rules, f"the client ended the connection {self.ended}")
                await self._changed.wait()

    async def expect_end(self, rules: str, within: float) -> Ended:
        """The end of the connection by the client."""
        ended = await self.wait_for_end(within)
        if ended is None:
            self.fail(rules, f"expected the client to close the connection within {within:g} s")
        return ended

    async def wait_for_end(self, within: float) -> Ended | None:
        """Wait until the client has ended the connection; None if it has not."""
        with trio.move_on_after(within):
            while self.ended is None:
                await self._changed.wait()
        return self.ended

    async def expect_pongs(self) -> None:
        """Wait until all WebSocket pings are answered; report a violation if they are not."""
        with trio.move_on_after(self._timeouts.answer):
            while self._unanswered and self.ended is None:
                await self._changed.wait()
        if self._unanswered and self.ended is None:
            self.monitor.report("P-7.2", f"a WebSocket ping was not answered within {self._timeouts.answer:g} s")
            self._unanswered.clear()

    async def settle(self) -> None:
        """Give the client time to handle what was sent to it: a pong shows that it has read everything before."""
        if self.ended is None and not self.upgrade.finished.is_set():
            await self.send_ping()
            await self.expect_pongs()
            await trio.sleep(_SETTLE_SECONDS)

    def fail(self, rules: str | Sequence[str], detail: str) -> NoReturn:
        """End the scenario: these rules are broken."""
        raise ScenarioFailed(Violation((rules,) if isinstance(rules, str) else tuple(rules), detail))

    # ------------------------------------------------------------ sending

    async def send(self, message: ServerMessage, **more: Any) -> None:
        """Number a message and send it; `more` are fields that no schema has."""
        self.monitor.on_server_message(message, trio.current_time())
        self._seq += 1
        id = self._answered_id(message)
        echoed = {} if id is None else {"id": id}
        await self._send_object({**orjson.loads(encode(message, self._seq)), **echoed, **more})

    def _answered_id(self, message: ServerMessage) -> str | None:
        """The `id` of the client's message that this one answers, if it had one (P-3.19)."""
        if isinstance(message, ErrorMessage):
            return self._ids.pop(message.ref or "", None)
        if isinstance(message, Left) and message.from_ != self.monitor.own_id:
            return None
        answered = next((type for type in ANSWERED_BY.get(message.type, ()) if type in self._ids), None)
        if answered is None:
            return None
        if isinstance(message, Left) and answered == "next":
            return self._ids[answered]  # `ready` will answer it too
        return self._ids.pop(answered)

    async def send_unknown(self, type: str, **fields: Any) -> None:
        """Send a message of a later protocol version."""
        self._seq += 1
        await self._send_object({"type": type, **fields, "seq": self._seq})

    async def _send_object(self, message: dict[str, Any]) -> None:
        data = orjson.dumps(message)
        self._transcript.note_sent(data)
        await self._send_event(events.TextMessage(data.decode()))

    async def _send_event(self, event: events.Event) -> None:
        """A client that has gone misses it: `expect` will notice."""
        async with self._sending:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError):
                with trio.move_on_after(_WRITE_SECONDS):
                    await self.upgrade.stream.send_all(self._ws.send(event))
                    return
                self._transcript.note("  the client does not read")  # half a frame was sent: this is the end
                self.drop()

    async def send_ping(self) -> None:
        """A WebSocket ping; `expect_pongs` waits for the answer."""
        self._pings += 1
        payload = b"curhat %d" % self._pings
        self._unanswered.add(payload)
        self.monitor.covered.add("P-7.2")
        await self._send_event(events.Ping(payload))

    async def close(self, code: int) -> None:
        """Close with this code, and wait a moment for the client's own close frame."""
        explanation = CloseCode(code).explanation if code in set(CloseCode) else ""
        self._transcript.note(f"< close {code}")
        no_code = code == CloseReason.NO_STATUS_RCVD  # wsproto knows it by identity: an empty close frame
        await self._send_event(events.CloseConnection(CloseReason(code) if no_code else code, explanation))
        with trio.move_on_after(_CLOSE_SECONDS):
            while self.ended is None:
                await self._changed.wait()
        self.drop()

    def drop(self) -> None:
        """End the connection; without a close frame, if none was sent."""
        if self.ended is None:
            self._transcript.note("< the connection is cut")
        self.upgrade.finished.set()


def _either(types: Sequence[str]) -> str:
    return " or ".join(f"`{type}`" for type in types)
