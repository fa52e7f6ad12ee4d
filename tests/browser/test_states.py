"""Every message of the server in every situation of the client: what it changes, and that nothing else does."""

from collections.abc import Callable

import pytest

from .scripted import RESUMABLE, WELCOME, Client, Line, Message, Stage, joined

Situation = Callable[[Stage], tuple[Client, Line]]


def connecting(stage: Stage) -> tuple[Client, Line]:
    """The socket is open, nothing was said."""
    client = stage.client()
    return client, client.start(username="Ani")


def connected(stage: Stage) -> tuple[Client, Line]:
    """Has asked for a partner, and not been answered."""
    client, line = connecting(stage)
    line.says(WELCOME)
    line.hears("join")
    return client, line


def waiting(stage: Stage) -> tuple[Client, Line]:
    client, line = connected(stage)
    line.says("ready", roomId="r-1")
    client.tells("statechange", state="waiting")
    return client, line


def paired(stage: Stage) -> tuple[Client, Line]:
    """It is the partner's turn to offer."""
    client, line = waiting(stage)
    line.says(joined("answerer"))
    client.tells("statechange", state="paired")
    return client, line


def negotiating(stage: Stage) -> tuple[Client, Line]:
    """Our offer has been said."""
    client, line = waiting(stage)
    line.says(joined("offerer"))
    client.tells("statechange", state="negotiating")
    line.hears("offer")
    stage.waits_until(lambda: any(not said["payload"]["candidate"] for said in line.said), "the last candidate")
    line.said.clear()
    return client, line


def leaving(stage: Stage) -> tuple[Client, Line]:
    """Our leave is on its way, and nobody is looked for."""
    client, line = paired(stage)
    client.does("client.leave()")
    line.hears("leave")
    return client, line


def moving_on(stage: Stage) -> tuple[Client, Line]:
    """Our next is on its way."""
    client, line = paired(stage)
    client.does("client.next()")
    line.hears("next")
    return client, line


def resuming(stage: Stage) -> tuple[Client, Line]:
    """The session of one who waits is to go on over a second socket."""
    client = stage.client()
    line = client.start()
    line.says(RESUMABLE)
    line.hears("join")
    line.says("ready", roomId="r-1")
    client.tells("statechange", state="waiting")
    line.breaks()
    client.tells("connection", phase="resuming")
    stage.passes(1)
    line = client.line()
    line.says(RESUMABLE, sessionId="c-fresh")
    assert line.hears("resume") == {"type": "resume", "token": "token-1", "lastSeq": 2}
    return client, line


SITUATIONS: list[Situation] = [
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
    "away": {"type": "peer", "state": "away"},
    "back": {"type": "peer", "state": "back"},
    "partner's leave": {"type": "leave", "from": "c-you", "roomId": "r-1", "reason": "left"},
    "own leave": {"type": "leave", "from": "c-me", "roomId": "r-1", "reason": "left"},
    "wrong_state": {"type": "error", "code": "wrong_state", "message": "", "fatal": False, "ref": "candidate"},
    "unsupported": {"type": "error", "code": "unsupported", "message": "", "fatal": False, "ref": "chat"},
    "pong": {"type": "pong"},
    "goaway": {"type": "goaway", "reason": "server_shutdown", "retryAfterSeconds": 5},
    "ice": {"type": "ice", "iceServers": [], "iceTransportPolicy": "all", "ttlSeconds": 600},
    "unknown": {"type": "tomorrow", "payload": 1},
}

MOVES = {
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

SAYS = {
    ("connecting", "welcome"): ["join"],
    ("resuming", "resumed"): ["ping"],
}
"""The only pairs to which the client answers."""

TELLS = {
    ("paired", "chat"): {"chat"},
    ("negotiating", "chat"): {"chat"},
    ("paired", "typing"): {"typing"},
    ("negotiating", "typing"): {"typing"},
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
    **{(situation.__name__, "unsupported"): {"refused"} for situation in SITUATIONS if situation is not resuming},
}
"""The only pairs of which a page hears anything, besides `log`."""


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_each_message_does_in_each_situation_what_the_table_says(
    stage: Stage, situation: Situation, name: str
) -> None:
    client, line = situation(stage)
    pair = (situation.__name__, name)
    before = client.state
    client.does("events.splice(0)")
    line.says(MESSAGES[name])
    client.hears_out(line)
    assert client.state == MOVES.get(pair, before)
    told: list[str] = client.does("events.map(({ name }) => name).filter((name) => name !== 'log')")
    assert set(told) == TELLS.get(pair, set())
    assert [said["type"] for said in line.said] == SAYS.get(pair, [])


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


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_garbage_changes_nothing(stage: Stage, situation: Situation) -> None:
    client, line = situation(stage)
    before = client.state
    client.does("events.splice(0)")
    for data in GARBAGE:
        line.sends(data)
    client.hears_out(line)
    assert client.does("events.filter(({ name }) => name !== 'log')") == []
    assert client.state == before
    line.hears_no_more()


@pytest.mark.shows("P-2.2", "P-2.7", "P-2.15")
def test_the_protocol_and_the_name_are_offered(stage: Stage) -> None:
    client = stage.client()
    line = client.start(username="Ani & Budi")
    assert stage.page.evaluate("opened.protocols") == ["curhat.v1"]
    assert line.url.endswith("?username=Ani+%26+Budi")
    line.says(WELCOME, news={"of": "tomorrow"})
    assert line.hears("join") == {"type": "join", "username": "Ani & Budi"}


def test_a_session_goes_its_whole_way_through_garbage(stage: Stage) -> None:
    client = stage.client()
    line = client.start(username="Ani")

    def garble() -> None:
        for data in GARBAGE:
            line.sends(data)

    garble()
    line.says(WELCOME)
    garble()
    line.hears("join")
    line.says("ready", roomId="r-1")
    garble()
    line.says(joined("answerer"))
    garble()
    line.says(MESSAGES["chat"])
    client.tells("chat", text="halo", username="Budi")
    garble()
    line.says(MESSAGES["partner's leave"])
    client.tells("partnerleft", reason="left")
    client.does("client.start()")
    assert line.hears("join") == {"type": "join", "username": "Ani"}  # as the last time


def test_what_was_here_before_is_not_heard_twice(stage: Stage) -> None:
    client, line = paired(stage)
    chat = {**MESSAGES["chat"], "seq": 4}
    for _ in range(3):
        line.says(chat)
    line.says(WELCOME, seq=1)
    line.says("ready", roomId="r-1", seq=2)
    line.says(joined("answerer"), seq=3)
    line.says({**chat, "text": "next", "seq": 5})
    client.hears_out(line)
    assert [event["text"] for event in client.told("chat")] == ["halo", "next"]
    assert client.state == "paired"


def test_messages_in_another_order_than_they_were_numbered_do_no_harm(stage: Stage) -> None:
    client, line = waiting(stage)
    line.says({**MESSAGES["chat"], "seq": 5})
    line.says(joined("answerer"), seq=3)
    line.says({**MESSAGES["partner's leave"], "seq": 4})
    line.says({**MESSAGES["chat"], "seq": 6})
    client.hears_out(line)
    assert client.state == "waiting"
    line.says(joined("answerer"), seq=7)
    client.tells("paired")
    line.says({**MESSAGES["chat"], "text": "now", "seq": 8})
    client.tells("chat", text="now")


@pytest.mark.parametrize("numbered", [True, False])
def test_a_session_whose_messages_all_come_twice(stage: Stage, numbered: bool) -> None:
    client = stage.client()
    line = client.start()
    number = 0

    def twice(message: Message) -> None:
        nonlocal number
        number += 1
        seq = {"seq": number} if numbered else {"seq": None}
        line.says(message, **seq)
        line.says(message, **seq)

    twice(WELCOME)
    line.hears("join")
    twice(MESSAGES["ready"])
    twice(MESSAGES["join"])
    twice(MESSAGES["away"])
    twice(MESSAGES["back"])
    twice(MESSAGES["partner's leave"])
    client.tells("partnerleft", reason="left")
    client.hears_out(line)
    assert client.told("partnerleft") == []
    states = [event["state"] for event in client.told("statechange")]
    assert states == ["connected", "waiting", "paired", "connected"]
    assert [event["away"] for event in client.told("away")] == [True, False]
    client.does("client.start()")
    line.hears("join")
    line.hears_no_more()


# ---------------------------------------------------------------- leave and next, and what crosses them


@pytest.mark.shows("P-4.9")
@pytest.mark.parametrize("kind", ["leave", "next"])
def test_a_refused_leave_or_next_is_an_answer_too(stage: Stage, kind: str) -> None:
    client, line = paired(stage)
    client.does(f"client.{kind}()")
    assert client.does("client.leaving") == kind
    line.hears(kind)
    line.says(MESSAGES["partner's leave"])
    line.says("error", code="wrong_state", message="", fatal=False, ref=kind)
    client.hears_out(line)
    assert client.does("client.leaving") is None
    assert client.state == "connected"
    assert client.told("partnerleft") == []
    if kind == "leave":
        line.hears_no_more()
        client.does("client.start()")
    line.hears("join")


@pytest.mark.shows("P-4.8")
def test_nothing_from_the_old_room_is_heard_after_next(stage: Stage) -> None:
    client, line = paired(stage)
    client.does("client.next()")
    line.hears("next")
    for name in ("chat", "typing", "offer", "candidate", "away"):
        line.says(MESSAGES[name])
    line.says(MESSAGES["own leave"], reason="next")
    line.says("ready", roomId="r-2")
    line.says(joined("answerer", roomId="r-2", **{"from": "c-third", "username": "Citra"}))
    client.tells("paired")
    line.says(MESSAGES["chat"])
    line.says(MESSAGES["chat"], roomId="r-2", text="hai")
    client.hears_out(line)
    assert client.told("chat") == [{"text": "hai", "username": "Citra"}]
    assert client.told("typing") == client.told("away") == []
    assert client.does("client.partner.username") == "Citra"


def test_a_late_leave_from_another_room_does_not_end_the_wait(stage: Stage) -> None:
    client, line = waiting(stage)
    line.says("ready", roomId="r-2")
    for name in ("own leave", "partner's leave"):
        line.says(MESSAGES[name], roomId="r-1")
    client.hears_out(line)
    assert client.state == "waiting"
    line.says(MESSAGES["own leave"], roomId="r-2")
    assert client.tells("partnerleft")["partner"] is None


def test_a_start_right_behind_a_leave_joins_when_that_is_acknowledged(stage: Stage) -> None:
    client, line = waiting(stage)
    client.does("(client.leave(), client.start({ username: 'Ani', topics: ['music'] }))")
    line.hears("leave")
    line.hears_no_more()
    line.says(MESSAGES["own leave"])
    assert line.hears("join") == {"type": "join", "username": "Ani", "topics": ["music"]}


def test_without_the_feature_next_is_leave_and_join(stage: Stage) -> None:
    client = stage.client()
    line = client.start()
    line.says(WELCOME, features=["chat"])
    line.hears("join")
    line.says("ready", roomId="r-1")
    line.says(joined("answerer"))
    client.tells("paired")
    client.does("client.next()")
    line.hears("leave")
    line.says(MESSAGES["own leave"])
    line.hears("join")


def test_a_listener_may_call_anything_in_the_middle_of_an_event(stage: Stage) -> None:
    client, line = paired(stage)
    client.does("""(() => {
        client.addEventListener("remotestream", () => client.start({ username: "Citra" }));
    })()""")
    line.says(MESSAGES["partner's leave"])
    assert line.hears("join")["username"] == "Citra"
    line.says("ready", roomId="r-2")
    client.tells("statechange", state="waiting")


@pytest.mark.shows("P-8.4", "P-4.2")
@pytest.mark.parametrize("code", ["bad_message", "unknown_type", "wrong_state", "not_your_turn", "strange"])
@pytest.mark.parametrize("ref", ["offer", "candidate", "chat", "status", "ping", None])
def test_an_error_that_is_not_fatal_ends_nothing(stage: Stage, code: str, ref: str | None) -> None:
    client, line = negotiating(stage)
    line.says("error", code=code, message="", fatal=False, **({"ref": ref} if ref else {}))
    client.hears_out(line)
    assert client.state == "negotiating"
    refused = [event["code"] for event in client.told("refused")]
    assert refused == ([] if code in ("wrong_state", "not_your_turn") else [code])
    line.hears_no_more()


def test_a_join_that_is_refused_is_told_and_not_said_again(stage: Stage) -> None:
    client, line = connected(stage)
    line.says("error", code="bad_message", message="topics: too many", fatal=False, ref="join")
    assert client.tells("refused", ref="join")["message"] == "topics: too many"
    assert client.does("client.wantsPartner") is False
    line.hears_no_more()


def test_a_join_that_came_too_fast_is_said_again_after_the_pause(stage: Stage) -> None:
    client, line = connected(stage)
    line.says("error", code="rate_limited", message="", fatal=False, retryAfterSeconds=3)
    assert client.tells("refused", code="rate_limited")["retryAfterSeconds"] == 3
    stage.passes(2.9)
    client.hears_out(line)
    line.hears_no_more()
    stage.passes(0.1)
    line.says("pong", data=line.hears("ping")["data"])
    line.hears("join")


def test_a_next_that_came_too_fast_is_said_again_after_the_pause(stage: Stage) -> None:
    client, line = moving_on(stage)
    line.says("error", code="rate_limited", message="", fatal=False, retryAfterSeconds=3)
    client.hears_out(line)
    stage.passes(3)
    line.says("pong", data=line.hears("ping")["data"])
    line.hears("next")
    line.says(MESSAGES["own leave"], reason="next")
    line.says("ready", roomId="r-2")
    client.tells("statechange", state="waiting")


# ---------------------------------------------------------------- what the client says


def go_on(stage: Stage, client: Client, line: Line, seconds: float) -> None:
    """Let so much time pass with a server that is alive."""
    while seconds > 0:
        stage.passes(min(seconds, 9))
        line.says("pong")
        client.hears_out(line)
        seconds -= 9


@pytest.mark.shows("P-3.4")
def test_a_join_keeps_the_limits_of_welcome(stage: Stage) -> None:
    client = stage.client()
    line = client.start(username="A\tni" + "🙂" * 100, topics=["a " * 40, "b", "B ", "", "c", "d", "e", "f"])
    limits = {**WELCOME["limits"], "usernameCharacters": 10, "topicCharacters": 4}
    line.says(WELCOME, limits=limits)
    join = line.hears("join")
    assert join["username"] == "Ani" + "🙂" * 7
    assert join["topics"] == ["a a", "b", "c", "d", "e"]
    assert "username=Ani" in line.url


@pytest.mark.parametrize("room", ["", "r" * 65])
def test_a_room_that_no_server_takes_is_refused_at_once(stage: Stage, room: str) -> None:
    client = stage.client()
    name = client.does("(() => { try { client.start({ room: given[0] }) } catch (e) { return e.name } })()", room)
    assert name == "RangeError"
    assert client.does("client.active") is False


def test_chat_is_counted_in_characters_as_the_server_does(stage: Stage) -> None:
    client, line = paired(stage)
    assert client.does("client.chat(given[0])", "🙂" * 2000) is True
    assert line.hears("chat")["text"] == "🙂" * 2000
    assert client.does("client.chat(given[0])", "x" * 2001) is False
    assert client.does("client.chat('  ')") is False
    line.hears_no_more()


@pytest.mark.shows("P-2.12")
def test_a_message_longer_than_the_server_takes_is_not_sent(stage: Stage) -> None:
    client = stage.client()
    line = client.start()
    line.says(WELCOME, limits={**WELCOME["limits"], "messageBytes": 200})
    line.hears("join")
    line.says("ready", roomId="r-1")
    line.says(joined("answerer"))
    client.tells("paired")
    assert client.does("client.chat(given[0])", "é" * 90) is False
    assert client.does("client.chat(given[0])", "e" * 90) is True
    line.hears("chat")


@pytest.mark.shows("P-3.2")
def test_what_the_server_does_not_have_is_not_said(stage: Stage) -> None:
    client = stage.client()
    line = client.start()
    line.says(WELCOME, features=[])
    line.hears("join")
    line.says("ready", roomId="r-1")
    line.says(joined("answerer"))
    client.tells("paired")
    said = "[client.chat('halo'), client.report('rude'), client.block(), client.typing(true)]"
    assert client.does(said) == [False, False, False, None]
    go_on(stage, client, line, 100)
    assert client.state == "paired"
    line.hears_no_more()


def test_typing_is_said_when_it_changes_and_ends_with_the_text(stage: Stage) -> None:
    client, line = paired(stage)
    client.does("(client.typing(true), client.typing(true))")
    assert line.hears("typing") == {"type": "typing", "active": True}
    client.does("(client.chat('halo'), client.typing(false), client.typing(true), client.typing(false))")
    line.hears("chat")
    assert [line.hears("typing")["active"], line.hears("typing")["active"]] == [True, False]
    line.hears_no_more()


def test_the_partners_typing_ends_with_a_text_an_absence_and_the_pairing(stage: Stage) -> None:
    client, line = paired(stage)
    for ending in ("chat", "away", "partner's leave"):
        line.says(MESSAGES["typing"])
        client.tells("typing", active=True)
        line.says(MESSAGES[ending])
        client.tells("typing", active=False)


def test_a_partner_is_back_when_the_server_says_just_that(stage: Stage) -> None:
    client, line = paired(stage)
    line.says(MESSAGES["away"])
    line.says("peer", state="asleep")
    line.says("peer", state="back", roomId="r-0")
    client.hears_out(line)
    assert client.told("away") == [{"away": True}]
    line.says(MESSAGES["back"])
    client.tells("away", away=False)


def test_reports_and_blocks_may_follow_a_pairing(stage: Stage) -> None:
    client, line = paired(stage)
    line.says(MESSAGES["partner's leave"])
    client.tells("partnerleft")
    assert client.does("[client.report('rude', 'shouted'), client.report('spam'), client.block()]") == [True] * 3
    assert line.hears("report") == {"type": "report", "reason": "rude", "detail": "shouted"}
    assert line.hears("report") == {"type": "report", "reason": "spam"}
    line.hears("block")


def test_credentials_are_renewed_before_they_end(stage: Stage) -> None:
    client, line = waiting(stage)
    line.says(joined("answerer", ttlSeconds=80))
    client.tells("paired")
    servers = [{"urls": "turn:127.0.0.1:9", "username": "u", "credential": "c"}]
    go_on(stage, client, line, 60)
    line.hears("ice")
    line.says("ice", iceServers=servers, iceTransportPolicy="relay", ttlSeconds=400)
    client.hears_out(line)
    configuration = client.does("client.pc.getConfiguration()")
    assert configuration["iceTransportPolicy"] == "relay"
    assert configuration["iceServers"][0]["urls"] == ["turn:127.0.0.1:9"]
    line.said.clear()
    go_on(stage, client, line, 299)
    line.hears_no_more()
    go_on(stage, client, line, 1)
    line.hears("ice")
    line.says("ice", iceServers=[{"urls": "nonsense"}], iceTransportPolicy="all", ttlSeconds=1e300)
    client.hears_out(line)
    line.says(MESSAGES["partner's leave"])
    client.tells("partnerleft")


def test_a_pairing_without_a_usable_peer_connection_is_told_as_failed(stage: Stage) -> None:
    client, line = waiting(stage)
    line.says(joined("offerer", iceServers=[{"urls": "nonsense"}]))
    assert client.tells("media", media="failed")["stage"] == "gathering"
    assert client.does("client.chat('can you read this?')") is True
    line.hears("chat")
