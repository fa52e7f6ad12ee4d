"""Servers that are broken on purpose: each is reported under the rule that it breaks. The first ones are broken as
the Go server was that this one replaces."""

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from curhat_trio import connection, frames, sessions
from curhat_trio.config import Settings
from curhat_trio.conformance.report import Outcome, Trial
from curhat_trio.conformance.server.player import Site, play
from curhat_trio.conformance.server.random_conversations import explore
from curhat_trio.conformance.server.vectors import Vector, read_library, write_vectors
from curhat_trio.connection import Connection
from curhat_trio.dispatcher import LiveEndpoint
from curhat_trio.policy import matching
from curhat_trio.protocol import endpoint, pairing, signaling
from curhat_trio.protocol.effects import Effect, Enter, Forward, Send
from curhat_trio.protocol.errors import CloseCode, ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.events import ClosingForced, Event, MessageReceived, PeerLeft
from curhat_trio.protocol.messages import (
    Candidate,
    ClientMessage,
    ErrorMessage,
    Join,
    Leave,
    Left,
    Next,
    Offer,
    Pong,
    Presence,
    Ready,
    Relayed,
    Resumed,
    ServerMessage,
    Status,
    Typing,
)
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import Connected, Negotiating, Paired, Session, Step, Waiting
from curhat_trio.protocol.session import step as session_step
from curhat_trio.protocol.signaling import HaveLocalOffer, HaveRemoteOffer, Passed, Signal, Signaling, Verdict
from curhat_trio.sessions import Sessions
from tests.peers import running_server

LIBRARY = read_library()
SEEDS = range(8)
"""Of trio's scheduler, for vectors in which two do something at once."""
Patch = pytest.MonkeyPatch
Break = Callable[[Patch], Settings | None]
"""Breaks the server, or its operator's choices."""

BROKEN: dict[str, tuple[str, Break]] = {}
"""What is wrong -> (the rule that it breaks, how it is done)."""


def breaks(rule: str) -> Callable[[Break], Break]:
    def enter(how: Break) -> Break:
        BROKEN[how.__name__.replace("_", " ")] = rule, how
        return how

    return enter


def change_step(patch: Patch, changed: Callable[[Session, Event], Step]) -> None:
    """In the server's endpoints alone: those of the kit's reference stay as they are."""
    as_it_should = LiveEndpoint._step

    def step_otherwise(self: LiveEndpoint, *arguments: Any) -> None:
        with patch.context() as meanwhile:
            meanwhile.setattr(endpoint, "step", changed)
            as_it_should(self, *arguments)

    patch.setattr(LiveEndpoint, "_step", step_otherwise)


def change_effects(patch: Patch, changed: Callable[[Session, Event, list[Effect]], list[Effect]]) -> None:
    def step(session: Session, event: Event) -> Step:
        after, effects = session_step(session, event)
        return after, changed(session, event, effects)

    change_step(patch, step)


def change_sent(patch: Patch, changed: Callable[[Session, ServerMessage], list[ServerMessage]]) -> None:
    def change(session: Session, _event: Event, effects: list[Effect]) -> list[Effect]:
        told: list[Effect] = []
        for effect in effects:
            told += map(Send, changed(session, effect.message)) if isinstance(effect, Send) else [effect]
        return told

    change_effects(patch, change)


# ---------------------------------------------------------------- as the Go server


@breaks("P-2.9")
def glues_what_is_queued_with_newlines(patch: Patch) -> None:
    class Unframed(bytes):
        pass

    def flush_glued(self: Connection) -> bool:
        glued: list[bytes] = []
        for each in self._frames:
            if glued and isinstance(each, Unframed) and isinstance(glued[-1], Unframed):
                glued[-1] = Unframed(glued[-1] + b"\n" + each)
            else:
                glued.append(each)
        self._frames = [frames.text_frame(each) if isinstance(each, Unframed) else each for each in glued]
        return flush(self)

    flush = Connection.flush
    patch.setattr(connection, "text_frame", Unframed)
    patch.setattr(Connection, "flush", flush_glued)


@breaks("P-5.1")
def makes_both_the_offerer(patch: Patch) -> None:
    matched = matching._matched
    patch.setattr(
        matching, "_matched", lambda pair, own, *rest: attrs.evolve(matched(pair, own, *rest), offerer=True)
    )


@breaks("P-9.5")
def tells_nobody_of_a_lost_partner(patch: Patch) -> None:
    def is_told(effect: Effect) -> bool:
        return not (
            isinstance(effect, Forward)
            and isinstance(effect.event, PeerLeft)
            and effect.event.reason is LeaveReason.PEER_LOST
        )

    change_effects(patch, lambda _session, _event, effects: list(filter(is_told, effects)))


@breaks("P-4.3")
def leaves_the_abandoned_in_a_dead_room(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        after, effects = session_step(session, event)
        return session if isinstance(event, PeerLeft) else after, effects

    change_step(patch, step)


@breaks("P-4.1")
def lets_a_second_join_begin_a_second_wait(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        if isinstance(event, MessageReceived) and isinstance(event.message, Join):
            session = attrs.evolve(session, state=Connected())
        return session_step(session, event)

    change_step(patch, step)


@breaks("P-3.10")
def relays_the_name_that_the_sender_claims(patch: Patch) -> None:
    claimed: dict[Any, str] = {}

    def decode(text: str, profile: Any, features: Any) -> ClientMessage | Fault:
        message = codec_decode(text, profile, features)
        if not isinstance(message, Fault) and "username" in (wire := json.loads(text)):
            claimed[message] = wire["username"]
        return message

    def encode(message: ServerMessage, seq: int | None = None) -> bytes:
        if isinstance(message, Relayed):
            message = attrs.evolve(message, username=claimed.get(message.message, message.username))
        return codec_encode(message, seq)

    codec_decode, codec_encode = endpoint.decode, endpoint.encode
    patch.setattr(endpoint, "decode", decode)
    patch.setattr(endpoint, "encode", encode)


@breaks("P-2.13")
def has_no_limit_to_the_size_of_a_message(patch: Patch) -> None:
    patch.setattr(connection, "FrameReader", lambda _limit: frames.FrameReader(1 << 30))


@breaks("P-7.1")
def never_pings(_patch: Patch) -> Settings:
    return Settings(ping_seconds=1e6)


@breaks("P-7.1")
def waits_for_an_offer_for_ever(_patch: Patch) -> Settings:
    return Settings(offer_seconds=1e6)


# ---------------------------------------------------------------- as others might be


@breaks("P-3.9")
def counts_from_zero(patch: Patch) -> None:
    encode = endpoint.encode
    patch.setattr(
        endpoint, "encode", lambda message, seq=None: encode(message, seq - 1 if seq is not None else None)
    )


@breaks("P-2.6")
def welcomes_nobody(patch: Patch) -> None:
    change_sent(patch, lambda _session, message: [] if message.type == "welcome" else [message])


@breaks("P-3.10")
def tells_another_room_with_what_the_partner_says(patch: Patch) -> None:
    def elsewhere(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        return [attrs.evolve(message, room_id="elsewhere") if isinstance(message, Relayed) else message]

    change_sent(patch, elsewhere)


@breaks("P-6.1")
def lets_candidates_overtake_their_description(patch: Patch) -> None:
    receive = pairing.receive_from_client

    def overtake(signaling: Signaling, signal: Signal) -> tuple[Signaling, Verdict]:
        return (signaling, Passed((signal,))) if isinstance(signal, Candidate) else receive(signaling, signal)

    patch.setattr(pairing, "receive_from_client", overtake)


@breaks("P-6.2")
def passes_candidates_of_offers_that_are_void(patch: Patch) -> None:
    """Its own client's as well as the partner's: in one process all are found among the former."""
    receive = pairing.receive_from_partner

    def forgetful(seat: Signaling, signal: Signal) -> tuple[Signaling, Passed]:
        return receive(attrs.evolve(seat, refused=()), signal)

    patch.setattr(pairing, "receive_from_partner", forgetful)
    patch.setattr(signaling, "_with_followers", lambda said, _ufrags, held: Passed((said, *held)))


@breaks("P-4.1")
def says_nothing_of_a_wrong_state(patch: Patch) -> None:
    def silent(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        wrong = isinstance(message, ErrorMessage) and message.code is ErrorCode.WRONG_STATE
        return [] if wrong else [message]

    change_sent(patch, silent)


@breaks("P-10.2")
def tells_legacy_clients_of_their_own_leave(patch: Patch) -> None:
    patch.setattr(pairing, "acknowledge", lambda _session, ended: [Send(ended)])


@breaks("P-10.1")
def numbers_what_it_says_to_legacy_clients(patch: Patch) -> None:
    encode = endpoint.encode
    patch.setattr(endpoint, "encode", lambda message, seq=None: encode(message, seq or 1))


@breaks("P-10.5")
def holds_nothing_for_legacy_answerers(patch: Patch) -> None:
    patch.setattr(pairing, "FIRST_HOLD_SECONDS", 0.0)


@breaks("P-10.5")
def holds_the_full_time_for_who_does_not_offer(patch: Patch) -> None:
    patch.setattr(pairing, "FIRST_HOLD_SECONDS", pairing.HOLD_SECONDS)


@breaks("P-10.5")
def holds_no_longer_for_who_has_offered(patch: Patch) -> None:
    patch.setattr(pairing, "HOLD_SECONDS", 0.0)


@breaks("P-10.7")
def never_learns_that_a_legacy_client_only_answers(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        after, effects = session_step(session, event)
        return attrs.evolve(after, answers_only=False), effects

    change_step(patch, step)


@breaks("P-10.7")
def never_forgets_that_a_legacy_client_only_answers(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        after, effects = session_step(session, event)
        return attrs.evolve(after, answers_only=after.answers_only or session.answers_only), effects

    change_step(patch, step)


@breaks("P-5.4")
def lets_the_answerer_offer_first(patch: Patch) -> None:
    receive = pairing.receive_from_client

    def eager(signaling: Signaling, signal: Signal) -> tuple[Signaling, Verdict]:
        if isinstance(signal, Offer) and signaling.own is None:
            signaling = attrs.evolve(signaling, own=frozenset())
        return receive(signaling, signal)

    patch.setattr(pairing, "receive_from_client", eager)


@breaks("P-5.8")
def lets_both_offers_through_that_cross(patch: Patch) -> None:
    receive = pairing.receive_from_client

    def rude(signaling: Signaling, signal: Signal) -> tuple[Signaling, Verdict]:
        if isinstance(signal, Offer) and isinstance(signaling.view, HaveRemoteOffer):
            return attrs.evolve(signaling, view=HaveLocalOffer(frozenset())), Passed((signal,))
        return receive(signaling, signal)

    patch.setattr(pairing, "receive_from_client", rude)


@breaks("P-4.4")
def queues_the_abandoned_again(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        pairing = getattr(session.state, "pairing", None)
        after, effects = session_step(session, event)
        if isinstance(event, PeerLeft) and pairing is not None and isinstance(after.state, Connected):
            ticket = attrs.evolve(pairing.wishes, id=f"again-{pairing.room}")
            return attrs.evolve(after, state=Waiting(ticket)), [*effects, Send(Ready(ticket.id)), Enter(ticket)]
        return after, effects

    change_step(patch, step)


@breaks("P-4.5")
def says_every_leave_twice(patch: Patch) -> None:
    change_sent(patch, lambda _session, message: [message] * (2 if isinstance(message, Left) else 1))


@breaks("P-4.6")
def does_not_answer_a_leave(patch: Patch) -> None:
    patch.setattr(pairing, "acknowledge", lambda _session, _ended: [])


@breaks("P-4.7")
def forgets_topics_at_next(patch: Patch) -> None:
    wait = pairing._wait

    def forget(session: Session, event: MessageReceived, room: str | None, topics: frozenset[str]) -> Step:
        return wait(session, event, room, frozenset() if isinstance(event.message, Next) else topics)

    patch.setattr(pairing, "_wait", forget)


@breaks("P-2.14")
def refuses_unknown_fields(patch: Patch) -> None:
    decode = endpoint.decode

    def strict(text: str, profile: Any, features: Any) -> ClientMessage | Fault:
        fault = Fault(ErrorCode.BAD_MESSAGE, "unknown field", "ping")
        return fault if '"mood"' in text else decode(text, profile, features)

    patch.setattr(endpoint, "decode", strict)


@breaks("P-3.8")
def forgets_what_a_ping_said(patch: Patch) -> None:
    change_sent(patch, lambda _session, message: [Pong() if isinstance(message, Pong) else message])


@breaks("P-8.1")
def does_not_tell_what_it_refuses(patch: Patch) -> None:
    def vague(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        return [attrs.evolve(message, ref=None) if isinstance(message, ErrorMessage) else message]

    change_sent(patch, vague)


@breaks("P-8.2")
def closes_at_the_first_error(patch: Patch) -> None:
    def strict(session: Session, event: Event) -> Step:
        after, effects = session_step(session, event)
        if any(isinstance(each, Send) and isinstance(each.message, ErrorMessage) for each in effects):
            after, more = session_step(after, ClosingForced(CloseCode.PROTOCOL_ERRORS))
            effects += more
        return after, effects

    change_step(patch, strict)


@breaks("P-2.11")
def closes_with_one_code_whatever_is_wrong(patch: Patch) -> None:
    fail = Connection._fail
    patch.setattr(Connection, "_fail", lambda self, _code: fail(self, CloseCode.PROTOCOL_ERROR))


@breaks("P-3.6")
def pairs_anybody_with_anybody(patch: Patch) -> None:
    wait = pairing._wait
    patch.setattr(pairing, "_wait", lambda session, event, _room, topics: wait(session, event, None, topics))


@breaks("P-13.2")
def says_nothing_of_who_is_away(patch: Patch) -> None:
    change_sent(patch, lambda _session, message: [] if isinstance(message, Presence) else [message])


@breaks("P-13.3")
def forgets_what_was_missed(patch: Patch) -> None:
    after = ReplayBuffer.after
    patch.setattr(ReplayBuffer, "after", lambda self, number: None if after(self, number) is None else [])


@breaks("P-13.4")
def counts_what_it_has_heard_one_short(patch: Patch) -> None:
    def short(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        return [attrs.evolve(message, heard=message.heard - 1) if isinstance(message, Resumed) else message]

    change_sent(patch, short)


@breaks("P-13.5")
def takes_a_token_twice(patch: Patch) -> None:
    def claim(self: Sessions[Any], token: str) -> Any:
        return self._by_token.get(sessions._digest(token), (None, None))[1]

    patch.setattr(Sessions, "claim", claim)
    patch.setattr(Sessions, "_revoke", lambda _self, _client: None)


@breaks("P-13.7")
def matches_who_is_away(patch: Patch) -> None:
    patch.setattr(matching.Pool, "_suspend", lambda _self, _ticket: None)


@breaks("P-10.6")
def refuses_typing_to_legacy_partners(patch: Patch) -> None:
    def refuse(session: Session, event: Event, effects: list[Effect]) -> list[Effect]:
        pairing = getattr(session.state, "pairing", None)
        if pairing is not None and pairing.partner_profile == "legacy" and _says(event, Typing):
            return [Send(ErrorMessage(ErrorCode.UNSUPPORTED, "no typing", "typing"))]
        return effects

    change_effects(patch, refuse)


@breaks("P-7.5")
def begins_anew_at_every_failed(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        if _says(event, Status) and isinstance(session.state, Negotiating):
            session = attrs.evolve(session, state=attrs.evolve(session.state, media_by=None))
        return session_step(session, event)

    change_step(patch, step)


# ---------------------------------------------------------------- they are found out


async def played(vector: Vector, settings: Settings | None) -> Trial:
    async with running_server(settings, traced=False) as server:
        server.expects_trouble = True
        return await play(vector, Site(server.dial, stop=server.stop.set), LIBRARY)


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_server_is_found_out(name: str, autojump_clock: MockClock, monkeypatch: Patch) -> None:
    rule, break_it = BROKEN[name]
    settings = break_it(monkeypatch)
    for vector in LIBRARY.vectors:
        if rule not in vector.rules() or vector.setup or "ice" in vector.features or "resume" in vector.lacks:
            continue
        for seed in SEEDS if any(step.act == "together" for step in vector.steps) else SEEDS[:1]:
            trio._core._run._r.seed(seed)  # type: ignore[attr-defined]
            trial = await played(vector, settings)
            if trial.outcome is Outcome.FAILED and rule in trial.requirements:
                assert trial.detail
                assert trial.transcript
                return
    pytest.fail(f"nobody noticed that {rule} is broken")


# ---------------------------------------------------------------- what no vector thought of


def _says(event: Event, kind: type[Any]) -> bool:
    return isinstance(event, MessageReceived) and isinstance(event.message, kind)


def forgets_to_wait_at_next_after_a_bad_message(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        in_pairing = isinstance(session.state, Paired | Negotiating)
        if in_pairing and session.invalid_messages and _says(event, Next):
            event = attrs.evolve(event, message=Leave())
        return session_step(session, event)

    change_step(patch, step)


def test_random_conversations_find_what_the_vectors_do_not(monkeypatch: Patch, tmp_path: Any) -> None:
    forgets_to_wait_at_next_after_a_bad_message(monkeypatch)

    def run(vector: Vector) -> Trial:
        return trio.run(played, vector, None, clock=MockClock(autojump_threshold=0))

    about_next = [vector for vector in LIBRARY.vectors if "next" in vector.features]
    assert about_next
    assert all(run(vector).outcome is Outcome.PASSED for vector in about_next)
    found = explore(run, LIBRARY.values, examples=1000, seconds=300, number=1)
    assert found.shortest is not None
    vector, trial = found.shortest
    said = [step.value["type"] for step in vector.steps if step.act == "says" and step.value["type"] != "ping"]
    assert said.count("next") == 1
    assert len(said) <= 4, "two joins, something bad and next"
    file = tmp_path / "found.json"
    file.write_text(write_vectors([vector]))
    (saved,) = read_library(file).vectors
    again = run(saved)
    assert (again.outcome, again.requirements) == (Outcome.FAILED, trial.requirements)
    monkeypatch.undo()
    assert run(saved).outcome is Outcome.PASSED


def test_random_conversations_find_nothing_in_the_real_server() -> None:
    def run(vector: Vector) -> Trial:
        return trio.run(played, vector, None, clock=MockClock(autojump_threshold=0))

    found = explore(run, LIBRARY.values, examples=50, seconds=60, number=2)
    assert found.shortest is None, found.shortest
    assert found.tried == 50
    assert {"P-3.13", "P-4.5", "P-5.8", "P-6.1"} <= found.rules
