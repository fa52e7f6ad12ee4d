"""The client as its user sees it: a method for each message to send, and an iterator over what is received."""

from collections.abc import Iterable
from typing import Literal, Self

from curhat_trio.client.events import AnyEvent, Interrupted, Restarted
from curhat_trio.client.machine import ClientMachine, State
from curhat_trio.client.reconnecting import ReconnectingConnection
from curhat_trio.client.text import well_formed
from curhat_trio.protocol import messages


class Client:
    """One session with a server, over one connection after the other. `connect` makes it.

    Iterating yields every event in order (`AnyEvent`). What may be sent follows from the events that were taken,
    so take them all the time. Only one task may iterate; any may send. When a method that sends returns, the
    message is on its way, but not received yet; while the connection is interrupted, it is kept. At most
    `SEND_BUFFER` messages are; the next one waits. What the server drops for its rate limit is sent again, in
    order (P-7.7), and no error is reported for it, unless the partner that it was meant for is gone.

    Each `join`, `leave`, `next`, `ice` and `ping` has to be answered within 20 s after it was sent. Otherwise the
    connection is given up: `Interrupted` follows, and then `Resumed` or `Restarted`.

    Text is well-formed when it is sent: an unpaired surrogate, such as half of an emoji, is replaced by U+FFFD, as
    the server would read it (P-2.17).

    Up to `RECEIVE_BUFFER` events wait for the iteration. Then the connection is no longer read, not even for
    pings, so that the server will close it in the end; the client reconnects once there is room again.

    Every method that sends raises:

    - `LocalProtocolError`: the message is not allowed now (section 4 of spec/protocol.md), or the server does not
      support it; nothing was sent.
    - `ValueError`: a limit of the message is exceeded (P-2.12, P-3.4); nothing was sent.
    - `ConnectionEnded`: the connection has ended for good.
    """

    def __init__(self, connection: ReconnectingConnection, machine: ClientMachine, username: str | None) -> None:
        self._connection = connection
        self._machine = machine
        self._username = username

    # ------------------------------------------------------------ what is known

    @property
    def state(self) -> State:
        """The state of the session, after the events that were taken."""
        return self._machine.state

    @property
    def welcome(self) -> messages.Welcome:
        """How the present session began: `session_id`, `limits`, `features`."""
        return self._machine.welcome

    @property
    def partner(self) -> messages.Joined | None:
        """The present partner: name, role, topics in common, ICE servers. None if there is none."""
        return self._machine.partner

    # ------------------------------------------------------------ sending

    async def join(self, topics: Iterable[str] = (), room: str | None = None, username: str | None = None) -> None:
        """Look for a partner; `Ready` and then `Joined` follow. Allowed while connected.

        Args:
            topics: At most 5, of 1 to 32 characters each; somebody who shares one is preferred (P-3.7). Needs
                `topics` in `welcome.features`.
            room: 1 to 64 characters; pairs only with somebody who names the same (P-3.6). Needs `rooms` there.
            username: 1 to 64 characters; by default that of `connect`.
        """
        if isinstance(topics, str):
            raise ValueError("topics must be a list of strings, not one string")  # noqa: TRY004 -- as other values
        await self._send(messages.Join(username or self._username, tuple(topics), room))

    async def leave(self, reason: str | None = None) -> None:
        """Leave the partner, or stop waiting. `Left` follows, and no message of the partner's before it (P-4.6).

        Args:
            reason: At most 256 characters. The partner gets `left` in any case.
        """
        await self._send(messages.Leave(reason))

    async def next(self, reason: str | None = None) -> None:
        """Leave this partner and wait for another, with the arguments of the last `join` (P-4.7).

        `Left` and `Ready` follow. Allowed while there is a partner.
        """
        await self._send(messages.Next(reason))

    async def offer(self, sdp: str) -> None:
        """Send the partner an SDP offer.

        The first offer is made by the offerer (P-5.2: `partner.role`); after that either side may offer, but not
        while its last offer is unanswered (P-5.5). When two offers cross, the polite side (`partner.polite`)
        receives the partner's and must roll back its own (P-5.10); the impolite side never sees the other (P-5.9).
        """
        await self._send(messages.Offer(messages.Description("offer", sdp)))

    async def answer(self, sdp: str) -> None:
        """Send an SDP answer to the partner's offer (P-5.7)."""
        await self._send(messages.Answer(messages.Description("answer", sdp)))

    async def candidate(
        self,
        candidate: str,
        sdp_mid: str | None = None,
        sdp_m_line_index: int | None = None,
        username_fragment: str | None = None,
    ) -> None:
        """Send the partner an ICE candidate.

        Args:
            candidate: `candidate:...` (RFC 8839), at most 1024 characters; empty: there are no more (P-6.4).
            sdp_mid: The media description that it belongs to, by its `a=mid`.
            sdp_m_line_index: The same by its index, from 0.
            username_fragment: The ICE generation that it belongs to (P-6.3).
        """
        await self._send(
            messages.Candidate(messages.IceCandidate(candidate, sdp_mid, sdp_m_line_index, username_fragment))
        )

    async def chat(self, text: str) -> None:
        """Send the partner a text of 1 to 2000 characters (`welcome.limits.chat_characters`)."""
        if len(text) > self.welcome.limits.chat_characters:
            raise ValueError(
                f"text must have at most {self.welcome.limits.chat_characters} characters, not {len(text)}"
            )
        await self._send(messages.Chat(text))

    async def typing(self, active: bool) -> None:
        """Notify the partner that the user has begun to write, or has stopped."""
        await self._send(messages.Typing(active))

    async def media(self, *, audio: bool, video: bool) -> None:
        """Notify the partner whether the user's microphone and camera are on, whenever that changes (P-3.20)."""
        await self._send(messages.Media(audio, video))

    async def status(
        self,
        media: Literal["connected", "failed"],
        *,
        path: Literal["host", "srflx", "prflx", "relay"] | None = None,
        stage: Literal["gathering", "checking", "dtls", "lost"] | None = None,
    ) -> None:
        """Report to the server whether audio and video flow, whenever that changes (P-3.18).

        Args:
            media: After `failed` the server ends the pairing, unless `connected` follows in time (P-7.1).
            path: With `connected`: the type of the local candidate in use (RFC 8839, section 5.1).
            stage: With `failed`: how far the connection had come; `lost`: it had been connected.
        """
        await self._send(messages.Status(media, path, stage))

    async def ice(self) -> None:
        """Ask for ICE servers with fresh credentials (P-3.16); `IceRefreshed` follows."""
        await self._send(messages.Ice())

    async def ping(self, data: str | None = None) -> None:
        """Ask for a reply of the server; `Pong` with the same `data` (at most 256 characters) follows (P-3.8)."""
        await self._send(messages.Ping(data))

    async def _send(self, message: messages.ClientMessage) -> None:
        message = well_formed(message)
        outgoing = self._connection.compose(message)
        most = self.welcome.limits.message_bytes
        if (size := len(outgoing.text.encode())) > most:
            raise ValueError(f"`{message.type}` is {size} bytes long; this server accepts at most {most}")
        await self._connection.wait_for_send_buffer()
        self._machine.send(message)
        self._connection.send(outgoing)

    # ------------------------------------------------------------ receiving

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyEvent:
        """The next event.

        Raises:
            ConnectionEnded: The connection has ended for good.
            StopAsyncIteration: The client was closed by its user.
        """
        while True:
            received = self._receive(await self._connection.receive())
            if received is not None:
                return received

    def _receive(self, event: AnyEvent) -> AnyEvent | None:
        if isinstance(event, Restarted):
            self._machine.restart(event.welcome)
        received = event if isinstance(event, Interrupted | Restarted) else self._machine.receive(event)
        if (join := self._machine.take_join()) is not None:
            self._machine.send(join)
            self._connection.send(self._connection.compose(join))
        return received

    async def aclose(self) -> None:
        """Close the session for good: the server is notified, and the iteration ends (P-9.4).

        The end of `async with connect(...)` does this too. Waits up to 4 s for the server.
        """
        await self._connection.close()
