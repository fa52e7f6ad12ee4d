"""A client of `curhat_trio.client`, for the scripted server to test.

There is no media: a section for audio is described, and has failed as soon as the partner has no more candidates.

As a program: `library_client.py URL`, for `curhat-trio conform --listen PORT --client-command`.
"""

import sys
from contextlib import suppress

import trio

from curhat_trio.client import (
    AnyEvent,
    Candidate,
    CannotConnect,
    Client,
    ConnectionEnded,
    Dial,
    IceRefreshed,
    Joined,
    LocalProtocolError,
    Offer,
    Relayed,
    connect,
)
from tests.conformance.clients import SDP_TO_THE_FRAGMENT


class LibraryClient:
    """Answers whoever calls, and offers when it is the offerer.

    Args:
        url: Of the server.
        dial: Makes a connection to it; None: by TCP.
    """

    def __init__(self, url: str, dial: Dial | None = None) -> None:
        self._url = url
        self._dial = dial
        self._wanted = trio.Event()
        self._client: Client | None = None
        self._generations = 0
        self._gathers = self._microphone = True
        self._renewals = trio.CancelScope()

    # ------------------------------------------------------------ the user

    async def join(self) -> None:
        self._wanted.set()
        if self._client is not None:
            await self._join(self._client)

    async def _join(self, client: Client) -> None:
        with suppress(LocalProtocolError, ConnectionEnded):
            await client.join(["music"] if "topics" in client.welcome.features else [])

    async def leave(self) -> None:
        if self._client is not None:
            with suppress(LocalProtocolError):
                await self._client.leave()

    async def next(self) -> None:
        if self._client is not None:
            with suppress(LocalProtocolError):
                await self._client.next()

    async def chat(self, text: str) -> None:
        if self._client is not None:
            with suppress(LocalProtocolError, ValueError):
                await self._client.chat(text)

    async def media(self, text: str) -> None:
        self._microphone = text == "on"
        if self._client is not None:
            await self._send_media(self._client)

    async def _send_media(self, client: Client) -> None:
        if "media" in client.welcome.features:
            with suppress(LocalProtocolError):
                await client.media(audio=self._microphone, video=False)

    async def renegotiate(self) -> None:
        if self._client is not None:
            with suppress(LocalProtocolError):
                await self._describe(self._client, "offer")

    async def quit(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    # ------------------------------------------------------------ the client

    async def live(self) -> None:
        """Connect whenever the user wants to."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._wanted.wait()
                with suppress(CannotConnect, ConnectionEnded):
                    async with connect(self._url, username="Ani", dial=self._dial) as self._client:
                        await self._converse(self._client, nursery)
                self._renewals.cancel()
                self._client = None
                self._wanted = trio.Event()

    async def _converse(self, client: Client, nursery: trio.Nursery) -> None:
        await self._join(client)
        async for event in client:
            if isinstance(event, Joined | IceRefreshed):
                self._gathers = event.ice_transport_policy == "all"
                self._renewals.cancel()
                self._renewals = trio.CancelScope()
                nursery.start_soon(self._renew, client, event.ttl_seconds, self._renewals)
            if isinstance(event, Joined) and not self._microphone:
                await self._send_media(client)
            with suppress(LocalProtocolError):
                await self._handle(client, event)

    async def _renew(self, client: Client, seconds: int | None, until: trio.CancelScope) -> None:
        """Ask for fresh credentials in time."""
        with until, suppress(LocalProtocolError, ConnectionEnded):
            if seconds is not None:
                await trio.sleep(0.75 * seconds)
                await client.ice()

    async def _handle(self, client: Client, event: AnyEvent) -> None:
        match event:
            case Joined(role="offerer"):
                await self._describe(client, "offer")
            case Relayed(message=Offer()):
                await self._describe(client, "answer")
            case Relayed(message=Candidate(payload)) if not payload.candidate:
                await client.status("failed", stage="checking")
            case _:
                pass

    async def _describe(self, client: Client, kind: str) -> None:
        self._generations += 1
        ufrag = f"g{self._generations:03d}"
        sdp = SDP_TO_THE_FRAGMENT + f"{ufrag}\r\n"
        await (client.offer(sdp) if kind == "offer" else client.answer(sdp))
        if self._gathers:
            await client.candidate("candidate:1 1 udp 1 127.0.0.1 9 typ host", "0", 0, ufrag)
        await client.candidate("", "0", 0)


async def perform_actions(client: LibraryClient) -> None:
    """Perform the actions on standard input."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        action, _, text = line.strip().partition(" ")
        await getattr(client, action)(*[text] * (action in ("chat", "media")))


async def main(url: str) -> None:
    """One client at this address."""
    client = LibraryClient(url)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.live)
        nursery.start_soon(perform_actions, client)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
