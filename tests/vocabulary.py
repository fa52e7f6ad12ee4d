"""Hypothesis strategies for every message, from the limits that stand beside its fields."""

from hypothesis import strategies as st

from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.messages import (
    CANDIDATE_CHARACTERS,
    CHAT_CHARACTERS,
    LARGEST_SEQ,
    ROOM_CHARACTERS,
    TOKEN_CHARACTERS,
    TOPIC_CHARACTERS,
    TOPICS,
    USERNAME_CHARACTERS,
    Answer,
    Candidate,
    Chat,
    Description,
    ErrorMessage,
    GoAway,
    Ice,
    IceCandidate,
    IceRefreshed,
    IceServer,
    Join,
    Joined,
    Leave,
    Left,
    Limits,
    Next,
    Offer,
    Ping,
    Pong,
    Presence,
    Ready,
    Relayed,
    Resume,
    Resumed,
    Status,
    Typing,
    Welcome,
)

_SOME = 40
"""Generated texts are no longer, but for those of exactly the greatest length."""


_ANY = st.characters(exclude_categories=["Cs"])
_PRINTABLE = st.characters(exclude_categories=["Cs", "Cc"])


def text(low: int, high: int, characters: st.SearchStrategy[str] = _ANY) -> st.SearchStrategy[str]:
    few = st.text(characters, min_size=low, max_size=min(high, _SOME))
    return few | characters.map(lambda character: character * high)


_TOKEN = text(0, TOKEN_CHARACTERS)
_ID = text(1, 32)
_TOPIC = text(1, TOPIC_CHARACTERS)
_USERNAME = text(1, USERNAME_CHARACTERS, _PRINTABLE)
_SECONDS = st.floats(0, 1e9)
_COUNT = st.integers(0, 1 << 53)
_TOPICS = st.lists(_TOPIC, max_size=TOPICS).map(tuple)


def description(kind: str) -> st.SearchStrategy[Description]:
    return st.builds(Description, st.just(kind), text(1, 1 << 12))


ICE_CANDIDATE = st.builds(
    IceCandidate,
    candidate=text(0, CANDIDATE_CHARACTERS),
    sdpMid=st.none() | _TOKEN,
    sdpMLineIndex=st.none() | st.integers(0, 65535),
    usernameFragment=st.none() | _TOKEN,
)

CLIENT_MESSAGES = {
    Join: st.builds(Join, st.none() | _USERNAME, _TOPICS, st.none() | text(1, ROOM_CHARACTERS)),
    Leave: st.builds(Leave, st.none() | _TOKEN),
    Next: st.builds(Next, st.none() | _TOKEN),
    Offer: st.builds(Offer, description("offer")),
    Answer: st.builds(Answer, description("answer")),
    Candidate: st.builds(Candidate, ICE_CANDIDATE),
    Chat: st.builds(Chat, text(1, CHAT_CHARACTERS)),
    Typing: st.builds(Typing, st.booleans()),
    Status: st.builds(
        Status,
        st.sampled_from(["connected", "failed"]),
        st.sampled_from([None, "host", "srflx", "prflx", "relay"]),
        st.sampled_from([None, "gathering", "checking", "dtls", "lost"]),
    ),
    Ice: st.just(Ice()),
    Resume: st.builds(Resume, text(1, TOKEN_CHARACTERS), st.integers(0, LARGEST_SEQ)),
    Ping: st.builds(Ping, st.none() | _TOKEN),
}

_RELAYABLE = st.one_of(*(CLIENT_MESSAGES[kind] for kind in (Offer, Answer, Candidate, Chat, Typing)))

_ICE_SERVERS = st.lists(
    st.builds(IceServer, st.lists(_ID, max_size=3).map(tuple), st.none() | _ID, st.none() | _ID), max_size=3
).map(tuple)
_POLICY = st.sampled_from(["all", "relay"])

SERVER_MESSAGES = {
    Welcome: st.builds(
        Welcome,
        session_id=_ID,
        limits=st.builds(Limits, _COUNT, _COUNT, _COUNT, _COUNT, _COUNT),
        features=st.lists(_TOPIC, max_size=4).map(tuple),
        ping_seconds=_SECONDS,
        resume_token=st.none() | _ID,
        resume_seconds=st.none() | _SECONDS,
    ),
    Ready: st.builds(Ready, _ID),
    Joined: st.builds(
        Joined,
        from_=_ID,
        username=_USERNAME,
        room_id=_ID,
        role=st.sampled_from(["offerer", "answerer"]),
        polite=st.booleans(),
        topics=_TOPICS,
        ice_servers=_ICE_SERVERS,
        ice_transport_policy=_POLICY,
        ttl_seconds=st.none() | _COUNT,
    ),
    IceRefreshed: st.builds(IceRefreshed, _ICE_SERVERS, _POLICY, st.none() | _COUNT),
    Relayed: st.builds(Relayed, _RELAYABLE, _ID, _ID, _ID, _USERNAME),
    Left: st.builds(Left, _ID, _ID, st.sampled_from(LeaveReason)),
    ErrorMessage: st.builds(
        ErrorMessage,
        code=st.sampled_from(ErrorCode),
        message=_TOKEN,
        ref=st.none() | _ID,
        fatal=st.booleans(),
        retry_after_seconds=st.none() | _SECONDS,
    ),
    Presence: st.builds(Presence, st.sampled_from(["away", "back"])),
    Resumed: st.builds(Resumed, _ID, _ID, _SECONDS, _COUNT),
    Pong: st.builds(Pong, st.none() | _TOKEN),
    GoAway: st.builds(GoAway, st.sampled_from(LeaveReason), _SECONDS),
}
