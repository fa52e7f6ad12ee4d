"""What must always hold of a client, in every scenario.

A scenario checks one thing; the monitor looks at every message of every connection for what no scenario excuses:
its form, its size, whether it is allowed in this state. It has no socket and no clock.
"""

import json
from collections.abc import Iterable

import attrs
import orjson

from curhat_trio.conformance.client.results import Violation
from curhat_trio.conformance.client.state_tracker import StateTracker
from curhat_trio.frames import MAX_FRAGMENTS
from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import decode
from curhat_trio.protocol.errors import ErrorCode, Fault
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.sdp import candidate_ufrag
from curhat_trio.protocol.session import Connected, Negotiating, Paired, Waiting

ALWAYS_CHECKED = (
    *("P-2.2", "P-2.10", "P-2.12", "P-2.18", "P-3.4", "P-3.18", "P-4.10", "P-5.2", "P-5.5"),
    *("P-6.3", "P-6.7", "P-7.2", "P-7.3", "P-13.9"),
)
"""The rules that hold on every connection. P-2.2 and P-7.2 are checked by the connection itself."""

MESSAGES_PER_SECOND, MESSAGE_BURST = 20.0, 200
BYTES_PER_SECOND, BYTE_BURST = 65536.0, 524288
"""The allowance of P-7.3, as the protocol has it: the kit does not read the server's settings."""


@attrs.define
class ConnectionMonitor:
    """Follows one connection: `violations` is what it found, `covered` the rules that could have been broken."""

    violations: list[Violation] = attrs.Factory(list)
    covered: set[str] = attrs.Factory(set)
    own_id: ClientId | None = None
    """The client's `sessionId`."""
    heard: int = 0
    """How many messages of the client its session has received, but for `resume` (P-13.4)."""
    _message_bytes: int = 65536
    _rate_limit: RateLimit = attrs.Factory(
        lambda: RateLimit(Allowance(MESSAGES_PER_SECOND, MESSAGE_BURST, BYTES_PER_SECOND, BYTE_BURST))
    )
    _tracker: StateTracker = attrs.Factory(StateTracker)
    _pairing: "_Pairing | None" = None
    _received: int = 0

    def report(self, requirement: str, detail: str) -> None:
        """Record that a rule was broken."""
        self.covered.add(requirement)
        self.violations.append(Violation((requirement,), detail))

    # ------------------------------------------------------------ to the client

    def on_server_message(self, message: messages.ServerMessage, now: float) -> None:
        """The script sends this to the client."""
        self._track_state(message, now)
        match message:
            case messages.Welcome(session_id=own_id, limits=limits):
                self.own_id, self._message_bytes = own_id, limits.message_bytes
            case messages.Joined(room_id=room_id, role=role, polite=polite, ice_transport_policy=policy):
                self._pairing = _Pairing(room_id, role == "offerer", polite, policy == "relay")
            case messages.Left(room_id=room_id) if self._is_current(room_id):
                self._pairing = None
            case messages.ErrorMessage(ref="offer") if self._pairing is not None:
                self._pairing.own_offer_pending = False
            case messages.Relayed(message=relayed, room_id=room_id):
                if self._pairing is not None and room_id == self._pairing.room_id:
                    self._pairing.on_partner_message(relayed)

    def resumed(self, before: "ConnectionMonitor", now: float) -> None:
        """The session of another connection continues over this one."""
        self._tracker.move(before._tracker.state, now)

    def _is_current(self, room_id: RoomId) -> bool:
        return self._pairing is not None and room_id == self._pairing.room_id

    def _track_state(self, message: messages.ServerMessage, now: float) -> None:
        tracker = self._tracker
        match message:
            case messages.Ready():
                tracker.move(Waiting, now)
            case messages.Joined():
                tracker.move(Paired, now)
            case messages.ErrorMessage(ref="join"):
                tracker.move(Connected, now)
            case messages.Left(from_=by, room_id=room_id) if self._is_current(room_id):
                # Its own `leave` or `next` changed the state when it was sent, and a `join` may have since.
                if tracker.has_partner or by != self.own_id:
                    tracker.move(Connected, now)
            case messages.Relayed(message=messages.Offer(), room_id=room_id) if self._is_current(room_id):
                if tracker.has_partner:
                    tracker.move(Negotiating, now)
            case _:
                pass

    # ------------------------------------------------------------ from the client

    def on_client_message(self, data: bytes, frames: int, now: float) -> messages.ClientMessage | None:
        """The client sent this as one text message; returns it decoded, None if it can't be."""
        self._check_size(data, frames, now)
        message = decode(data, "v1", messages.OPTIONAL)
        self.covered |= {"P-2.10", "P-2.18", "P-3.4"}
        if has_unpaired_surrogate(data):
            self.report("P-2.18", "half of a surrogate pair, as of an emoji that was cut")
        self._received += 1
        self.heard += not isinstance(message, messages.Resume)
        if isinstance(message, Fault):
            self._check_form(data, message)
            return None
        self._check_state(message, now)
        match message:
            case messages.Resume():
                self.covered.add("P-13.9")
                if self._received > 1:
                    self.report("P-13.9", "`resume` is not the first message of its connection")
            case messages.Offer(payload):
                self._check_turn()
                self._check_gathered(_candidate_lines(payload))
            case messages.Answer(payload):
                if self._pairing is not None:
                    self._pairing.on_own_answer()
                self._check_gathered(_candidate_lines(payload))
            case messages.Candidate(payload) if payload.candidate:
                self.covered.add("P-6.3")
                if candidate_ufrag(payload) is None:
                    self.report("P-6.3", "a candidate without a user fragment")
                self._check_gathered([payload.candidate])
            case messages.Status(media):
                self.covered.add("P-3.18")
                if media == "connected":
                    self.report("P-3.18", "`status` connected, though no media can flow here")
        return message

    def on_binary_message(self, size: int) -> None:
        """The client sent a binary message."""
        self.report("P-2.10", f"a binary message of {size} bytes; expected text")

    def _check_size(self, data: bytes, frames: int, now: float) -> None:
        self.covered |= {"P-2.12", "P-7.3"}
        if len(data) > self._message_bytes:
            limit = f"welcome.limits.messageBytes was {self._message_bytes}"
            self.report("P-2.12", f"a message of {len(data)} bytes, though {limit}")
        if frames > MAX_FRAGMENTS:
            self.report("P-2.12", f"a message in {frames} frames; expected at most {MAX_FRAGMENTS}")
        if self._rate_limit.spend(len(data), now) > 0:
            allowed = f"{MESSAGES_PER_SECOND:.0f} messages and {BYTES_PER_SECOND / 1024:.0f} KiB a second"
            self.report("P-7.3", f"more than {allowed} in the long term")

    def _check_form(self, data: bytes, fault: Fault) -> None:
        if _is_object(data):
            self.report("P-3.4", f"{fault.ref or 'a message'}: {fault.message}")
        elif fault.code is ErrorCode.BAD_MESSAGE:
            self.report("P-2.10", f"a message that is not one JSON object: {fault.message}")

    def _check_state(self, message: messages.ClientMessage, now: float) -> None:
        self.covered.add("P-4.10")
        state = self._tracker.state
        if not self._tracker.receive(message, now):
            self.report("P-4.10", f"`{message.type}` in the state {state.__name__.lower()}; it crossed no message")

    def _check_gathered(self, candidates: Iterable[str]) -> None:
        """With the policy `relay` only relay candidates may be sent."""
        if self._pairing is None or not self._pairing.relay_only:
            return
        self.covered.add("P-6.7")
        for candidate in candidates:
            if (kind := _type_of(candidate)) != "relay":
                self.report("P-6.7", f"a candidate of typ {kind}, though iceTransportPolicy was `relay`")

    def _check_turn(self) -> None:
        pairing = self._pairing
        if pairing is None:
            return
        self.covered.add("P-5.5")
        if not pairing.is_offerer:
            self.covered.add("P-5.2")
        if not pairing.is_offerer and not pairing.partner_has_offered:
            self.report("P-5.2", "the answerer sent an offer before its partner did")
        elif pairing.own_offer_pending:
            self.report("P-5.5", "another offer while its last one is unanswered")
        pairing.own_offer_pending = True


@attrs.define
class _Pairing:
    """The offers and answers in one room."""

    room_id: RoomId
    is_offerer: bool
    polite: bool
    relay_only: bool
    partner_has_offered: bool = False
    own_offer_pending: bool = False

    def on_partner_message(self, message: object) -> None:
        if isinstance(message, messages.Offer):
            self.partner_has_offered = True
            if self.polite:  # of two offers that collide, its own is void
                self.own_offer_pending = False
        elif isinstance(message, messages.Answer):
            self.own_offer_pending = False

    def on_own_answer(self) -> None:
        """A polite client that answers has rolled back its own offer."""
        if self.polite:
            self.own_offer_pending = False


def has_unpaired_surrogate(data: bytes) -> bool:
    """Whether a string of this JSON text has one; UTF-8 has none, so it is written as an escape."""
    if rb"\u" not in data:
        return False
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
    except ValueError:  # not JSON, which is another fault
        return False
    return any("\ud800" <= character <= "\udfff" for character in text)


def _candidate_lines(description: messages.Description) -> list[str]:
    return [line[2:] for line in description.sdp.splitlines() if line.startswith("a=candidate:")]


def _type_of(candidate: str) -> str:
    """What follows `typ` in a candidate line (RFC 8839, section 5.1)."""
    _, _, rest = candidate.partition(" typ ")
    return rest.split(" ")[0] or "(none)"


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(orjson.loads(data), dict)
    except orjson.JSONDecodeError:
        return False
