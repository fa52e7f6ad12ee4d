"""What must hold of a client at all times, whatever it is being put through: one pass over all that is said.

The situations ask for one thing each; this looks at every message of every connection for what no situation may
excuse: its form, its size, whether it may say it now. It knows no sockets and no clock.
"""

from collections.abc import Iterable

import attrs
import orjson

from curhat_trio.conformance.client.state_tracker import Standing
from curhat_trio.frames import MAX_FRAGMENTS
from curhat_trio.protocol.codec import decode
from curhat_trio.protocol.errors import ErrorCode, Fault
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import (
    OPTIONAL,
    Answer,
    Candidate,
    ClientMessage,
    Description,
    ErrorMessage,
    Joined,
    Left,
    Offer,
    Ready,
    Relayed,
    Resume,
    ServerMessage,
    Status,
    Welcome,
)
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.sdp import candidate_ufrag
from curhat_trio.protocol.session import Connected, Negotiating, Paired, Waiting

WATCHED = (
    *("P-2.2", "P-2.10", "P-2.12", "P-3.4", "P-3.18", "P-4.10", "P-5.2", "P-5.5"),
    *("P-6.3", "P-6.7", "P-7.2", "P-7.3", "P-13.9"),
)
"""The rules that hold on every connection. P-2.2 and P-7.2 are seen by the connection itself."""

MESSAGES_PER_SECOND, MESSAGE_BURST = 20.0, 200
BYTES_PER_SECOND, BYTE_BURST = 65536.0, 524288
"""The allowance of P-7.3."""


@attrs.frozen
class Breach:
    """The client broke a rule, or did not get as far as a situation needs (then `requirements` is empty)."""

    requirements: tuple[str, ...]
    detail: str
    """What was expected, and what came."""


@attrs.define
class Watch:
    """Follows one connection: `breaches` is what it found, `seen` the rules that there was occasion to break."""

    breaches: list[Breach] = attrs.Factory(list)
    seen: set[str] = attrs.Factory(set)
    _message_bytes: int = 65536
    _rate_limit: RateLimit = attrs.Factory(
        lambda: RateLimit(Allowance(MESSAGES_PER_SECOND, MESSAGE_BURST, BYTES_PER_SECOND, BYTE_BURST))
    )
    _standing: Standing = attrs.Factory(Standing)
    _own_id: ClientId | None = None
    _pairing: "_Pairing | None" = None
    _said: int = 0

    def break_(self, requirement: str, detail: str) -> None:
        """Note that a rule was broken."""
        self.seen.add(requirement)
        self.breaches.append(Breach((requirement,), detail))

    # ------------------------------------------------------------ the server's side

    def server_said(self, message: ServerMessage, now: float) -> None:
        """The script says this to the client."""
        self._note_standing(message, now)
        match message:
            case Welcome(session_id=own_id, limits=limits):
                self._own_id, self._message_bytes = own_id, limits.message_bytes
            case Joined(room_id=room_id, role=role, polite=polite, ice_transport_policy=policy):
                self._pairing = _Pairing(room_id, role == "offerer", polite, policy == "relay")
            case Left(room_id=room_id) if self._is_current(room_id):
                self._pairing = None
            case ErrorMessage(ref="offer") if self._pairing is not None:
                self._pairing.own_offer_pending = False
            case Relayed(message=said, room_id=room_id):
                if self._pairing is not None and room_id == self._pairing.room_id:
                    self._pairing.partner_said(said)

    def resumed(self, before: "Watch", now: float) -> None:
        """The session that was followed over another connection goes on over this one."""
        self._standing.move(before._standing.state, now)

    def _is_current(self, room_id: RoomId) -> bool:
        return self._pairing is not None and room_id == self._pairing.room_id

    def _note_standing(self, message: ServerMessage, now: float) -> None:
        standing = self._standing
        match message:
            case Ready():
                standing.move(Waiting, now)
            case Joined():
                standing.move(Paired, now)
            case ErrorMessage(ref="join"):
                standing.move(Connected, now)
            case Left(from_=by, room_id=room_id) if self._is_current(room_id):
                # Its own `leave` or `next` moved it when it was said, and a `join` may have moved it on.
                if standing.has_partner or by != self._own_id:
                    standing.move(Connected, now)
            case Relayed(message=Offer(), room_id=room_id) if self._is_current(room_id) and standing.has_partner:
                standing.move(Negotiating, now)
            case _:
                pass

    # ------------------------------------------------------------ the client's side

    def client_said(self, data: bytes, frames: int, now: float) -> ClientMessage | None:
        """The client said this in one text message; returns what it means, None if nothing."""
        self._check_size(data, frames, now)
        message = decode(data, "v1", OPTIONAL)
        self.seen |= {"P-2.10", "P-3.4"}
        self._said += 1
        if isinstance(message, Fault):
            self._check_form(data, message)
            return None
        self._check_standing(message, now)
        match message:
            case Resume():
                self.seen.add("P-13.9")
                if self._said > 1:
                    self.break_("P-13.9", "resume, and it is not the first message of its connection")
            case Offer(payload):
                self._check_turn()
                self._check_gathered(_candidate_lines(payload))
            case Answer(payload):
                if self._pairing is not None:
                    self._pairing.own_answer()
                self._check_gathered(_candidate_lines(payload))
            case Candidate(payload) if payload.candidate:
                self.seen.add("P-6.3")
                if candidate_ufrag(payload) is None:
                    self.break_("P-6.3", "a candidate names no user fragment")
                self._check_gathered([payload.candidate])
            case Status(media):
                self.seen.add("P-3.18")
                if media == "connected":
                    self.break_("P-3.18", "status connected, though no audio and video can flow here")
        return message

    def binary_said(self, size: int) -> None:
        """The client sent a binary message."""
        self.break_("P-2.10", f"a binary message of {size} bytes; expected text")

    def _check_size(self, data: bytes, frames: int, now: float) -> None:
        self.seen |= {"P-2.12", "P-7.3"}
        if len(data) > self._message_bytes:
            told = f"welcome.limits.messageBytes was {self._message_bytes}"
            self.break_("P-2.12", f"a message of {len(data)} bytes, though {told}")
        if frames > MAX_FRAGMENTS:
            self.break_("P-2.12", f"a message in {frames} frames; expected at most {MAX_FRAGMENTS}")
        if self._rate_limit.spend(len(data), now) > 0:
            allowed = f"{MESSAGES_PER_SECOND:.0f} messages and {BYTES_PER_SECOND / 1024:.0f} KiB a second"
            self.break_("P-7.3", f"more than {allowed} in the long run")

    def _check_form(self, data: bytes, fault: Fault) -> None:
        if _is_object(data):
            self.break_("P-3.4", f"{fault.ref or 'a message'}: {fault.message}")
        elif fault.code is ErrorCode.BAD_MESSAGE:
            self.break_("P-2.10", f"a message that is not one JSON object: {fault.message}")

    def _check_standing(self, message: ClientMessage, now: float) -> None:
        self.seen.add("P-4.10")
        state = self._standing.state
        if not self._standing.takes(message, now):
            self.break_("P-4.10", f"`{message.type}` while it is {state.__name__.lower()}, and it crossed nothing")

    def _check_gathered(self, candidates: Iterable[str]) -> None:
        """Under the policy `relay` nothing but candidates of relays may be told."""
        if self._pairing is None or not self._pairing.relay_only:
            return
        self.seen.add("P-6.7")
        for candidate in candidates:
            if (kind := _type_of(candidate)) != "relay":
                self.break_("P-6.7", f"a candidate of typ {kind}, though iceTransportPolicy was `relay`")

    def _check_turn(self) -> None:
        pairing = self._pairing
        if pairing is None:
            return
        self.seen.add("P-5.5")
        if not pairing.is_offerer:
            self.seen.add("P-5.2")
        if not pairing.is_offerer and not pairing.partner_has_offered:
            self.break_("P-5.2", "the answerer offers, and no offer of its partner's has come")
        elif pairing.own_offer_pending:
            self.break_("P-5.5", "another offer, while its last one is unanswered")
        pairing.own_offer_pending = True


@attrs.define
class _Pairing:
    """What has been offered and answered in one room."""

    room_id: RoomId
    is_offerer: bool
    polite: bool
    relay_only: bool
    partner_has_offered: bool = False
    own_offer_pending: bool = False

    def partner_said(self, said: object) -> None:
        if isinstance(said, Offer):
            self.partner_has_offered = True
            if self.polite:  # of two offers that cross, its own is void
                self.own_offer_pending = False
        elif isinstance(said, Answer):
            self.own_offer_pending = False

    def own_answer(self) -> None:
        """A polite client that answers has given up its own offer; one that crossed ours is void too."""
        if self.polite:
            self.own_offer_pending = False


def _candidate_lines(description: Description) -> list[str]:
    return [line[2:] for line in description.sdp.splitlines() if line.startswith("a=candidate:")]


def _type_of(candidate: str) -> str:
    """What a candidate line has behind `typ` (RFC 8839, section 5.1)."""
    _, _, rest = candidate.partition(" typ ")
    return rest.split(" ")[0] or "(none)"


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(orjson.loads(data), dict)
    except orjson.JSONDecodeError:
        return False
