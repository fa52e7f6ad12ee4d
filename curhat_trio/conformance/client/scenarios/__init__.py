"""The situations that a client is put through: each a short conversation, with the rules that it shows.

A situation begins with a client that connects and asks for a partner. It ends well, or with a `Broken` that names
the rules that were broken; a rule that the watch sees broken meanwhile is reported beside that.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from curhat_trio.conformance.client.scenario_run import Deed, Role, Stage
from curhat_trio.conformance.client.state_tracker import CROSSING_SECONDS
from curhat_trio.conformance.client.fake_peer import Stranger
from curhat_trio.conformance.client.connection import FEATURES, ME, RESUME_SECONDS, Broken, NotShown, Visit
from curhat_trio.conformance.client.monitor import Breach
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import (
    Candidate,
    Chat,
    Ice,
    IceRefreshed,
    IceServer,
    Leave,
    Limits,
    Offer,
    Pong,
    Presence,
    Resume,
    Typing,
)


@attrs.frozen
class Situation:
    """Something that a client gets into.

    Args:
        name: In words.
        requirements: Ids of the rules that it shows, if it ends well.
        needs: What the client's person must be able to do, beside the first `join`.
        play: The conversation.
    """

    name: str
    requirements: tuple[str, ...]
    needs: frozenset[Deed]
    play: Callable[[Stage], Awaitable[None]]


ROLES: tuple[Role, ...] = ("offerer", "answerer")

SITUATIONS: list[Situation] = []
"""All there are, in the order in which they are tried."""


def scenario(
    name: str, *requirements: str, needs: Sequence[Deed] = ()
) -> Callable[[Callable[[Stage], Awaitable[None]]], Callable[[Stage], Awaitable[None]]]:
    """Add a conversation to the situations."""

    def add(play: Callable[[Stage], Awaitable[None]]) -> Callable[[Stage], Awaitable[None]]:
        SITUATIONS.append(Situation(name, requirements, frozenset(needs), play))
        return play

    return add


MORE: dict[str, Any] = {"later": {"than": ["curhat.v1"]}, "payload2": None}
"""Fields that nobody knows."""


# ---------------------------------------------------------------- arriving


@scenario("connects and joins", "P-2.2", "P-2.10", "P-3.4")
async def connects_and_joins(stage: Stage) -> None:
    visit = await stage.joined()
    await visit.ready("r-1")
    await visit.stay("P-3.4", 0.5)


@scenario("tells its person's name in the address", "P-2.7")
async def names_in_the_address(stage: Stage) -> None:
    await stage.joined()
    if stage.last_caller is None or stage.last_caller.username is None:
        raise NotShown("the client tells no `username` in the query, which it need not")


@scenario("welcome has fields, limits and features that it does not know", "P-2.15")
async def strange_welcome(stage: Stage) -> None:
    visit = await stage.met(features=("chat", "next", "telepathy"), **MORE)
    await stage.hear_join(visit, "P-2.15")


@scenario("a message of an unknown type while it waits", "P-2.15")
async def unknown_while_waiting(stage: Stage) -> None:
    visit = await stage.met()
    await visit.say_unknown("weather", forecast="rain")
    await stage.hear_join(visit, "P-2.15")
    await visit.ready("r-1")
    await visit.say_unknown("weather", forecast="sun")
    await stage.pair(visit, "offerer")
    await visit.hear_offer("P-2.15")


async def _unknown_while_talking(role: Role, stage: Stage) -> None:
    visit = await stage.paired(role)
    await visit.say_unknown("weather", forecast="rain", roomId="r-1", payload=[1])
    await visit.stay("P-2.15", 0.3)
    await stage.negotiate(visit, role)
    await visit.say_unknown("weather")
    await visit.say_unknown("__proto__")
    await visit.still_answers("P-2.15")


async def _strange_fields(role: Role, stage: Stage) -> None:
    visit = await stage.met(**MORE)
    await stage.hear_join(visit, "P-2.15")
    await visit.ready("r-1", **MORE)
    stranger = await visit.introduce(role, "r-1", **MORE)
    if role == "offerer":
        await visit.answer(await visit.hear_offer("P-2.15"), **MORE)
    else:
        await visit.relay(stranger.offer(), **MORE)
        await visit.hear_answer("P-2.15")
    await visit.candidates(**MORE)
    await visit.relay(Chat("hello"), **MORE)
    await visit.error(ErrorCode.WRONG_STATE, "candidate", **MORE)
    await visit.say(Pong(), **MORE)
    await visit.still_answers("P-2.15")
    await visit.leave("left", **MORE)
    await visit.stay("P-2.15", 0.5)


for role in ROLES:
    scenario(f"a message of an unknown type in a pairing, as {role}", "P-2.15")(
        partial(_unknown_while_talking, role)
    )
    scenario(f"unknown fields in every message, as {role}", "P-2.15")(partial(_strange_fields, role))


# ---------------------------------------------------------------- offers and answers


@scenario("is the offerer", "P-5.3")
async def is_the_offerer(stage: Stage) -> None:
    visit = await stage.talking("offerer")
    await visit.still_answers("P-5.7")


@scenario("is the answerer, and the offer takes a while", "P-5.2", "P-5.7")
async def is_the_answerer(stage: Stage) -> None:
    visit = await stage.paired("answerer")
    await visit.hear_nothing("offer", "answer", because="P-5.2")
    await stage.negotiate(visit, "answerer")


async def _names_candidates(role: Role, stage: Stage) -> None:
    visit = await stage.talking(role)
    while True:
        candidate = await visit.hear("candidate", because="P-6.4")
        assert isinstance(candidate, Candidate)
        if not candidate.payload.candidate:
            break


for role in ROLES:
    scenario(f"names its candidates and says when there are no more, as {role}", "P-6.4")(
        partial(_names_candidates, role)
    )


@scenario("a candidate comes before any offer", "P-5.7")
async def early_candidate(stage: Stage) -> None:
    visit = await stage.paired("answerer")
    await visit.candidates()
    await visit.offer()
    await visit.hear_answer()


SERVERS = (
    IceServer(("stun:127.0.0.1:9",)),
    IceServer(("turn:127.0.0.1:9?transport=udp",), "someone", "secret"),
)
"""Servers at which nobody answers."""
CREDENTIAL_SECONDS = 15
"""How long the first credentials are good."""


@scenario("is given ICE servers", "P-5.3")
async def ice_servers(stage: Stage) -> None:
    visit = await stage.joined()
    await stage.pair(visit, "offerer", servers=SERVERS)
    await visit.hear_offer()


async def _relay_only(role: Role, stage: Stage) -> None:
    visit = await stage.joined()
    await stage.pair(visit, role, policy="relay", servers=SERVERS)
    await stage.negotiate(visit, role)
    await visit.stay("P-6.7")


for role in ROLES:
    scenario(f"may connect by a relay only, as {role}", "P-6.7")(partial(_relay_only, role))


@scenario("its TURN credentials expire", "P-3.16")
async def credentials_expire(stage: Stage) -> None:
    visit = await stage.joined(features=(*FEATURES, "ice"))
    await stage.pair(visit, "answerer", servers=SERVERS, ttlSeconds=CREDENTIAL_SECONDS)
    expire = trio.current_time() + CREDENTIAL_SECONDS
    await stage.negotiate(visit, "answerer")
    _expect_media(visit)
    if not any(isinstance(message, Ice) for message in visit.said):
        await visit.hear("ice", because="P-3.16", within=expire - trio.current_time())
    await visit.say(IceRefreshed(SERVERS, "all", ttl_seconds=600))
    await visit.still_answers("P-3.16")


@scenario("audio and video do not come about", "P-3.18")
async def no_media(stage: Stage) -> None:
    visit = await stage.talking("answerer")
    _expect_media(visit)
    told = trio.current_time() + stage.patience.media
    while True:
        within = told - trio.current_time()
        said = await visit.hear("status", "offer", because="P-3.18", within=within)
        if not isinstance(said, Offer):
            break
        await visit.answer(said)  # it tries again
        await visit.candidates()
    await visit.stay("P-3.18", 0.5)


def _expect_media(visit: Visit) -> None:
    assert visit.stranger is not None
    if not visit.stranger.has_media:
        raise NotShown("the client has no audio and no video, which it need not")


@scenario("an offer nearly as long as a message may be", "P-5.7")
async def long_offer(stage: Stage) -> None:
    visit = await stage.paired("answerer")
    await visit.offer(filler_lines=140)
    await visit.hear_answer()


@scenario("an answer nearly as long as a message may be", "P-5.7")
async def long_answer(stage: Stage) -> None:
    visit = await stage.paired("offerer")
    assert visit.stranger is not None
    await visit.relay(visit.stranger.answer(await visit.hear_offer(), filler_lines=130))
    await visit.still_answers("P-5.7")


@scenario("its offer stays unanswered for a while", "P-5.5")
async def unanswered_offer(stage: Stage) -> None:
    visit = await stage.paired("offerer")
    offer = await visit.hear_offer()
    if "renegotiate" in stage.person.can:
        await stage.do("renegotiate")
    await visit.stay("P-5.5")
    await visit.answer(offer)


async def _stranger_renegotiates(role: Role, stage: Stage) -> None:
    visit = await stage.talking(role)
    await visit.still_answers("P-5.7")
    await visit.offer(restart=True)
    await visit.hear_answer()
    await visit.candidates()
    await visit.still_answers("P-5.7")


async def _client_renegotiates(role: Role, stage: Stage) -> None:
    visit = await stage.talking(role)
    await stage.do("renegotiate")
    offer = await visit.hear_offer((), within=stage.patience.deed)
    await visit.answer(offer)
    await visit.candidates()
    await visit.still_answers("P-5.7")


for role in ROLES:
    scenario(f"the stranger offers again and restarts ICE, as {role}", "P-5.7")(
        partial(_stranger_renegotiates, role)
    )
    scenario(f"offers again, as {role}", "P-5.5", needs=["renegotiate"])(partial(_client_renegotiates, role))


# ---------------------------------------------------------------- glare


@scenario("two first offers cross, and it is impolite", "P-5.9")
async def impolite_at_first(stage: Stage) -> None:
    visit = await stage.paired("offerer")
    await _ignores_crossing_offer(visit, await visit.hear_offer())


@scenario("two later offers cross, and it is impolite", "P-5.9", needs=["renegotiate"])
async def impolite_later(stage: Stage) -> None:
    visit = await stage.talking("offerer")
    await stage.do("renegotiate")
    await _ignores_crossing_offer(visit, await visit.hear_offer((), within=stage.patience.deed))


async def _ignores_crossing_offer(visit: Visit, offer: Offer) -> None:
    stranger = visit.stranger
    assert stranger is not None
    void = Stranger(stranger.id, stranger.name, stranger.room_id, generation=7)
    await visit.relay(void.offer())
    await visit.relay(Candidate(void.candidate()))
    await visit.hear_nothing("answer", because="P-5.9")
    await visit.answer(offer)
    await visit.candidates()
    await visit.still_answers("P-5.9")


@scenario("two offers cross, and it is polite", "P-5.10")
async def polite(stage: Stage) -> None:
    visit = await stage.paired("answerer")
    # Without a place for video, a client that has a camera offers again by itself.
    await visit.offer(["audio"])
    await visit.hear_answer()
    await visit.candidates()
    try:
        await visit.hear("offer", because=(), within=1.0)
    except Broken as broken:
        if visit.ended is not None:
            raise
        if "renegotiate" not in stage.person.can:
            raise NotShown("the client makes no offer of its own as answerer") from broken
        await stage.do("renegotiate")
        await visit.hear_offer((), within=stage.patience.deed)
    await visit.offer(restart=True)
    await visit.hear_answer("P-5.10")
    await visit.candidates()
    await visit.still_answers("P-5.10")


# ---------------------------------------------------------------- rooms


@scenario("its room changes while it waits", "P-4.8")
async def room_changes(stage: Stage) -> None:
    visit = await stage.waiting()
    old = Stranger(ClientId("c-nobody"), "Nobody", RoomId("r-1"))
    await stage.pair(visit, "answerer")
    await visit.relay(old.offer(), old)
    await visit.hear_nothing("answer", because="P-4.8")
    await stage.negotiate(visit, "answerer")


async def _left(reason: str, role: Role, stage: Stage) -> None:
    """A second partner after a first that is gone; what the first said comes late, and twice."""
    visit = await stage.talking("offerer")
    old = visit.stranger
    assert old is not None
    await visit.leave(reason)
    await visit.stay((), 0.2)
    await stage.joins_again(visit, "P-4.8")
    await visit.relay(old.offer(), old)
    await stage.pair(visit, role)
    await _ignores_old_room(visit, old)
    await stage.negotiate(visit, role)
    await _ignores_old_room(visit, old)
    await visit.still_answers("P-4.8")


async def _ignores_old_room(visit: Visit, old: Stranger) -> None:
    for _ in range(2):
        await visit.relay(old.offer(restart=True), old)
        await visit.relay(Candidate(old.candidate()), old)
        await visit.relay(Chat("from the old room"), old)
    await visit.say_unknown("leave", **{"from": old.id, "roomId": old.room_id, "reason": "left"})
    await visit.hear_nothing("answer", because="P-4.8", seconds=1.0)


_REASONS = [reason for reason in LeaveReason if reason is not LeaveReason.SERVER_SHUTDOWN]
for number, reason in enumerate([*_REASONS, "moved_to_another_town"]):
    role = ROLES[number % 2]
    scenario(f"the partner is gone: {reason}; the next one comes, as {role}", "P-4.8")(
        partial(_left, str(reason), role)
    )


@scenario("the partner is gone before any offer", "P-4.8")
async def left_before_offer(stage: Stage) -> None:
    visit = await stage.paired("answerer")
    await visit.leave("negotiation_timeout")
    await stage.pairs_again(visit, "P-4.8")


@scenario("the partner is gone, and nobody else comes for a while", "P-4.10")
async def left_alone(stage: Stage) -> None:
    visit = await stage.talking("offerer")
    await visit.leave("left")
    await visit.stay("P-4.10", CROSSING_SECONDS + stage.patience.watch)


@scenario("the partner chats", "P-3.4")
async def partner_chats(stage: Stage) -> None:
    visit = await stage.talking("answerer")
    for text in ("hi!", "\N{SMILING FACE WITH OPEN MOUTH}" * 2000, "\x00\u202e{}\n", " "):
        await visit.relay(Chat(text))
    await visit.still_answers("P-5.7")


@scenario("a stranger's name and chat are markup", "P-11.2")
async def markup(stage: Stage) -> None:
    tag = f'<img src="{stage.url}/rendered/%s" onerror="1">'
    visit = await stage.paired("answerer", name=tag % "name")
    await stage.negotiate(visit, "answerer")
    await visit.relay(Chat(tag % "chat"))
    await visit.stay("P-11.2")
    for path in stage.doorway.asked_for:
        if path.startswith("/rendered/"):
            visit.fail("P-11.2", f"the client rendered the stranger's {path.rpartition('/')[2]} as markup")


# ---------------------------------------------------------------- its person


@scenario("its person leaves, and comes again", "P-4.8", needs=["leave"])
async def leaves(stage: Stage) -> None:
    visit = await stage.talking("answerer")
    old = visit.stranger
    assert old is not None
    await stage.do("leave")
    await visit.hear("leave", because=(), within=stage.patience.deed)
    await visit.relay(Chat("too late"))  # said before the stranger heard of it
    await visit.relay(old.offer())
    await visit.leave("left", by=ME)
    await stage.pairs_again(visit, "P-4.8")
    await _ignores_old_room(visit, old)
    await visit.still_answers("P-4.8")


@scenario("its person gives up waiting, and comes again", "P-4.8", needs=["leave"])
async def gives_up(stage: Stage) -> None:
    visit = await stage.waiting()
    await stage.do("leave")
    await visit.hear("leave", because=(), within=stage.patience.deed)
    await visit.introduce("answerer", "r-1")  # the match crossed the leave
    await visit.leave("left", by=ME)
    await stage.pairs_again(visit, "P-4.8")


async def _next(role: Role, stage: Stage) -> None:
    visit = await stage.talking("offerer")
    old = visit.stranger
    assert old is not None
    await stage.do("next")
    await visit.hear("next", because=(), within=stage.patience.deed)
    await visit.relay(old.offer())
    await visit.leave("next", by=ME)
    await stage.pair(visit, role)
    await _ignores_old_room(visit, old)
    await stage.negotiate(visit, role)
    await visit.still_answers("P-4.8")


for role in ROLES:
    scenario(f"its person says next; another partner comes, as {role}", "P-4.8", needs=["next"])(
        partial(_next, role)
    )


async def _crossed(deed: Deed, stage: Stage) -> None:
    """The partner's leave crosses the client's own: nothing but the refusal answers it."""
    visit = await stage.talking("answerer")
    await stage.do(deed)
    await visit.hear(deed, because=(), within=stage.patience.deed)
    await visit.leave("next")
    await visit.error(ErrorCode.WRONG_STATE, deed)
    await stage.pairs_again(visit, "P-4.9")
    await visit.still_answers("P-4.9")


scenario("its leave crosses the partner's", "P-4.9", needs=["leave"])(partial(_crossed, "leave"))
scenario("its next crosses the partner's leave", "P-4.9", needs=["next"])(partial(_crossed, "next"))


@scenario("its person chats", "P-3.4", needs=["chat"])
async def chats(stage: Stage) -> None:
    visit = await stage.talking("answerer")
    await stage.do("chat", "Hello, stranger!")
    await visit.hear("chat", because=(), within=stage.patience.deed)


@scenario("its person writes more than a message may have", "P-2.12", needs=["chat"])
async def writes_too_much(stage: Stage) -> None:
    visit = await stage.joined(limits=Limits(message_bytes=1024))
    await stage.pair(visit, "answerer")
    await stage.do("chat", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 600)  # 600 characters, 1200 bytes
    await visit.stay("P-2.12")


@scenario("the server has neither chat nor next", "P-3.2", needs=["chat", "next"])
async def has_no_features(stage: Stage) -> None:
    visit = await stage.joined(features=())
    await stage.pair(visit, "answerer")
    await stage.negotiate(visit, "answerer")
    for deed in ("chat", "next"):
        await stage.do(deed, "Can you read this?" if deed == "chat" else "")
        await visit.hear_nothing(deed, because="P-3.2")
    if any(isinstance(message, Leave) for message in visit.said):  # the way to the next partner without `next`
        await visit.leave("left", by=ME)
        await stage.pairs_again(visit, "P-3.2")


@scenario("its person goes for good", "P-9.4", needs=["quit"])
async def goes_for_good(stage: Stage) -> None:
    visit = await stage.talking("answerer")
    await stage.do("quit")
    ended = await visit.hear_end("P-9.4", stage.patience.deed)
    if ended.code is None:
        visit.fail("P-9.4", f"expected a close frame; the connection ended {ended}")
    await stage.nobody_comes("P-9.4")


# ---------------------------------------------------------------- errors


async def _error(code: str, ref: str | None, stage: Stage) -> None:
    visit = await stage.talking("offerer")
    await visit.error(code, ref, retry_after=0.2 if code == "rate_limited" else None)
    await visit.stay("P-8.4", 0.5)
    await visit.still_answers("P-8.4")


for code, ref in (
    *(("bad_message", "offer"), ("bad_message", None), ("unknown_type", "status"), ("wrong_state", "candidate")),
    *(("not_your_turn", "offer"), ("unsupported", "chat"), ("rate_limited", "candidate"), ("tomorrows", "answer")),
):
    rules = ("P-8.4", "P-4.2") if code == "wrong_state" else ("P-8.4",)
    scenario(f"error {code} about {ref or 'nothing that could be read'}", *rules)(partial(_error, code, ref))


@scenario("every error while it waits", "P-8.4")
async def errors_while_waiting(stage: Stage) -> None:
    visit = await stage.waiting()
    for code in ErrorCode:
        await visit.error(code, "ping", retry_after=0.2 if code is ErrorCode.RATE_LIMITED else None)
    await visit.stay("P-8.4", 0.5)
    await stage.pair(visit, "answerer")
    await stage.negotiate(visit, "answerer")


@scenario("its join comes too fast", "P-8.4")
async def join_rate_limited(stage: Stage) -> None:
    visit = await stage.joined()
    await visit.error(ErrorCode.RATE_LIMITED, "join", retry_after=0.5)
    await visit.stay("P-8.4", 0.6)
    await stage.joins_again(visit, "P-8.4")
    await stage.pair(visit, "answerer")
    await stage.negotiate(visit, "answerer")


@scenario("its late candidate crosses the partner's leave", "P-4.2")
async def late_candidate(stage: Stage) -> None:
    visit = await stage.talking("offerer")
    await visit.leave("left")
    for ref in ("candidate", "status", "answer"):
        await visit.error(ErrorCode.WRONG_STATE, ref)
    await stage.pairs_again(visit, "P-4.2")


# ---------------------------------------------------------------- the connection


@scenario("is pinged through a long silence", "P-7.2")
async def pinged(stage: Stage) -> None:
    visit = await stage.waiting(ping_seconds=0.5)
    for _ in range(4):
        await visit.ping()
        await visit.stay("P-7.2", 0.5)
    await visit.hear_pongs()
    await stage.pair(visit, "answerer")
    await stage.negotiate(visit, "answerer")


@scenario("pongs that nobody asked for", "P-8.4")
async def unasked_pongs(stage: Stage) -> None:
    visit = await stage.waiting()
    await visit.say(Pong())
    await visit.say(Pong("what?"))
    await stage.pair(visit, "offerer")
    await visit.hear_offer()


async def _comes_back(stage: Stage, visit: Visit) -> None:
    """The client connects again and asks for a partner, without its person's doing."""
    back = await stage.admit(await stage.call(stage.patience.comeback, "P-9.1"))
    await back.welcome()
    await back.ping()
    await stage.hear_join(back, "P-9.1")


async def _closed_for_now(code: int, stage: Stage) -> None:
    visit = await stage.waiting()
    await visit.close(code)
    await _comes_back(stage, visit)


async def _closed_for_good(code: int, stage: Stage) -> None:
    visit = await stage.waiting()
    if code == CloseCode.PROTOCOL_ERRORS:
        await visit.error(ErrorCode.BAD_MESSAGE, fatal=True)
    await visit.close(code)
    await stage.nobody_comes("P-9.2")


_FOR_NOW = [code for code in CloseCode if code.retry and code is not CloseCode.SHUTDOWN]
for number in (*map(int, _FOR_NOW), 4099):
    scenario(f"closed with {number}", "P-9.1")(partial(_closed_for_now, number))
for number in (1000, *(int(code) for code in CloseCode if not code.retry), 4599):
    scenario(f"closed with {number}", "P-9.2")(partial(_closed_for_good, number))


@scenario("the server goes away while it waits", "P-9.1", "P-9.3")
async def goaway_while_waiting(stage: Stage) -> None:
    visit = await stage.waiting()
    await _goes_away(stage, visit)


@scenario("the server goes away while it talks", "P-9.1", "P-9.3")
async def goaway_while_talking(stage: Stage) -> None:
    visit = await stage.talking("offerer")
    await visit.leave("server_shutdown")
    await _goes_away(stage, visit)


async def _goes_away(stage: Stage, visit: Visit) -> None:
    pause = stage.patience.watch + 0.5
    await visit.goaway(pause)
    begun = trio.current_time()
    await visit.close(CloseCode.SHUTDOWN)
    await stage.nobody_comes("P-9.3", pause - (trio.current_time() - begun) - _CLOCKS_DIFFER)
    await _comes_back(stage, visit)


_CLOCKS_DIFFER = 0.1
"""Seconds that a client's timer may be early, and a message be under way."""


@scenario("the connection breaks off while it talks", "P-9.1")
async def lost_while_talking(stage: Stage) -> None:
    visit = await stage.talking("answerer")
    visit.drop()
    await _comes_back(stage, visit)


TOKEN, NEXT_TOKEN = "token-of-the-first", "token-of-the-second"


def _resumable(token: str) -> dict[str, Any]:
    return {"features": (*FEATURES, "resume"), "resumeToken": token, "resumeSeconds": RESUME_SECONDS}


async def _asks_to_resume(stage: Stage, role: Role) -> tuple[Visit, Visit]:
    """A call breaks off, and the client comes back and says `resume`: both its connections."""
    visit = await stage.joined(**_resumable(TOKEN))
    visit.answers_pings = False  # what was answered can't be told as lost
    await stage.pair(visit, role)
    await stage.negotiate(visit, role)
    await visit.settle()
    visit.drop()
    back = await stage.admit(await stage.call(stage.patience.comeback, "P-9.1"))
    await back.welcome(**_resumable(NEXT_TOKEN))
    said = await back.hear("resume", "join", because="P-9.1", within=stage.patience.deed)
    if not isinstance(said, Resume):
        raise NotShown("the client does not resume, which it need not")
    if (said.token, said.last_seq) != (TOKEN, visit.seq):
        back.fail((), f"expected `resume` with the first token and lastSeq {visit.seq}, not {said.last_seq}")
    return visit, back


async def _resumes(role: Role, stage: Stage) -> None:
    visit, back = await _asks_to_resume(stage, role)
    await back.resumed(visit, "token-of-the-third", len(visit.said) - 1)
    lost = visit.said[-1]
    if await back.hear(lost.type, because="P-13.4") != lost:
        back.fail("P-13.4", f"expected its last `{lost.type}` again, which was lost")
    await back.relay(Chat("are you there?"))
    await back.still_answers("P-13.4")


for role in ROLES:
    scenario(f"the connection breaks off, and the call goes on over another, as {role}", "P-13.4", "P-13.9")(
        partial(_resumes, role)
    )


@scenario("the connection breaks off, and the session is gone", "P-8.4", "P-13.9")
async def resume_fails(stage: Stage) -> None:
    _, back = await _asks_to_resume(stage, "answerer")
    await back.error(ErrorCode.RESUME_FAILED, "resume")
    await stage.joins_again(back, "P-8.4")
    await stage.pair(back, "answerer")
    await stage.negotiate(back, "answerer")


@scenario("the partner is away, and comes back", "P-13.10")
async def partner_away(stage: Stage) -> None:
    visit = await stage.talking("answerer")
    await visit.say(Presence("away"))
    await visit.stay("P-13.10")
    await visit.say(Presence("back"))
    await visit.still_answers("P-13.10")


@scenario("the partner types", "P-2.15")
async def partner_types(stage: Stage) -> None:
    visit = await stage.talking("answerer")
    for active in (True, True, False):
        await visit.relay(Typing(active))
    await visit.relay(Chat("typed"))
    await visit.still_answers("P-2.15")


@scenario("the server can't be reached for a while", "P-9.1")
async def unreachable(stage: Stage) -> None:
    visit = await stage.waiting()
    visit.drop()
    pauses = []
    for _ in range(3):
        lost = trio.current_time()
        caller = await stage.call(stage.patience.comeback, "P-9.1")
        pauses.append(caller.arrived - lost)
        caller.hang_up()
    told = ", ".join(f"{pause:.2f}" for pause in pauses)
    if (fault := fault_of_pauses(pauses)) is not None:
        raise Broken(Breach(("P-9.1",), f"{fault}; it came back after {told} s"))
    await _comes_back(stage, visit)


_AT_ONCE = 0.05
_NO_JITTER = 0.003


def fault_of_pauses(pauses: Sequence[float]) -> str | None:
    """What is wrong with three pauses between attempts to come back; None: nothing that can be told from three."""
    first, second, third = pauses
    if max(pauses) < _AT_ONCE:
        return "expected a pause before each attempt"
    if max(second, third) <= first:
        return "expected the pauses to grow from attempt to attempt"
    if abs(second / first - third / second) < _NO_JITTER * second / first:
        return "expected jitter; the pauses grow by exactly the same factor"
    return None
