"""The whole server as a fuzzing target: bytes arrive on a new connection, and no other client is affected."""

from collections.abc import Callable

import orjson
import trio

from curhat_trio.config import Settings
from curhat_trio.conformance.wire import message_frame, upgrade_request
from curhat_trio.protocol.codec import decode_server
from curhat_trio.protocol.messages import ServerMessage
from tests.peers import running_server
from tests.stepped_trio import SteppedClient, SteppedTrio, Wire

NEW_PIECE = b"\xfe\xed"
"""In an input: what follows arrives later. At the end of one: the client stays, and is silent."""

BEGINNINGS = {
    b"0": upgrade_request(),
    b"1": upgrade_request(sec_websocket_protocol="curhat.v1"),
    b"2": upgrade_request(sec_websocket_protocol="curhat.v1") + message_frame("join"),
    b"3": upgrade_request() + message_frame("join"),
}
"""An input that begins with one of these continues from there; any other is sent as it is."""

_SETTINGS = Settings(
    max_message_bytes=1024,
    message_burst=50,
    outbound_messages=100,
    request_head_seconds=2.0,
    first_message_seconds=4.0,
    offer_seconds=4.0,
    ping_seconds=2.0,
    pong_seconds=2.0,
    write_seconds=1.0,
    close_seconds=1.0,
    resume_seconds=1.0,
)
_LONGEST_SILENCE = 8
"""In seconds: more than any of the above lets a client live that says nothing."""


class FuzzedServer:
    """A server that stays, and a client that stays: it waits, is paired with whoever comes, and waits again."""

    def __enter__(self) -> Callable[[bytes], None]:
        self._open()
        return self.serve

    def __exit__(self, *_: object) -> None:
        self._trio.close()

    def serve(self, data: bytes) -> None:
        """Let these bytes come, and see that server and bystander are as before.

        Raises:
            AssertionError: They are not. Then a new server is begun with.
        """
        try:
            self._serve(data)
        except BaseException:
            self._trio.close()
            self._open()
            raise

    def _open(self) -> None:
        self._trio = SteppedTrio()
        self._trio.start(self._run)
        self._trio.settle()
        self._bystander = SteppedClient(self._arrive())
        self._bystander.connect(message_frame("join"), subprotocol="curhat.v1")
        self._settle()
        self._quiet_tasks = len(self._server.tasks)
        self._pings = 0

    async def _run(self) -> None:
        async with running_server(_SETTINGS, time_limit=float("inf")) as self._server:
            await trio.sleep_forever()

    def _arrive(self) -> Wire:
        assert self._server.listener is not None
        wire = Wire()
        self._trio.do(self._server.listener.admit, wire)
        return wire

    def _settle(self) -> None:
        self._trio.settle()
        while self._bystander.receive():
            self._trio.settle()

    def _pass_a_second(self) -> None:
        self._trio.pass_time(1.0)
        self._settle()

    def _serve(self, data: bytes) -> None:
        wire = self._arrive()
        *pieces, last = pieces_of(data)
        for piece in pieces:
            wire.put(piece)
            self._settle()
        wire.put(last)
        if last:
            wire.end()
        self._settle()
        for _ in range(_LONGEST_SILENCE):
            self._pass_a_second()
            if wire.is_closed and self._is_quiet:
                break
        assert wire.is_closed, "the server keeps a client for ever that says nothing"
        self._see_that_all_is_well()

    @property
    def _is_quiet(self) -> bool:
        """Check that only the bystander is connected, and no other session waits to be resumed."""
        server = self._server
        return len(server.tasks) == self._quiet_tasks and len(server.dispatcher.sessions) == 1

    def _see_that_all_is_well(self) -> None:
        server = self._server
        assert not server.logged_problems, server.logged_problems
        assert self._is_quiet
        assert server.slots.taken == 1
        self._let_the_bystander_wait_again()
        assert len(server.dispatcher.sessions) == len(server.pool) == server.metrics.states["waiting"] == 1

    def _let_the_bystander_wait_again(self) -> None:
        received = self._take_received()
        types = [message["type"] for message in received if message["type"] in ("ready", "join", "leave")]
        assert types[-1:] != ["join"], "no client is left in a pairing with one that is gone"
        if types[-1:] == ["leave"]:
            self._bystander.wire.put(message_frame("join"))
        self._pings += 1
        self._bystander.wire.put(message_frame("ping", data=str(self._pings)))
        self._settle()
        *_, pong = self._take_received()
        assert (pong["type"], pong["data"]) == ("pong", str(self._pings))

    def _take_received(self) -> list[dict[str, object]]:
        """The messages that the bystander has received, which are valid whatever its partner has sent."""
        assert self._bystander.closed is None, self._bystander.closed
        texts, self._bystander.texts = self._bystander.texts, []
        assert all(isinstance(decode_server(text), ServerMessage) for text in texts)
        return [orjson.loads(text) for text in texts]


def pieces_of(data: bytes) -> list[bytes]:
    beginning = BEGINNINGS.get(data[:1])
    first, *others = (data if beginning is None else data[1:]).split(NEW_PIECE)
    return [(beginning or b"") + first, *others]
