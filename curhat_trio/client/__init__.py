"""A client of a curhat.v1 server, for Python programs on Trio.

    from curhat_trio.client import Chat, Joined, Relayed, connect

    async def main() -> None:
        async with connect("ws://127.0.0.1:8080/ws", username="Ani") as client:
            await client.join(topics=["music"])
            async for event in client:
                match event:
                    case Joined(username=name):
                        await client.chat(f"Hello, {name}!")
                    case Relayed(message=Chat(text)):
                        print(text)

The client keeps the rules of spec/protocol.md as far as a library can. It refuses to send what is not allowed now
(`LocalProtocolError`), hides messages of a pairing that is over (P-4.8, P-4.11), answers pings (P-7.2), stays
within the server's rate limit (P-7.3), sends again what the server dropped all the same (P-7.7), gives up a server
that does not answer, reconnects when the close code allows it (P-9.1), and resumes the session or joins again with
the same wishes (section 2.13). Audio, video and SDP are up to its user.

A `reason` or `code` of a later version of the protocol (P-3.21) is a `LeaveReason` or `ErrorCode` that is none of
their members: it equals the string that the server sent, and `match` leaves it to `case _`.
"""

from curhat_trio.client.connecting import connect
from curhat_trio.client.events import AnyEvent, CannotConnect, ConnectionEnded, Interrupted, Restarted
from curhat_trio.client.machine import LocalProtocolError, State
from curhat_trio.client.reconnecting import RECEIVE_BUFFER, Dial
from curhat_trio.client.sending import SEND_BUFFER
from curhat_trio.client.session import Client
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.messages import (
    Answer,
    Candidate,
    Chat,
    Description,
    ErrorMessage,
    GoAway,
    IceCandidate,
    IceRefreshed,
    IceServer,
    Joined,
    Left,
    Limits,
    Media,
    Offer,
    Pong,
    Presence,
    Ready,
    Relayed,
    Resumed,
    Typing,
    Welcome,
)

__all__ = [
    "RECEIVE_BUFFER",
    "SEND_BUFFER",
    "Answer",
    "AnyEvent",
    "Candidate",
    "CannotConnect",
    "Chat",
    "Client",
    "CloseCode",
    "ConnectionEnded",
    "Description",
    "Dial",
    "ErrorCode",
    "ErrorMessage",
    "GoAway",
    "IceCandidate",
    "IceRefreshed",
    "IceServer",
    "Interrupted",
    "Joined",
    "LeaveReason",
    "Left",
    "Limits",
    "LocalProtocolError",
    "Media",
    "Offer",
    "Pong",
    "Presence",
    "Ready",
    "Relayed",
    "Restarted",
    "Resumed",
    "State",
    "Typing",
    "Welcome",
    "connect",
]
