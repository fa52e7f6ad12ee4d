"""Every message of the server in every state of the client: what it changes, and that nothing else does."""

from collections.abc import Callable

import pytest

from tests.browser.scripted import RESUMABLE, WELCOME, Client, Connection, Harness, Message, joined

Setup = Callable[[Harness], tuple[Client, Connection]]


def connecting(harness: Harness) -> tuple[Client, Connection]:
    """The socket is open, and nothing was sent."""
    client = harness.client()
    return client, client.start(username="Ani")


def connected(harness: Harness) -> tuple[Client, Connection]:
    """`join` was sent, and not answered."""
    client, connection = connecting(harness)
    connection.send(WELCOME)
    connection.expect("join")
    return client, connection


def waiting(harness: Harness) -> tuple[Client, Connection]:
    client, connection = connected(harness)
    connection.send("ready", roomId="r-1")
    client.expect_event("statechange", state="waiting")
    return client, connection


def paired(harness: Harness) -> tuple[Client, Connection]:
    """It is the partner's turn to offer."""
    client, connection = waiting(harness)
    connection.send(joined("answerer"))
    client.expect_event("statechange", state="paired")
    return client, connection


def negotiating(harness: Harness) -> tuple[Client, Connection]:
    """The client's offer was sent."""
    client, connection = waiting(harness)
    connection.send(joined("offerer"))
    client.expect_event("statechange", state="negotiating")
    connection.expect("offer")
    harness.wait_until(
        lambda: any(not each["payload"]["candidate"] for each in connection.received), "the last candidate"
    )
    connection.received.clear()
    return client, connection


def leaving(harness: Harness) -> tuple[Client, Connection]:
    """`leave` was sent and not acknowledged, and no partner is wanted."""
    client, connection = paired(harness)
    client.evaluate("client.leave()")
    connection.expect("leave")
    return client, connection


def moving_on(harness: Harness) -> tuple[Client, Connection]:
    """`next` was sent and not acknowledged."""
    client, connection = paired(harness)
    client.evaluate("client.next()")
    connection.expect("next")
    return client, connection


def resuming(harness: Harness) -> tuple[Client, Connection]:
    """`resume` was sent over a second socket, for a session that was waiting."""
    client = harness.client()
    connection = client.start()
    connection.send(RESUMABLE)
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    client.expect_event("statechange", state="waiting")
    connection.end()
    client.expect_event("connection", phase="resuming")
    harness.advance(1)
    connection = client.next_connection()
    connection.send(RESUMABLE, sessionId="c-fresh")
    assert connection.expect("resume") == {"type": "resume", "token": "token-1", "lastSeq": 2}
    return client, connection


SETUPS: list[Setup] = [
    connecting,
    connected,
    waiting,
    paired,
    negotiating,
    leaving,
    moving_on,
    resuming,
]

SDP = "what no browser can apply"
RELAYED = {"from": "c-you", "to": "c-me", "roomId": "r-1", "username": "Budi"}
MESSAGES: dict[str, Message] = {
    "welcome": WELCOME,
    "resumed": {"type": "resumed", "resumeToken": "token-2", "resumeSeconds": 30},
    "ready": {"type": "ready", "roomId": "r-1"},
    "join": joined("answerer"),
    "offer": {"type": "offer", "payload": {"type": "offer", "sdp": SDP}, **RELAYED},
    "answer": {"type": "answer", "payload": {"type": "answer", "sdp": SDP}, **RELAYED},
    "candidate": {"type": "candidate", "payload": {"candidate": "", "sdpMid": "0"}, **RELAYED},
    "chat": {"type": "chat", "text": "halo", **RELAYED},
    "typing": {"type": "typing", "active": True, **RELAYED},
    "partner's media": {"type": "media", "audio": False, "video": True, **RELAYED},
    "away": {"type": "peer", "state": "away", **RELAYED},
    "back": {"type": "peer", "state": "back", **RELAYED},
    "partner's leave": {"type": "leave", "from": "c-you", "roomId": "r-1", "reason": "left"},
    "own leave": {"type": "leave", "from": "c-me", "roomId": "r-1", "reason": "left"},
    "wrong_state": {"type": "error", "code": "wrong_state", "message": "", "fatal": False, "ref": "candidate"},
    "unsupported": {"type": "error", "code": "unsupported", "message": "", "fatal": False, "ref": "chat"},
    "pong": {"type": "pong"},
    "goaway": {"type": "goaway", "reason": "server_shutdown", "retryAfterSeconds": 5},
    "ice": {"type": "ice", "iceServers": [], "iceTransportPolicy": "all", "ttlSeconds": 600},
    "unknown": {"type": "tomorrow", "payload": 1},
}

TRANSITIONS = {
    ("connecting", "welcome"): "connected",
    ("connected", "ready"): "waiting",
    ("waiting", "join"): "paired",
    ("waiting", "own leave"): "connected",
    ("waiting", "partner's leave"): "connected",
    ("paired", "offer"): "negotiating",
    ("paired", "partner's leave"): "connected",
    ("paired", "own leave"): "connected",
    ("negotiating", "partner's leave"): "connected",
    ("negotiating", "own leave"): "connected",
}
"""The only pairs that change the state."""

REPLIES = {
    ("connecting", "welcome"): ["join"],
    ("resuming", "resumed"): ["ping"],
}
"""The only pairs to which the client replies."""

EVENTS = {
    ("paired", "chat"): {"chat"},
    ("negotiating", "chat"): {"chat"},
    ("paired", "typing"): {"typing"},
    ("negotiating", "typing"): {"typing"},
    ("paired", "partner's media"): {"partnermedia"},
    ("negotiating", "partner's media"): {"partnermedia"},
    ("paired", "away"): {"away"},
    ("negotiating", "away"): {"away"},
    ("connecting", "welcome"): {"statechange", "connection"},
    ("resuming", "resumed"): {"connection"},
    ("connected", "ready"): {"statechange"},
    ("waiting", "join"): {"statechange", "paired", "media"},
    ("paired", "offer"): {"statechange"},
    **{
        (state, leave): {"statechange", "partnerleft"}
        for state in ("waiting", "paired", "negotiating")
        for leave in ("partner's leave", "own leave")
    },
    **{
        (state, leave): {"statechange", "remotestream", "partnerleft"}
        for state in ("paired", "negotiating")
        for leave in ("partner's leave", "own leave")
    },
    **{(setup.__name__, "unsupported"): {"refused"} for setup in SETUPS if setup is not resuming},
}
"""The only pairs that dispatch events other than `log`."""


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.__name__)
def test_each_message_has_the_specified_effect_in_each_state(harness: Harness, setup: Setup, name: str) -> None:
    client, connection = setup(harness)
    pair = (setup.__name__, name)
    before = client.state
    client.evaluate("events.splice(0)")
    connection.send(MESSAGES[name])
    client.wait_for_receipt(connection)
    assert client.state == TRANSITIONS.get(pair, before)
    names: list[str] = client.evaluate("events.map(({ name }) => name).filter((name) => name !== 'log')")
    assert set(names) == EVENTS.get(pair, set())
    assert [message["type"] for message in connection.received] == REPLIES.get(pair, [])


GARBAGE: list[str | bytes] = [
    "",
    "{",
    "null",
    "0",
    "[]",
    '"welcome"',
    '["type", "welcome"]',
    "{}",
    '{"type": null}',
    '{"type": 1}',
    '{"type": ["leave"]}',
    '{"type": "__proto__"}',
    '{"type": "constructor"}',
    '{"type": "toString"}',
    '{"type": "hasOwnProperty"}',
    '{"__proto__": {"type": "leave", "from": "c-you", "roomId": "r-1", "reason": "left"}}',
    '{"type": "welcome"}',
    '{"type": "welcome", "sessionId": 5}',
    '{"type": "resumed"} trailing',
    '{"type": "ready"}',
    '{"type": "ready", "roomId": {}}',
    '{"type": "join"}',
    '{"type": "join", "from": "c-you", "roomId": "r-1", "role": "host", "polite": true}',
    '{"type": "join", "from": "c-you", "roomId": "r-1", "role": "offerer"}',
    '{"type": "leave", "roomId": "r-1"}',
    '{"type": "leave", "from": "c-you", "roomId": 1, "reason": "left"}',
    *(
        f'{{"type": "{kind}", "from": "c-you", "roomId": "r-1", "payload": {payload}}}'
        for kind in ("offer", "answer", "candidate")
        for payload in ("null", "[]", '"v=0"', "{}", '{"sdp": null, "candidate": 3}')
    ),
    '{"type": "offer", "from": "c-you", "roomId": "r-0", "payload": {"type": "offer", "sdp": "v=0"}}',
    '{"type": "chat", "from": "c-you", "roomId": "r-1"}',
    '{"type": "chat", "from": "c-you", "roomId": "r-1", "text": {"toString": null}}',
    '{"type": "chat", "from": "c-you", "roomId": "r-0", "text": "from another room"}',
    '{"type": "chat", "from": "c-you", "text": "from no room"}',
    '{"type": "typing", "from": "c-you", "roomId": "r-1", "active": "yes"}',
    '{"type": "peer", "state": "asleep"}',
    '{"type": "peer", "state": "away", "from": "c-you"}',
    '{"type": "peer", "state": "away", "from": "c-you", "roomId": "r-0"}',
    '{"type": "media", "from": "c-you", "roomId": "r-1", "audio": "off", "video": true}',
    '{"type": "media", "from": "c-you", "roomId": "r-0", "audio": false, "video": true}',
    '{"type": "error"}',
    '{"type": "error", "code": {}}',
    '{"type": "ice", "iceServers": "stun:example.org"}',
    '{"type": "pong", "seq": 1e300}',
    '{"type": "pong", "seq": 9007199254740991}',
    '{"type": "pong", "seq": -1}',
    '{"type": "pong", "seq": "2"}',
    '{"type": "goaway", "retryAfterSeconds": "soon"}',
    "[" * 5000 + "]" * 5000,
    "x" * 100_000,
    b"\x00\xff",
    b'{"type":"leave","from":"c-you","roomId":"r-1","reason":"left"}',
]


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.__name__)
def test_invalid_messages_change_nothing(harness: Harness, setup: Setup) -> None:
    client, connection = setup(harness)
    before = client.state
    client.evaluate("events.splice(0)")
    for data in GARBAGE:
        connection.send_raw(data)
    client.wait_for_receipt(connection)
    assert client.evaluate("events.filter(({ name }) => name !== 'log')") == []
    assert client.state == before
    connection.expect_no_more()


@pytest.mark.shows("P-2.2", "P-2.7", "P-2.15")
def test_subprotocol_and_username_are_sent_with_the_handshake(harness: Harness) -> None:
    client = harness.client()
    connection = client.start(username="Ani & Budi")
    assert harness.page.evaluate("opened.protocols") == ["curhat.v1"]
    assert connection.url.endswith("?username=Ani+%26+Budi")
    connection.send(WELCOME, news={"of": "tomorrow"})
    assert connection.expect("join") == {"type": "join", "username": "Ani & Budi"}


def test_a_session_works_in_spite_of_invalid_messages(harness: Harness) -> None:
    client = harness.client()
    connection = client.start(username="Ani")

    def garble() -> None:
        for data in GARBAGE:
            connection.send_raw(data)

    garble()
    connection.send(WELCOME)
    garble()
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    garble()
    connection.send(joined("answerer"))
    garble()
    connection.send(MESSAGES["chat"])
    client.expect_event("chat", text="halo", username="Budi")
    garble()
    connection.send(MESSAGES["partner's leave"])
    client.expect_event("partnerleft", reason="left")
    client.evaluate("client.start()")
    assert connection.expect("join") == {"type": "join", "username": "Ani"}  # as the last time


def test_a_message_with_an_earlier_seq_is_ignored(harness: Harness) -> None:
    client, connection = paired(harness)
    chat = {**MESSAGES["chat"], "seq": 4}
    for _ in range(3):
        connection.send(chat)
    connection.send(WELCOME, seq=1)
    connection.send("ready", roomId="r-1", seq=2)
    connection.send(joined("answerer"), seq=3)
    connection.send({**chat, "text": "next", "seq": 5})
    client.wait_for_receipt(connection)
    assert [event["text"] for event in client.events("chat")] == ["halo", "next"]
    assert client.state == "paired"


def test_messages_out_of_order_are_ignored(harness: Harness) -> None:
    client, connection = waiting(harness)
    connection.send({**MESSAGES["chat"], "seq": 5})
    connection.send(joined("answerer"), seq=3)
    connection.send({**MESSAGES["partner's leave"], "seq": 4})
    connection.send({**MESSAGES["chat"], "seq": 6})
    client.wait_for_receipt(connection)
    assert client.state == "waiting"
    connection.send(joined("answerer"), seq=7)
    client.expect_event("paired")
    connection.send({**MESSAGES["chat"], "text": "now", "seq": 8})
    client.expect_event("chat", text="now")


@pytest.mark.parametrize("numbered", [True, False])
def test_a_session_works_if_every_message_is_repeated(harness: Harness, numbered: bool) -> None:
    client = harness.client()
    connection = client.start()
    number = 0

    def twice(message: Message) -> None:
        nonlocal number
        number += 1
        seq = {"seq": number} if numbered else {"seq": None}
        connection.send(message, **seq)
        connection.send(message, **seq)

    twice(WELCOME)
    connection.expect("join")
    twice(MESSAGES["ready"])
    twice(MESSAGES["join"])
    twice(MESSAGES["away"])
    twice(MESSAGES["back"])
    twice(MESSAGES["partner's leave"])
    client.expect_event("partnerleft", reason="left")
    client.wait_for_receipt(connection)
    assert client.events("partnerleft") == []
    states = [event["state"] for event in client.events("statechange")]
    assert states == ["connected", "waiting", "paired", "connected"]
    assert [event["away"] for event in client.events("away")] == [True, False]
    client.evaluate("client.start()")
    connection.expect("join")
    connection.expect_no_more()


# ---------------------------------------------------------------- leave and next, and what crosses them


@pytest.mark.parametrize("bring_to", [waiting, paired])
def test_an_unknown_reason_ends_a_pairing_or_a_wait_as_any_other(harness: Harness, bring_to: Setup) -> None:
    client, connection = bring_to(harness)
    connection.send(MESSAGES["partner's leave"], reason="of tomorrow")
    client.expect_event("partnerleft", reason="of tomorrow")
    assert client.evaluate("[client.state, client.wantsPartner]") == ["connected", False]
    harness.advance(12)
    client.wait_for_receipt(connection)
    connection.expect_no_more()


@pytest.mark.shows("P-4.9")
@pytest.mark.parametrize("kind", ["leave", "next"])
def test_a_refused_leave_or_next_counts_as_acknowledged(harness: Harness, kind: str) -> None:
    client, connection = paired(harness)
    client.evaluate(f"client.{kind}()")
    assert client.evaluate("client.leaving") == kind
    connection.expect(kind)
    connection.send(MESSAGES["partner's leave"])
    connection.send("error", code="wrong_state", message="", fatal=False, ref=kind)
    client.wait_for_receipt(connection)
    assert client.evaluate("client.leaving") is None
    assert client.state == "connected"
    assert client.events("partnerleft") == []
    if kind == "leave":
        connection.expect_no_more()
        client.evaluate("client.start()")
    connection.expect("join")


@pytest.mark.shows("P-4.8")
def test_messages_of_the_old_room_are_ignored_after_next(harness: Harness) -> None:
    client, connection = paired(harness)
    client.evaluate("client.next()")
    connection.expect("next")
    for name in ("chat", "typing", "partner's media", "offer", "candidate", "away"):
        connection.send(MESSAGES[name])
    connection.send(MESSAGES["own leave"], reason="next")
    connection.send("ready", roomId="r-2")
    connection.send(joined("answerer", roomId="r-2", **{"from": "c-third", "username": "Citra"}))
    client.expect_event("paired")
    connection.send(MESSAGES["chat"])
    connection.send(MESSAGES["chat"], roomId="r-2", text="hai")
    client.wait_for_receipt(connection)
    assert client.events("chat") == [{"text": "hai", "username": "Citra"}]
    assert client.events("typing") == client.events("partnermedia") == client.events("away") == []
    assert client.evaluate("client.partner.username") == "Citra"


def test_a_late_leave_from_another_room_does_not_end_the_wait(harness: Harness) -> None:
    client, connection = waiting(harness)
    connection.send("ready", roomId="r-2")
    for name in ("own leave", "partner's leave"):
        connection.send(MESSAGES[name], roomId="r-1")
    client.wait_for_receipt(connection)
    assert client.state == "waiting"
    connection.send(MESSAGES["own leave"], roomId="r-2")
    assert client.expect_event("partnerleft")["partner"] is None


def test_start_after_leave_joins_once_the_leave_is_acknowledged(harness: Harness) -> None:
    client, connection = waiting(harness)
    client.evaluate("(client.leave(), client.start({ username: 'Ani', topics: ['music'] }))")
    connection.expect("leave")
    connection.expect_no_more()
    connection.send(MESSAGES["own leave"])
    assert connection.expect("join") == {"type": "join", "username": "Ani", "topics": ["music"]}


def test_without_the_feature_next_is_leave_and_join(harness: Harness) -> None:
    client = harness.client()
    connection = client.start()
    connection.send(WELCOME, features=["chat"])
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    connection.send(joined("answerer"))
    client.expect_event("paired")
    client.evaluate("client.next()")
    connection.expect("leave")
    connection.send(MESSAGES["own leave"])
    connection.expect("join")


def test_a_listener_may_call_any_method_during_an_event(harness: Harness) -> None:
    client, connection = paired(harness)
    client.evaluate("""(() => {
        client.addEventListener("remotestream", () => client.start({ username: "Citra" }));
    })()""")
    connection.send(MESSAGES["partner's leave"])
    assert connection.expect("join")["username"] == "Citra"
    connection.send("ready", roomId="r-2")
    client.expect_event("statechange", state="waiting")


@pytest.mark.shows("P-8.4", "P-4.2")
@pytest.mark.parametrize("code", ["bad_message", "unknown_type", "wrong_state", "not_your_turn", "strange"])
@pytest.mark.parametrize("ref", ["offer", "candidate", "chat", "status", "ping", None])
def test_an_error_that_is_not_fatal_ends_nothing(harness: Harness, code: str, ref: str | None) -> None:
    client, connection = negotiating(harness)
    connection.send("error", code=code, message="", fatal=False, **({"ref": ref} if ref else {}))
    client.wait_for_receipt(connection)
    assert client.state == "negotiating"
    refused = [event["code"] for event in client.events("refused")]
    assert refused == ([] if code in ("wrong_state", "not_your_turn") else [code])
    connection.expect_no_more()


def test_a_refused_join_is_reported_and_not_repeated(harness: Harness) -> None:
    client, connection = connected(harness)
    connection.send("error", code="bad_message", message="topics: too many", fatal=False, ref="join")
    assert client.expect_event("refused", ref="join")["message"] == "topics: too many"
    assert client.evaluate("client.wantsPartner") is False
    connection.expect_no_more()


def test_a_rate_limited_join_is_sent_again_after_the_pause(harness: Harness) -> None:
    client, connection = connected(harness)
    connection.send("error", code="rate_limited", message="", fatal=False, retryAfterSeconds=3)
    assert client.expect_event("refused", code="rate_limited")["retryAfterSeconds"] == 3
    harness.advance(2.9)
    client.wait_for_receipt(connection)
    connection.expect_no_more()
    harness.advance(0.1)
    connection.send("pong", data=connection.expect("ping")["data"])
    connection.expect("join")


def test_a_rate_limited_next_is_sent_again_after_the_pause(harness: Harness) -> None:
    client, connection = moving_on(harness)
    connection.send("error", code="rate_limited", message="", fatal=False, retryAfterSeconds=3)
    client.wait_for_receipt(connection)
    harness.advance(3)
    connection.send("pong", data=connection.expect("ping")["data"])
    connection.expect("next")
    connection.send(MESSAGES["own leave"], reason="next")
    connection.send("ready", roomId="r-2")
    client.expect_event("statechange", state="waiting")


def refuse(connection: Connection, number: str, ref: str | None, seconds: float = 3) -> None:
    """Refuse the message with this id."""
    connection.send(
        "error", code="rate_limited", message="", fatal=False, retryAfterSeconds=seconds, id=number, ref=ref
    )


@pytest.mark.shows("P-7.7")
def test_a_rate_limited_join_is_found_by_its_id_and_sent_again(harness: Harness) -> None:
    client, connection = connected(harness)
    refuse(connection, connection.ids[-1], None)
    refused = client.expect_event("refused", code="rate_limited")
    assert refused["retrying"] is True
    harness.advance(2.9)
    client.wait_for_receipt(connection)
    connection.expect_no_more()
    harness.advance(0.2)
    connection.expect("join")
    assert connection.ids[0] == connection.ids[-1]
    connection.expect_no_more()


@pytest.mark.shows("P-7.7")
def test_rate_limited_messages_of_a_pairing_are_sent_again_in_order(harness: Harness) -> None:
    client, connection = with_media(harness)
    client.evaluate("(client.chat('a'), client.chat('b'), client.chat('c'), client.setMedia({ audio: false }))")
    client.evaluate("(client.typing(true), client.typing(false))")
    kinds = [connection.expect(kind)["type"] for kind in ("chat", "chat", "chat", "media", "typing", "typing")]
    chat_a, _, chat_c, media, begun, ended = connection.ids[-len(kinds) :]
    for number in (chat_c, chat_a, media, begun, ended):
        refuse(connection, number, None)
        client.wait_for_receipt(connection)
    client.evaluate("client.setMedia({ audio: false, video: false })")
    connection.expect("media")
    harness.advance(3.1)
    assert [connection.expect("chat")["text"] for _ in "ac"] == ["a", "c"]
    assert connection.expect("media") == {"type": "media", "audio": False, "video": False}  # as it is now
    assert connection.expect("typing")["active"] is False
    connection.expect_no_more()


def test_a_rate_limited_offer_and_candidate_are_sent_again(harness: Harness) -> None:
    client, connection = waiting(harness)
    connection.send(joined("offerer"))
    connection.expect("offer")
    harness.wait_until(lambda: len(connection.ids) > 2, "candidates")
    _, offer, candidate, *_ = connection.ids
    refuse(connection, candidate, "candidate")
    refuse(connection, offer, "offer")
    client.wait_for_receipt(connection)
    connection.received.clear()
    harness.advance(3.1)
    connection.expect("offer")
    assert connection.expect("candidate")["payload"]["candidate"].startswith("candidate:")
    connection.expect_no_more()


def test_a_rate_limited_message_of_an_earlier_pairing_is_not_sent_again(harness: Harness) -> None:
    client, connection = paired(harness)
    client.evaluate("client.chat('to the first')")
    connection.expect("chat")
    refuse(connection, connection.ids[-1], "chat")
    client.evaluate("client.next()")
    connection.expect("next")
    connection.send(MESSAGES["own leave"], reason="next")
    connection.send("ready", roomId="r-2")
    connection.send(joined("answerer", roomId="r-2"))
    client.wait_for_receipt(connection)
    harness.advance(4)
    client.wait_for_receipt(connection)
    assert client.state == "paired"
    connection.expect_no_more()


def test_later_refusals_do_not_delay_the_ones_before(harness: Harness) -> None:
    client, connection = paired(harness)
    for text in "abc":
        client.evaluate("client.chat(given[0])", text)
        connection.expect("chat")
        refuse(connection, connection.ids[-1], "chat")
        client.wait_for_receipt(connection)
        harness.advance(1.4)
    assert connection.expect("chat")["text"] == "a"
    connection.expect_no_more()


def test_an_error_about_another_message_does_not_refuse_the_leave(harness: Harness) -> None:
    client, connection = moving_on(harness)
    connection.send("error", code="wrong_state", message="", fatal=False, ref="next", id="another")
    client.wait_for_receipt(connection)
    assert client.evaluate("client.leaving") == "next"
    connection.send("error", code="wrong_state", message="", fatal=False, ref="next", id=connection.ids[-1])
    connection.expect("join")


# ---------------------------------------------------------------- what the client sends


def resume(harness: Harness, client: Client, connection: Connection, seconds: float) -> None:
    """Advance the clock, while the server answers pings."""
    while seconds > 0:
        harness.advance(min(seconds, 9))
        connection.send("pong")
        client.wait_for_receipt(connection)
        seconds -= 9


@pytest.mark.shows("P-3.4")
def test_join_stays_within_the_limits_of_welcome(harness: Harness) -> None:
    client = harness.client()
    connection = client.start(username="A\tni" + "🙂" * 100, topics=["a " * 40, "b", "B ", "", "c", "d", "e", "f"])
    limits = {**WELCOME["limits"], "usernameCharacters": 10, "topicCharacters": 4}
    connection.send(WELCOME, limits=limits)
    join = connection.expect("join")
    assert join["username"] == "Ani" + "🙂" * 7
    assert join["topics"] == ["a a", "b", "c", "d", "e"]
    assert "username=Ani" in connection.url


@pytest.mark.shows("P-2.17")
@pytest.mark.parametrize("native", [True, False])
def test_half_an_emoji_is_sent_as_a_replacement_character(harness: Harness, native: bool) -> None:
    hide = "(window.kept = String.prototype.toWellFormed, delete String.prototype.toWellFormed)"
    if not native:
        harness.page.evaluate(hide)
    client = harness.client()
    texts = {"username": "String.fromCharCode(0xd83d) + 'Ani'", "room": "'r' + String.fromCharCode(0xdc00)"}
    fields = ", ".join(f"{name}: {text}" for name, text in texts.items())
    client.evaluate(f"client.start({{ {fields}, topics: [String.fromCharCode(0xd83d) + '🙂'] }})")
    connection = client.next_connection()
    assert "username=%EF%BF%BDAni" in connection.url
    connection.send(WELCOME)
    join = {"type": "join", "username": "\ufffdAni", "room": "r\ufffd", "topics": ["\ufffd🙂"]}
    assert connection.expect("join") == join
    connection.send("ready", roomId="r-1")
    connection.send(joined("answerer"))
    client.expect_event("paired")
    assert client.evaluate("client.chat('🙂' + String.fromCharCode(0xd83d))") is True
    assert connection.expect("chat")["text"] == "🙂\ufffd"
    client.evaluate("client.leave(String.fromCharCode(0xd83d))")
    assert connection.expect("leave")["reason"] == "\ufffd"
    if not native:
        harness.page.evaluate("(String.prototype.toWellFormed = window.kept, delete window.kept)")


@pytest.mark.parametrize("room", ["", "r" * 65])
def test_an_invalid_room_throws(harness: Harness, room: str) -> None:
    client = harness.client()
    name = client.evaluate(
        "(() => { try { client.start({ room: given[0] }) } catch (e) { return e.name } })()", room
    )
    assert name == "RangeError"
    assert client.evaluate("client.active") is False


def test_chat_length_is_counted_in_code_points(harness: Harness) -> None:
    client, connection = paired(harness)
    assert client.evaluate("client.chat(given[0])", "🙂" * 2000) is True
    assert connection.expect("chat")["text"] == "🙂" * 2000
    assert client.evaluate("client.chat(given[0])", "x" * 2001) is False
    assert client.evaluate("client.chat('  ')") is False
    connection.expect_no_more()


@pytest.mark.shows("P-2.12")
def test_a_message_over_the_byte_limit_is_not_sent(harness: Harness) -> None:
    client = harness.client()
    connection = client.start()
    connection.send(WELCOME, limits={**WELCOME["limits"], "messageBytes": 200})
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    connection.send(joined("answerer"))
    client.expect_event("paired")
    assert client.evaluate("client.chat(given[0])", "é" * 90) is False
    assert client.evaluate("client.chat(given[0])", "e" * 90) is True
    connection.expect("chat")


@pytest.mark.shows("P-3.2")
def test_messages_of_missing_features_are_not_sent(harness: Harness) -> None:
    client = harness.client()
    connection = client.start()
    connection.send(WELCOME, features=[])
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    connection.send(joined("answerer"))
    client.expect_event("paired")
    attempts = "[client.chat('halo'), client.report('rude'), client.block(), client.typing(true)]"
    assert client.evaluate(attempts) == [False, False, False, None]
    resume(harness, client, connection, 100)
    assert client.state == "paired"
    connection.expect_no_more()


def test_typing_is_sent_when_it_changes_and_ends_with_a_chat(harness: Harness) -> None:
    client, connection = paired(harness)
    client.evaluate("(client.typing(true), client.typing(true))")
    assert connection.expect("typing") == {"type": "typing", "active": True}
    client.evaluate("(client.chat('halo'), client.typing(false), client.typing(true), client.typing(false))")
    connection.expect("chat")
    assert [connection.expect("typing")["active"], connection.expect("typing")["active"]] == [True, False]
    connection.expect_no_more()


def test_the_partners_typing_ends_with_a_chat_an_interruption_or_the_pairing(harness: Harness) -> None:
    client, connection = paired(harness)
    for ending in ("chat", "away", "partner's leave"):
        connection.send(MESSAGES["typing"])
        client.expect_event("typing", active=True)
        connection.send(MESSAGES[ending])
        client.expect_event("typing", active=False)


def with_media(harness: Harness) -> tuple[Client, Connection]:
    """A pairing on a server that relays `media`, with camera and microphone."""
    client = harness.client()
    client.evaluate("(window.own = given[0], client.setLocalStream(window.own))", harness.stream())
    connection = client.start()
    connection.send(WELCOME, features=[*WELCOME["features"], "media"])
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    connection.send(joined("answerer"))
    client.expect_event("paired")
    return client, connection


@pytest.mark.shows("P-3.20")
def test_a_microphone_or_camera_that_is_switched_is_announced(harness: Harness) -> None:
    client, connection = with_media(harness)
    harness.advance(1)
    client.wait_for_receipt(connection)
    connection.expect_no_more()  # both are on
    client.evaluate("window.own.getAudioTracks()[0].enabled = false")
    harness.advance(1)
    assert connection.expect("media") == {"type": "media", "audio": False, "video": True}
    client.evaluate("(window.own.getVideoTracks()[0].stop(), window.own.getAudioTracks()[0].enabled = true)")
    harness.advance(1)
    assert connection.expect("media") == {"type": "media", "audio": True, "video": False}
    client.evaluate("client.setLocalStream(null)")
    assert connection.expect("media") == {"type": "media", "audio": False, "video": False}
    harness.advance(5)
    client.wait_for_receipt(connection)
    connection.expect_no_more()


@pytest.mark.shows("P-3.20")
def test_what_is_off_is_announced_to_every_new_partner(harness: Harness) -> None:
    client, connection = with_media(harness)
    client.evaluate("client.setMedia({ video: false })")
    assert connection.expect("media") == {"type": "media", "audio": True, "video": False}
    for room in ("r-2", "r-3"):
        client.evaluate("client.next()")
        connection.expect("next")
        connection.send(MESSAGES["own leave"], reason="next")
        connection.send("ready", roomId=room)
        connection.send(joined("answerer", roomId=room))
        assert connection.expect("media") == {"type": "media", "audio": True, "video": False}
    client.evaluate("client.setMedia({})")
    assert connection.expect("media") == {"type": "media", "audio": True, "video": True}


def test_no_media_is_sent_to_a_server_without_the_feature(harness: Harness) -> None:
    client, connection = paired(harness)
    client.evaluate("client.setMedia({ audio: false, video: false })")
    harness.advance(1)
    client.wait_for_receipt(connection)
    connection.expect_no_more()


def test_a_partners_media_counts_as_on_again_at_the_end_of_the_pairing(harness: Harness) -> None:
    client, connection = paired(harness)
    for _ in range(2):
        connection.send(MESSAGES["partner's media"])
    client.expect_event("partnermedia", audio=False, video=True)
    assert client.evaluate("client.partnerMedia") == {"audio": False, "video": True}
    connection.send(MESSAGES["partner's leave"])
    client.expect_event("partnerleft")
    assert client.events("partnermedia") == [{"audio": True, "video": True}]
    assert client.evaluate("client.partnerMedia") == {"audio": True, "video": True}


def test_a_partner_is_back_when_the_server_sends_peer_back(harness: Harness) -> None:
    client, connection = paired(harness)
    connection.send(MESSAGES["away"])
    connection.send({**MESSAGES["back"], "state": "asleep"})
    connection.send(MESSAGES["back"], roomId="r-0")
    client.wait_for_receipt(connection)
    assert client.events("away") == [{"away": True}]
    connection.send(MESSAGES["back"])
    client.expect_event("away", away=False)


def test_report_and_block_are_possible_after_a_pairing(harness: Harness) -> None:
    client, connection = paired(harness)
    connection.send(MESSAGES["partner's leave"])
    client.expect_event("partnerleft")
    assert (
        client.evaluate("[client.report('rude', 'shouted'), client.report('spam'), client.block()]") == [True] * 3
    )
    assert connection.expect("report") == {"type": "report", "reason": "rude", "detail": "shouted"}
    assert connection.expect("report") == {"type": "report", "reason": "spam"}
    connection.expect("block")


def test_turn_credentials_are_renewed_before_they_expire(harness: Harness) -> None:
    client, connection = waiting(harness)
    connection.send(joined("answerer", ttlSeconds=80))
    client.expect_event("paired")
    servers = [{"urls": "turn:127.0.0.1:9", "username": "u", "credential": "c"}]
    resume(harness, client, connection, 60)
    connection.expect("ice")
    connection.send("ice", iceServers=servers, iceTransportPolicy="relay", ttlSeconds=400)
    client.wait_for_receipt(connection)
    configuration = client.evaluate("client.pc.getConfiguration()")
    assert configuration["iceTransportPolicy"] == "relay"
    assert configuration["iceServers"][0]["urls"] == ["turn:127.0.0.1:9"]
    connection.received.clear()
    resume(harness, client, connection, 299)
    connection.expect_no_more()
    resume(harness, client, connection, 1)
    connection.expect("ice")
    connection.send("ice", iceServers=[{"urls": "nonsense"}], iceTransportPolicy="all", ttlSeconds=1e300)
    client.wait_for_receipt(connection)
    connection.send(MESSAGES["partner's leave"])
    client.expect_event("partnerleft")


def test_ice_servers_are_asked_for_again_if_none_come(harness: Harness) -> None:
    client, connection = waiting(harness)
    connection.send(joined("answerer", ttlSeconds=80))
    client.expect_event("paired")
    resume(harness, client, connection, 60)
    connection.expect("ice")
    resume(harness, client, connection, 30)
    connection.expect("ice")


def test_a_failing_peer_connection_constructor_is_reported_as_failed(harness: Harness) -> None:
    client, connection = waiting(harness)
    connection.send(joined("offerer", iceServers=[{"urls": "nonsense"}]))
    assert client.expect_event("media", media="failed")["stage"] == "gathering"
    assert client.evaluate("client.chat('can you read this?')") is True
    connection.expect("chat")
