"""An example of every message, for the generated documents: together they have every field.

They are messages of Ani (`c-ani`) and Budi (`c-budi`), as in the example session of the specification.
"""

from typing import Any

import orjson

from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import encode, encode_client
from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId

_ANI, _BUDI, _ROOM = ClientId("c-ani"), ClientId("c-budi"), RoomId("r-1")
_OFFER, _ANSWER = messages.Description("offer", "v=0\r\n..."), messages.Description("answer", "v=0\r\n...")
_CANDIDATE = messages.IceCandidate("candidate:1 1 udp 2122260223 192.0.2.1 54321 typ host", "0", 0, "Zx9k")
_ICE_SERVERS = (
    messages.IceServer(("stun:stun.example.org",)),
    messages.IceServer(("turn:turn.example.org?transport=udp",), "1764194400:c-budi", "s3cr3t"),
)

_FROM_CLIENT: tuple[messages.ClientMessage, ...] = (
    messages.Join("Ani", ("music", "travel"), "language-exchange"),
    messages.Leave("done for today"),
    messages.Next("no common language"),
    messages.Offer(_OFFER),
    messages.Answer(_ANSWER),
    messages.Candidate(_CANDIDATE),
    messages.Chat("hi!"),
    messages.Typing(True),
    messages.Media(audio=False, video=True),
    messages.Status("connected", path="srflx"),
    messages.Status("failed", stage="checking"),
    messages.Ice(),
    messages.Resume("zWc3Xo0bq1M", 17),
    messages.Ping("1"),
)


def _relayed(message: messages.Relayable) -> messages.Relayed:
    return messages.Relayed(message, _ANI, _BUDI, _ROOM, "Ani")


_FROM_SERVER: tuple[messages.ServerMessage, ...] = (
    messages.Welcome(_BUDI, messages.Limits(65536), ("chat", "resume", "topics"), 20.0, "zWc3Xo0bq1M", 30.0),
    messages.Ready(_ROOM, "1"),
    messages.Joined(_ANI, "Ani", _ROOM, "answerer", True, ("music",), _ICE_SERVERS, "all", 3600),
    messages.IceRefreshed(_ICE_SERVERS, "all", 3600, "7"),
    _relayed(messages.Offer(_OFFER)),
    _relayed(messages.Answer(_ANSWER)),
    _relayed(messages.Candidate(_CANDIDATE)),
    _relayed(messages.Candidate(messages.IceCandidate("", "0", 0))),
    _relayed(messages.Chat("hi!")),
    _relayed(messages.Typing(True)),
    _relayed(messages.Media(audio=False, video=True)),
    messages.Presence(_ANI, _ROOM, "away"),
    messages.Left(_BUDI, _ROOM, LeaveReason.NEXT, "8"),
    messages.ErrorMessage(ErrorCode.RATE_LIMITED, "too many messages", "chat", False, 0.8, "9"),
    messages.ErrorMessage(ErrorCode.BAD_MESSAGE, "must be an object, not a string @ $", None),
    messages.Resumed(_BUDI, "Qe8Rk2vLx5s", 30.0, 12, "1"),
    messages.Pong(13, "1", "10"),
    messages.GoAway(LeaveReason.SERVER_SHUTDOWN, 2.5),
)


def client_examples(name: str) -> list[dict[str, Any]]:
    """The examples of a client's message by its type, as JSON values; the first has an `id`."""
    chosen = [message for message in _FROM_CLIENT if message.type == name]
    return [
        orjson.loads(encode_client(message, "1" if place == 0 else None)) for place, message in enumerate(chosen)
    ]


def server_examples(name: str) -> list[dict[str, Any]]:
    """The examples of a server's message by its type, as JSON values."""
    chosen = [(seq, message) for seq, message in enumerate(_FROM_SERVER, 1) if message.type == name]
    return [orjson.loads(encode(message, seq)) for seq, message in chosen]
