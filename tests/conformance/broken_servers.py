"""Faults of a server, each with the rule that it breaks. The first ones are those of the earlier Go server."""

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from curhat_trio import connection, frames, sessions
from curhat_trio.config import Settings
from curhat_trio.connection import Connection
from curhat_trio.policy import matching
from curhat_trio.protocol import codec, endpoint, messages, pairing, signaling
from curhat_trio.protocol.effects import Effect, Enter, Forward, Send
from curhat_trio.protocol.errors import CloseCode, ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.events import ClosingForced, Event, MessageReceived, PeerLeft
from curhat_trio.protocol.ids import RoomId
from curhat_trio.protocol.messages import ServerMessage
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import Connected, Negotiating, Session, Step, Waiting
from curhat_trio.protocol.session import step as session_step
from curhat_trio.protocol.signaling import HaveLocalOffer, HaveRemoteOffer, Passed, Signal, Signaling, Verdict
from curhat_trio.sessions import Sessions
from tests.conformance import server_changes

Patch = pytest.MonkeyPatch
Break = Callable[[Patch], Settings | None]
"""Breaks the server, or returns settings that do."""

BROKEN: dict[str, tuple[str, Break]] = {}
"""A name -> (the rule that is broken, how)."""


def breaks(rule: str) -> Callable[[Break], Break]:
    def add(how: Break) -> Break:
        BROKEN[how.__name__.replace("_", " ")] = rule, how
        return how

    return add


def _with_wishes(effect: Effect, **wishes: Any) -> Effect:
    """A client enters the pool with other wishes."""
    return Enter(attrs.evolve(effect.ticket, **wishes)) if isinstance(effect, Enter) else effect


# ---------------------------------------------------------------- as the earlier Go server


@breaks("P-2.9")
def joins_queued_messages_with_newlines(patch: Patch) -> None:
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
def reports_no_lost_partner(patch: Patch) -> None:
    def is_sent(effect: Effect) -> bool:
        return not (
            isinstance(effect, Forward)
            and isinstance(effect.event, PeerLeft)
            and effect.event.reason is LeaveReason.PEER_LOST
        )

    server_changes.change_effects(patch, lambda _session, _event, effects: list(filter(is_sent, effects)))


@breaks("P-4.3")
def leaves_the_partner_in_a_room_that_is_over(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        after, effects = session_step(session, event)
        return session if isinstance(event, PeerLeft) else after, effects

    server_changes.change_step(patch, step)


@breaks("P-4.1")
def accepts_a_second_join_while_waiting(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        if isinstance(event, MessageReceived) and isinstance(event.message, messages.Join):
            session = attrs.evolve(session, state=Connected())
        return session_step(session, event)

    server_changes.change_step(patch, step)


@breaks("P-3.10")
def relays_a_username_chosen_by_the_sender(patch: Patch) -> None:
    claimed: dict[Any, str] = {}

    def decode(text: str, profile: Any, features: Any) -> tuple[messages.ClientMessage | Fault, str | None]:
        message, id = codec_decode(text, profile, features)
        if not isinstance(message, Fault) and "username" in (wire := json.loads(text)):
            claimed[message] = wire["username"]
        return message, id

    def encode(message: ServerMessage, seq: int | None = None) -> bytes:
        if isinstance(message, messages.Relayed):
            message = attrs.evolve(message, username=claimed.get(message.message, message.username))
        return codec_encode(message, seq)

    codec_decode, codec_encode = codec.decode_with_id, codec.encode
    patch.setattr(endpoint, "decode_with_id", decode)
    patch.setattr(endpoint, "encode", encode)


@breaks("P-2.13")
def has_no_message_size_limit(patch: Patch) -> None:
    patch.setattr(connection, "FrameReader", lambda _limit: frames.FrameReader(1 << 30))


@breaks("P-7.1")
def never_pings(_patch: Patch) -> Settings:
    return Settings(ping_seconds=1e6)


@breaks("P-7.1")
def waits_for_an_offer_without_a_timeout(_patch: Patch) -> Settings:
    return Settings(offer_seconds=1e6)


# ---------------------------------------------------------------- as other servers might be


@breaks("P-3.9")
def numbers_messages_from_zero(patch: Patch) -> None:
    encode = codec.encode
    patch.setattr(
        endpoint, "encode", lambda message, seq=None: encode(message, seq - 1 if seq is not None else None)
    )


@breaks("P-2.6")
def sends_no_welcome(patch: Patch) -> None:
    server_changes.change_sent(patch, lambda _session, message: [] if message.type == "welcome" else [message])


@breaks("P-3.10")
def relays_with_another_room_id(patch: Patch) -> None:
    def elsewhere(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        return [
            attrs.evolve(message, room_id=RoomId("elsewhere"))
            if isinstance(message, messages.Relayed)
            else message
        ]

    server_changes.change_sent(patch, elsewhere)


@breaks("P-6.1")
def relays_candidates_before_their_description(patch: Patch) -> None:
    receive = signaling.receive_from_client

    def overtake(signaling: Signaling, signal: Signal) -> tuple[Signaling, Verdict]:
        return (
            (signaling, Passed((signal,)))
            if isinstance(signal, messages.Candidate)
            else receive(signaling, signal)
        )

    patch.setattr(pairing, "receive_from_client", overtake)


@breaks("P-6.2")
def relays_candidates_of_rejected_offers(patch: Patch) -> None:
    """On both sides: in one process the sender's side finds them all."""
    receive = signaling.receive_from_partner

    def forgetful(side: Signaling, signal: Signal) -> tuple[Signaling, Passed]:
        return receive(attrs.evolve(side, refused=()), signal)

    patch.setattr(pairing, "receive_from_partner", forgetful)
    patch.setattr(signaling, "_with_followers", lambda said, _ufrags, held: Passed((said, *held)))


@breaks("P-4.1")
def ignores_messages_in_a_wrong_state(patch: Patch) -> None:
    def silent(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        wrong = isinstance(message, messages.ErrorMessage) and message.code is ErrorCode.WRONG_STATE
        return [] if wrong else [message]

    server_changes.change_sent(patch, silent)


@breaks("P-10.2")
def acknowledges_leave_to_legacy_clients(patch: Patch) -> None:
    patch.setattr(pairing, "acknowledge", lambda _session, ended: [Send(ended)])


@breaks("P-10.1")
def numbers_messages_to_legacy_clients(patch: Patch) -> None:
    encode = codec.encode
    patch.setattr(endpoint, "encode", lambda message, seq=None: encode(message, seq or 1))


@breaks("P-10.5")
def holds_no_messages_for_legacy_answerers(patch: Patch) -> None:
    patch.setattr(pairing, "FIRST_HOLD_SECONDS", 0.0)


@breaks("P-10.5")
def holds_the_full_time_without_an_offer(patch: Patch) -> None:
    patch.setattr(pairing, "FIRST_HOLD_SECONDS", pairing.HOLD_SECONDS)


@breaks("P-10.5")
def holds_no_longer_after_an_offer(patch: Patch) -> None:
    patch.setattr(pairing, "HOLD_SECONDS", 0.0)


@breaks("P-10.7")
def never_learns_that_a_legacy_client_only_answers(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        after, effects = session_step(session, event)
        return attrs.evolve(after, answers_only=False), effects

    server_changes.change_step(patch, step)


@breaks("P-10.7")
def never_forgets_that_a_legacy_client_only_answers(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        after, effects = session_step(session, event)
        return attrs.evolve(after, answers_only=after.answers_only or session.answers_only), effects

    server_changes.change_step(patch, step)


@breaks("P-5.4")
def lets_the_answerer_offer_first(patch: Patch) -> None:
    receive = signaling.receive_from_client

    def eager(signaling: Signaling, signal: Signal) -> tuple[Signaling, Verdict]:
        if isinstance(signal, messages.Offer) and signaling.own is None:
            signaling = attrs.evolve(signaling, own=frozenset())
        return receive(signaling, signal)

    patch.setattr(pairing, "receive_from_client", eager)


@breaks("P-5.8")
def relays_both_of_two_crossing_offers(patch: Patch) -> None:
    receive = signaling.receive_from_client

    def rude(signaling: Signaling, signal: Signal) -> tuple[Signaling, Verdict]:
        if isinstance(signal, messages.Offer) and isinstance(signaling.view, HaveRemoteOffer):
            return attrs.evolve(signaling, view=HaveLocalOffer(frozenset())), Passed((signal,))
        return receive(signaling, signal)

    patch.setattr(pairing, "receive_from_client", rude)


@breaks("P-4.4")
def makes_the_partner_wait_again(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        pairing = getattr(session.state, "pairing", None)
        after, effects = session_step(session, event)
        if isinstance(event, PeerLeft) and pairing is not None and isinstance(after.state, Connected):
            ticket = attrs.evolve(pairing.wishes, id=f"again-{pairing.room}")
            return attrs.evolve(after, state=Waiting(ticket)), [
                *effects,
                Send(messages.Ready(ticket.id)),
                Enter(ticket),
            ]
        return after, effects

    server_changes.change_step(patch, step)


@breaks("P-4.5")
def sends_leave_twice(patch: Patch) -> None:
    server_changes.change_sent(
        patch, lambda _session, message: [message] * (2 if isinstance(message, messages.Left) else 1)
    )


@breaks("P-4.6")
def does_not_answer_a_leave(patch: Patch) -> None:
    patch.setattr(pairing, "acknowledge", lambda _session, _ended: [])


@breaks("P-4.7")
def forgets_topics_at_next(patch: Patch) -> None:
    def forget(_session: Session, event: Event, effects: list[Effect]) -> list[Effect]:
        if not server_changes.is_message(event, messages.Next):
            return effects
        return [_with_wishes(effect, topics=frozenset()) for effect in effects]

    server_changes.change_effects(patch, forget)


@breaks("P-2.14")
def refuses_unknown_fields(patch: Patch) -> None:
    decode = codec.decode_with_id

    def strict(text: str, profile: Any, features: Any) -> tuple[messages.ClientMessage | Fault, str | None]:
        fault = Fault(ErrorCode.BAD_MESSAGE, "unknown field", "ping")
        return (fault, None) if '"mood"' in text else decode(text, profile, features)

    patch.setattr(endpoint, "decode_with_id", strict)


@breaks("P-3.8")
def answers_ping_without_its_data(patch: Patch) -> None:
    def forget(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        return [attrs.evolve(message, data=None) if isinstance(message, messages.Pong) else message]

    server_changes.change_sent(patch, forget)


@breaks("P-8.1")
def sends_errors_without_ref(patch: Patch) -> None:
    def vague(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        return [attrs.evolve(message, ref=None) if isinstance(message, messages.ErrorMessage) else message]

    server_changes.change_sent(patch, vague)


@breaks("P-8.2")
def closes_at_the_first_error(patch: Patch) -> None:
    def strict(session: Session, event: Event) -> Step:
        after, effects = session_step(session, event)
        if any(isinstance(each, Send) and isinstance(each.message, messages.ErrorMessage) for each in effects):
            after, more = session_step(after, ClosingForced(CloseCode.PROTOCOL_ERRORS))
            effects += more
        return after, effects

    server_changes.change_step(patch, strict)


@breaks("P-2.11")
def closes_with_one_code_whatever_is_wrong(patch: Patch) -> None:
    fail = Connection._fail
    patch.setattr(Connection, "_fail", lambda self, _code: fail(self, CloseCode.PROTOCOL_ERROR))


@breaks("P-3.6")
def pairs_anybody_with_anybody(patch: Patch) -> None:
    def ignore_rooms(_session: Session, _event: Event, effects: list[Effect]) -> list[Effect]:
        return [_with_wishes(effect, room=None) for effect in effects]

    server_changes.change_effects(patch, ignore_rooms)


@breaks("P-13.2")
def does_not_report_presence(patch: Patch) -> None:
    server_changes.change_sent(
        patch, lambda _session, message: [] if isinstance(message, messages.Presence) else [message]
    )


@breaks("P-13.3")
def replays_nothing_after_a_resume(patch: Patch) -> None:
    after = ReplayBuffer.after
    patch.setattr(ReplayBuffer, "after", lambda self, number: None if after(self, number) is None else [])


@breaks("P-13.15")
def counts_received_messages_one_short(patch: Patch) -> None:
    def short(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        return [
            attrs.evolve(message, heard=message.heard - 1) if isinstance(message, messages.Resumed) else message
        ]

    server_changes.change_sent(patch, short)


@breaks("P-13.15")
def counts_no_message_in_pongs(patch: Patch) -> None:
    def nothing(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        return [attrs.evolve(message, heard=0) if isinstance(message, messages.Pong) else message]

    server_changes.change_sent(patch, nothing)


@breaks("P-3.19")
def answers_with_the_id_of_another_message(patch: Patch) -> None:
    def other(_session: Session, message: ServerMessage) -> list[ServerMessage]:
        if (
            isinstance(message, messages.Ready | messages.Left | messages.Pong | messages.ErrorMessage)
            and message.id
        ):
            return [attrs.evolve(message, id="of another")]
        return [message]

    server_changes.change_sent(patch, other)


@breaks("P-13.5")
def accepts_a_token_twice(patch: Patch) -> None:
    def claim(self: Sessions[Any], token: str) -> Any:
        return self._by_token.get(sessions._digest(token), (None, None))[1]

    patch.setattr(Sessions, "claim", claim)
    patch.setattr(Sessions, "_revoke", lambda _self, _client: None)


@breaks("P-13.7")
def matches_clients_that_are_away(patch: Patch) -> None:
    patch.setattr(matching.Pool, "_suspend", lambda _self, _ticket: None)


@breaks("P-10.6")
def refuses_typing_to_legacy_partners(patch: Patch) -> None:
    def refuse(session: Session, event: Event, effects: list[Effect]) -> list[Effect]:
        pairing = getattr(session.state, "pairing", None)
        if (
            pairing is not None
            and pairing.partner_profile == "legacy"
            and server_changes.is_message(event, messages.Typing)
        ):
            return [Send(messages.ErrorMessage(ErrorCode.UNSUPPORTED, "no typing", "typing"))]
        return effects

    server_changes.change_effects(patch, refuse)


@breaks("P-7.5")
def restarts_the_media_timeout_at_every_status(patch: Patch) -> None:
    def step(session: Session, event: Event) -> Step:
        if server_changes.is_message(event, messages.Status) and isinstance(session.state, Negotiating):
            session = attrs.evolve(session, state=attrs.evolve(session.state, media_by=None))
        return session_step(session, event)

    server_changes.change_step(patch, step)
