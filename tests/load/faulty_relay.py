"""A small server of the protocol that relays correctly, or with one fault.

It implements of both profiles what a load needs, on a port of 127.0.0.1. A `Misbehavior` gets every message that
is to be relayed, and returns what to send to whom instead; other faults are flags.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

Message = dict[str, Any]


@attrs.define(eq=False)
class Client:
    """A connection on the side of the relay."""

    stream: trio.SocketStream
    name: str
    protocol: ServerProtocol = attrs.Factory(
        lambda: ServerProtocol(select_subprotocol=lambda _protocol, offered: next(iter(offered), None))
    )
    partner: "Client | None" = None
    room: str = ""
    _writing: trio.Lock = attrs.Factory(trio.Lock)

    async def send(self, message: Message | str) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        self.protocol.send_text(text.encode())
        await self.flush()

    async def flush(self) -> None:
        async with self._writing:
            if data := b"".join(self.protocol.data_to_send()):
                await self.stream.send_all(data)


Relayed = list[tuple[Client, Message]]
Misbehavior = Callable[[Client, Message], Relayed]


def forward(sender: Client, message: Message) -> Relayed:
    """Relay correctly: to the partner, once and unchanged."""
    assert sender.partner is not None
    return [(sender.partner, message)]


@attrs.define
class Relay:
    """The server.

    Args:
        misbehavior: What to relay instead of a message.
        pairs: Whether clients are ever paired.
        sends_leave: Whether the partner of a client that leaves receives `leave`.
        selects: Whether the subprotocol that a client offers is selected.
        answers_close: Whether closing handshakes are finished.
        welcome: The first message; None to send none.
    """

    misbehavior: Misbehavior = forward
    pairs: bool = True
    sends_leave: bool = True
    selects: bool = True
    answers_close: bool = True
    welcome: Message | None = attrs.Factory(lambda: {"type": "welcome", "sessionId": "s"})
    clients: list[Client] = attrs.Factory(list)
    _waiting: Client | None = None

    async def serve(self, stream: trio.SocketStream) -> None:
        client = Client(stream, f"c{len(self.clients)}")
        if not self.selects:
            client.protocol = ServerProtocol()
        self.clients.append(client)
        try:
            while data := await stream.receive_some():
                client.protocol.receive_data(data)
                for event in client.protocol.events_received():
                    await self._take(client, event)
                if client.protocol.close_expected() and not self.answers_close:
                    await trio.sleep_forever()
                await client.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await self._leave(client)
            await trio.aclose_forcefully(stream)

    async def _take(self, client: Client, event: object) -> None:
        if isinstance(event, Request):
            client.protocol.send_response(client.protocol.accept(event))
            await client.flush()
            if client.protocol.subprotocol and self.welcome is not None:
                await client.send(self.welcome)
        elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
            await self._receive_relayed(client, json.loads(bytes(event.data)))

    async def _receive_relayed(self, client: Client, message: Message) -> None:
        if message["type"] == "join":
            await self._join(client)
        elif message["type"] == "leave":
            if client.protocol.subprotocol:
                await client.send({"type": "leave", "from": client.name, "roomId": client.room, "reason": "left"})
            await self._leave(client)
        elif client.partner is not None:
            relayed = message | {"from": client.name, "roomId": client.room}
            for receiver, changed in self.misbehavior(client, relayed):
                await receiver.send(changed)

    async def _join(self, client: Client) -> None:
        partner, self._waiting = self._waiting, client
        client.room = f"room/{client.name}"
        if partner is None or not self.pairs:
            await client.send({"type": "ready", "roomId": client.room})
            return
        self._waiting = None
        client.room, client.partner, partner.partner = partner.room, partner, client
        for one, other, role in ((partner, client, "offerer"), (client, partner, "answerer")):
            await one.send({"type": "join", "from": other.name, "roomId": one.room, "role": role})

    async def _leave(self, client: Client) -> None:
        if self._waiting is client:
            self._waiting = None
        partner, client.partner = client.partner, None
        if partner is not None:
            partner.partner = None
            if self.sends_leave:
                await partner.send({"type": "leave", "from": client.name, "roomId": client.room, "reason": "left"})


@asynccontextmanager
async def running_relay(relay: Relay) -> AsyncIterator[int]:
    """Run the relay; yields its port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, relay.serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


class Once:
    """A misbehavior for one message only, the one with this number among all that are relayed."""

    def __init__(self, number: int, misbehavior: Misbehavior) -> None:
        self._countdown = number
        self._lie = misbehavior

    def __call__(self, sender: Client, message: Message) -> Relayed:
        self._countdown -= 1
        return self._lie(sender, message) if self._countdown == 0 else forward(sender, message)


class Swap:
    """Relay the first two candidates of one client in the wrong order."""

    def __init__(self) -> None:
        self._held: tuple[Client, Message] | None = None
        self._done = False

    def __call__(self, sender: Client, message: Message) -> Relayed:
        if self._done or message["type"] != "candidate":
            return forward(sender, message)
        if self._held is None:
            self._held = sender, message
            return []
        assert self._held[0] is sender
        self._done = True
        return [*forward(sender, message), *forward(*self._held)]


def drop(_sender: Client, _message: Message) -> Relayed:
    return []


def duplicate(sender: Client, message: Message) -> Relayed:
    return forward(sender, message) * 2


def alter(sender: Client, message: Message) -> Relayed:
    """Change a message outside its label, which stays valid."""
    return forward(sender, message | {"payload": message["payload"] | {"usernameFragment": "other"}})


def garble(sender: Client, message: Message) -> Relayed:
    """Change one digit of the label."""
    text = message["payload"]["candidate"]
    return forward(sender, message | {"payload": message["payload"] | {"candidate": f"{text[:-1]}g"}})


def misattribute(sender: Client, message: Message) -> Relayed:
    return forward(sender, message | {"from": "somebody"})


def misroute(clients: list[Client]) -> Misbehavior:
    """Relay to the partner, and a copy to the first other client that is in a conversation."""

    def relay_to_another(sender: Client, message: Message) -> Relayed:
        others = (each for each in clients if each not in (sender, sender.partner) and each.partner is not None)
        return [*forward(sender, message), (next(others), message)]

    return relay_to_another
