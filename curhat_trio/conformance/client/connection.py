"""One connection of a client under test, as scenarios use it: the messages of a server and of a peer.

A scenario may send anything, whether or not a real server would.
"""

from collections.abc import Sequence
from typing import Any, Literal

import trio
from wsproto.connection import Connection

from curhat_trio.conformance.client.channel import MessageChannel
from curhat_trio.conformance.client.fake_peer import AUDIO_AND_VIDEO, FakePeer
from curhat_trio.conformance.client.http_frontend import UpgradeRequest
from curhat_trio.conformance.client.timeouts import Timeouts
from curhat_trio.conformance.client.transcript import Transcript
from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId

CLIENT_ID = ClientId("c-under-test")
"""The `sessionId` of every client under test."""

FEATURES = ("chat", "next", "rooms", "status", "topics")
RESUME_SECONDS = 30.0
LIMITS = messages.Limits(message_bytes=65536)


class ClientConnection(MessageChannel):
    """The messages of a server, and those that it relays from a fake peer."""

    def __init__(
        self, upgrade: UpgradeRequest, websocket: Connection, transcript: Transcript, timeouts: Timeouts
    ) -> None:
        super().__init__(upgrade, websocket, transcript, timeouts)
        self.peer: FakePeer | None = None
        """The partner in the present pairing."""
        self._impolite = False

    # ------------------------------------------------------------ from the server

    async def send_welcome(
        self,
        limits: messages.Limits = LIMITS,
        features: Sequence[str] = FEATURES,
        ping_seconds: float = 20.0,
        **more: Any,
    ) -> None:
        """The first message of a connection."""
        await self.send(messages.Welcome(CLIENT_ID, limits, tuple(features), ping_seconds), **more)

    async def send_resumed(self, before: "ClientConnection", token: str, heard: int) -> None:
        """The session of another connection continues over this one."""
        self.monitor.resumed(before.monitor, trio.current_time())
        self.monitor.heard = heard
        self.monitor.own_id = before.monitor.own_id
        await self.send(messages.Resumed(CLIENT_ID, token, RESUME_SECONDS, heard))
        self._seq, self.peer, self._impolite = before.seq, before.peer, before._impolite

    async def send_ready(self, room: str, **more: Any) -> None:
        """The client waits, for a pairing in this room."""
        await self.send(messages.Ready(RoomId(room)), **more)

    async def send_match(
        self,
        role: Literal["offerer", "answerer"],
        room: str,
        name: str = "Stranger",
        policy: Literal["all", "relay"] = "all",
        servers: Sequence[messages.IceServer] = (),
        **more: Any,
    ) -> FakePeer:
        """A `join`: a partner is found. `role` is the client's."""
        self._impolite = role == "offerer"
        peer = self.peer = FakePeer(ClientId(f"c-peer-{room}"), name, RoomId(room))
        polite = role == "answerer"
        joined = messages.Joined(peer.id, name, peer.room_id, role, polite, (), tuple(servers), policy)
        await self.send(joined, **more)
        return peer

    async def send_leave(self, reason: str, by: ClientId | None = None, **more: Any) -> None:
        """The pairing is over, by the peer or by the client itself. `reason` may be one of a later version."""
        assert self.peer is not None
        left = messages.Left(by or self.peer.id, self.peer.room_id, LeaveReason.LEFT)
        await self.send(left, **{"reason": reason, **more})
        self.peer = None

    async def relay_late_messages(self) -> None:
        """What the peer sends before it has received the client's `leave` or `next`."""
        peer = self.peer
        assert peer is not None
        await self.relay(messages.Chat("too late"))
        await self.relay(messages.Typing(True))
        await self.relay(messages.Media(audio=False, video=True))
        await self.relay(peer.offer())
        await self.relay(messages.Candidate(peer.candidate()))
        await self.send(messages.Presence(peer.id, peer.room_id, "away"))
        await self.send(messages.Presence(peer.id, peer.room_id, "back"))

    async def send_goaway(self, retry_after: float, **more: Any) -> None:
        """The server is about to close."""
        await self.send(messages.GoAway(LeaveReason.SERVER_SHUTDOWN, retry_after), **more)

    async def send_error(
        self,
        code: ErrorCode | str,
        ref: str | None = None,
        *,
        fatal: bool = False,
        retry_after: float | None = None,
        **more: Any,
    ) -> None:
        """A message was refused. `code` may be one of a later version."""
        message = messages.ErrorMessage(
            ErrorCode.BAD_MESSAGE, "sent by the conformance kit", ref, fatal, retry_after
        )
        await self.send(message, **{"code": str(code), **more})

    # ------------------------------------------------------------ from the peer

    async def relay(self, message: messages.Relayable, peer: FakePeer | None = None, **more: Any) -> None:
        """Relay a message of the peer, or of one in another room."""
        sender = peer or self.peer
        assert sender is not None
        await self.send(messages.Relayed(message, sender.id, CLIENT_ID, sender.room_id, sender.name), **more)

    async def relay_candidates(self, **more: Any) -> None:
        """The peer's candidates: one, and the end of candidates."""
        assert self.peer is not None
        await self.relay(messages.Candidate(self.peer.candidate()), **more)
        await self.relay(messages.Candidate(self.peer.no_more_candidates()), **more)

    async def relay_offer(self, media: Sequence[str] = AUDIO_AND_VIDEO, **offer: Any) -> None:
        """An offer of the peer."""
        assert self.peer is not None
        await self.relay(self.peer.offer(media, **offer))

    async def relay_answer(self, offer: messages.Offer, **more: Any) -> None:
        """The peer's answer to the client's offer."""
        assert self.peer is not None
        await self.relay(self.peer.answer(offer), **more)

    # ------------------------------------------------------------ from the client

    async def expect_offer(
        self, rules: str | Sequence[str] = "P-5.3", within: float | None = None
    ) -> messages.Offer:
        """The client's offer."""
        seconds = self._timeouts.offer if within is None else within
        offer = await self.expect("offer", rules=rules, within=seconds)
        assert isinstance(offer, messages.Offer)
        return offer

    async def expect_answer(self, rules: str | Sequence[str] = "P-5.7") -> None:
        """The client's answer to the peer's offer."""
        assert self.peer is not None
        answer = await self.expect("answer", rules=rules)
        assert isinstance(answer, messages.Answer)
        self.peer.agree(answer)

    async def expect_working_pairing(self, rules: str | Sequence[str]) -> None:
        """The client must answer a new offer of the peer.

        If it sends an offer of its own just then, and is impolite, that one is answered first.
        """
        assert self.peer is not None
        await self.relay_offer()
        message = await self.expect("answer", "offer", rules=rules)
        if isinstance(message, messages.Offer) and self._impolite:
            await self.relay_answer(message)
            await self.relay_offer()
        if isinstance(message, messages.Answer):
            self.peer.agree(message)
        else:
            await self.expect_answer(rules)
