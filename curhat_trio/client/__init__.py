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

It keeps the rules of spec/protocol.md by itself as far as a library can: it refuses to send what is not allowed
now (`NotNow`), hides what belongs to a pairing that is over, answers pings, stays within the allowance, comes back
when the close code allows it, and resumes the session or joins again. Audio, video and SDP are its user's.
"""

from curhat_trio.client.endings import AnyEvent, CannotConnect, ConnectionEnded, Interrupted, Restarted
from curhat_trio.client.machine import NotNow, State
from curhat_trio.client.session import RECEIVE_BUFFER, SEND_BUFFER, Client, Dial, connect
from curhat_trio.protocol.messages import (
    Answer,
    Candidate,
    Chat,
    ErrorMessage,
    GoAway,
    IceCandidate,
    IceRefreshed,
    Joined,
    Left,
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
    "ConnectionEnded",
    "Dial",
    "ErrorMessage",
    "GoAway",
    "IceCandidate",
    "IceRefreshed",
    "Interrupted",
    "Joined",
    "Left",
    "NotNow",
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
