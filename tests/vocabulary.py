"""Hypothesis strategies for every message, from the limits that are declared with its fields."""

from hypothesis import strategies as st

from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import ErrorCode, LeaveReason

_SOME = 40
"""The maximum length of generated strings, except those of exactly the allowed length."""


_ANY = st.characters(exclude_categories=["Cs"])
_PRINTABLE = st.characters(exclude_categories=["Cs", "Cc"])


def text(low: int, high: int, characters: st.SearchStrategy[str] = _ANY) -> st.SearchStrategy[str]:
    few = st.text(characters, min_size=low, max_size=min(high, _SOME))
    return few | characters.map(lambda character: character * high)


_TOKEN = text(0, messages.TOKEN_CHARACTERS)
_ID = text(1, 32)
_MESSAGE_ID = st.none() | text(0, messages.ID_CHARACTERS)
_TOPIC = text(1, messages.TOPIC_CHARACTERS)
_USERNAME = text(1, messages.USERNAME_CHARACTERS, _PRINTABLE)
_SECONDS = st.floats(0, 1e9)
_COUNT = st.integers(0, 1 << 53)
_TOPICS = st.lists(_TOPIC, max_size=messages.TOPICS).map(tuple)


def description(kind: str) -> st.SearchStrategy[messages.Description]:
    return st.builds(messages.Description, st.just(kind), text(1, 1 << 12))


ICE_CANDIDATE = st.builds(
    messages.IceCandidate,
    candidate=text(0, messages.CANDIDATE_CHARACTERS),
    sdpMid=st.none() | _TOKEN,
    sdpMLineIndex=st.none() | st.integers(0, 65535),
    usernameFragment=st.none() | _TOKEN,
)

CLIENT_MESSAGES = {
    messages.Join: st.builds(
        messages.Join, st.none() | _USERNAME, _TOPICS, st.none() | text(1, messages.ROOM_CHARACTERS)
    ),
    messages.Leave: st.builds(messages.Leave, st.none() | _TOKEN),
    messages.Next: st.builds(messages.Next, st.none() | _TOKEN),
    messages.Offer: st.builds(messages.Offer, description("offer")),
    messages.Answer: st.builds(messages.Answer, description("answer")),
    messages.Candidate: st.builds(messages.Candidate, ICE_CANDIDATE),
    messages.Chat: st.builds(messages.Chat, text(1, messages.CHAT_CHARACTERS)),
    messages.Typing: st.builds(messages.Typing, st.booleans()),
    messages.Media: st.builds(messages.Media, st.booleans(), st.booleans()),
    messages.Status: st.builds(
        messages.Status,
        st.sampled_from(["connected", "failed"]),
        st.sampled_from([None, "host", "srflx", "prflx", "relay"]),
        st.sampled_from([None, "gathering", "checking", "dtls", "lost"]),
    ),
    messages.Ice: st.just(messages.Ice()),
    messages.Resume: st.builds(
        messages.Resume, text(1, messages.TOKEN_CHARACTERS), st.integers(0, messages.LARGEST_SEQ)
    ),
    messages.Ping: st.builds(messages.Ping, st.none() | _TOKEN),
}

RELAYABLE = st.one_of(*(CLIENT_MESSAGES[kind] for kind in messages.RELAYED.values()))

_ICE_SERVERS = st.lists(
    st.builds(messages.IceServer, st.lists(_ID, max_size=3).map(tuple), st.none() | _ID, st.none() | _ID),
    max_size=3,
).map(tuple)
_POLICY = st.sampled_from(["all", "relay"])

SERVER_MESSAGES = {
    messages.Welcome: st.builds(
        messages.Welcome,
        session_id=_ID,
        limits=st.builds(messages.Limits, _COUNT, _COUNT, _COUNT, _COUNT, _COUNT),
        features=st.lists(_TOPIC, max_size=4).map(tuple),
        ping_seconds=_SECONDS,
        resume_token=st.none() | _ID,
        resume_seconds=st.none() | _SECONDS,
    ),
    messages.Ready: st.builds(messages.Ready, _ID, _MESSAGE_ID),
    messages.Joined: st.builds(
        messages.Joined,
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
    messages.IceRefreshed: st.builds(
        messages.IceRefreshed, _ICE_SERVERS, _POLICY, st.none() | _COUNT, _MESSAGE_ID
    ),
    messages.Relayed: st.builds(messages.Relayed, RELAYABLE, _ID, _ID, _ID, _USERNAME),
    messages.Left: st.builds(messages.Left, _ID, _ID, st.sampled_from(LeaveReason), _MESSAGE_ID),
    messages.ErrorMessage: st.builds(
        messages.ErrorMessage,
        code=st.sampled_from(ErrorCode),
        message=_TOKEN,
        ref=st.none() | _ID,
        fatal=st.booleans(),
        retry_after_seconds=st.none() | _SECONDS,
        id=_MESSAGE_ID,
    ),
    messages.Presence: st.builds(messages.Presence, _ID, _ID, st.sampled_from(["away", "back"])),
    messages.Resumed: st.builds(messages.Resumed, _ID, _ID, _SECONDS, _COUNT, _MESSAGE_ID),
    messages.Pong: st.builds(messages.Pong, _COUNT, st.none() | _TOKEN, _MESSAGE_ID),
    messages.GoAway: st.builds(messages.GoAway, st.sampled_from(LeaveReason), _SECONDS),
}
