"""Offer/answer inside one pairing, as seen from one side: roles, glare, held and stale candidates.

Each of the two sessions keeps its own view of the JSEP signaling state (RFC 8829, section 3.2) and decides from
that alone: `receive_from_client` judges signals of its own client, `receive_from_partner` those of the partner.
When two offers cross (glare), the impolite side's survives and the polite side's is void. Both sides reach that
verdict independently, because each sees its own offer before the partner's:

    view                 the own client offers            the partner's offer arrives
    Stable               passed on (*)                    delivered to the client
    HaveLocalOffer       wrong_state, one is pending      polite: delivered, the own offer is void;
                                                          impolite: dropped
    HaveRemoteOffer      impolite: passed on, the         dropped (the partner's session does not let
                         partner's is void; polite:       such an offer through)
                         dropped, it crossed

(*) but the first offer of a pairing is the offerer's: the answerer gets `not_your_turn`.

A candidate never overtakes its description: until the client has sent the description with the candidate's ICE
user fragment, the candidate is held. Held candidates that do not belong to the next description are dropped.
"""

import attrs

from curhat_trio.protocol.errors import ErrorCode
from curhat_trio.protocol.messages import Answer, Candidate, Offer
from curhat_trio.protocol.sdp import (
    candidate_ufrag,
    description_ufrags,
    relay_only_candidate,
    relay_only_description,
)
from curhat_trio.protocol.values import value

HELD_CANDIDATES = 64
"""How many candidates of a client are held until it sends their description."""

REFUSED_UFRAGS = 8
"""How many ICE user fragments of the partner's void offers are remembered."""

Ufrags = frozenset[str]
Signal = Offer | Answer | Candidate


@value
class Stable:
    """No offer is pending."""


@value
class HaveLocalOffer:
    """The client's offer was passed on and awaits an answer."""

    ufrags: Ufrags


@value
class HaveRemoteOffer:
    """The partner's offer was delivered to the client and awaits its answer."""

    ufrags: Ufrags


@value
class Signaling:
    """The negotiation of a pairing, as one of its two sides sees it."""

    polite: bool
    """Whether this side's offer is void if two cross; the answerer is polite."""
    view: Stable | HaveLocalOffer | HaveRemoteOffer = Stable()
    own: Ufrags | None = None
    """The client's ICE user fragments in the last completed offer/answer exchange; None before the first."""
    peer: Ufrags = frozenset()
    """The partner's ICE user fragments in the last completed exchange."""
    held: tuple[Candidate, ...] = ()
    """The client's candidates whose description it has not sent yet."""
    refused: tuple[str, ...] = ()
    """ICE user fragments of the partner's void offers: candidates with one of these are dropped."""


@value
class Passed:
    """The signal is allowed. What to relay because of it, in order; nothing if it is held, or dropped silently."""

    signals: tuple[Signal, ...] = ()


@value
class Refused:
    """The signal is answered with an `error`."""

    code: ErrorCode
    message: str


Verdict = Passed | Refused


def receive_from_client(signaling: Signaling, signal: Signal) -> tuple[Signaling, Verdict]:
    """Judge a signal of the own client; what passes goes to the partner."""
    if isinstance(signal, Candidate):  # by far the most frequent
        return _candidate_from_client(signaling, signal)
    if isinstance(signal, Offer):
        return _offer_from_client(signaling, signal)
    return _answer_from_client(signaling, signal)


def receive_from_partner(signaling: Signaling, signal: Signal) -> tuple[Signaling, Passed]:
    """Judge a signal of the partner; what passes goes to the own client."""
    if isinstance(signal, Candidate):  # by far the most frequent
        return _candidate_from_partner(signaling, signal)
    if isinstance(signal, Offer):
        return _offer_from_partner(signaling, signal)
    return _answer_from_partner(signaling, signal)


def relay_only(signal: Signal) -> Signal | None:
    """A signal as the partner may see it under the policy `relay`; None if it must not see it at all."""
    if isinstance(signal, Candidate):
        candidate = relay_only_candidate(signal.payload)
        return None if candidate is None else Candidate(candidate)
    return attrs.evolve(signal, payload=relay_only_description(signal.payload))


# ---------------------------------------------------------------- signals of the own client


def _offer_from_client(signaling: Signaling, offer: Offer) -> tuple[Signaling, Verdict]:
    match signaling.view:
        case HaveLocalOffer():
            return signaling, Refused(ErrorCode.WRONG_STATE, "your previous offer is still waiting for an answer")
        case HaveRemoteOffer(ufrags) if not signaling.polite:
            signaling = _void(signaling, ufrags)
        case HaveRemoteOffer():
            return signaling, Passed()
        case Stable() if signaling.polite and signaling.own is None:
            return signaling, Refused(
                ErrorCode.NOT_YOUR_TURN, "the offerer makes the first offer; wait for it and answer it"
            )
    ufrags = description_ufrags(offer.payload)
    offered = Signaling(
        polite=signaling.polite,
        view=HaveLocalOffer(ufrags),
        own=signaling.own,
        peer=signaling.peer,
        refused=signaling.refused,
    )
    return offered, _with_followers(offer, ufrags, signaling.held)


def _answer_from_client(signaling: Signaling, answer: Answer) -> tuple[Signaling, Verdict]:
    if not isinstance(signaling.view, HaveRemoteOffer):
        return signaling, Refused(ErrorCode.WRONG_STATE, "there is no offer to answer")
    ufrags = description_ufrags(answer.payload)
    answered = Signaling(
        polite=signaling.polite, own=ufrags, peer=signaling.view.ufrags, refused=signaling.refused
    )
    return answered, _with_followers(answer, ufrags, signaling.held)


def _with_followers(description: Offer | Answer, ufrags: Ufrags, held: tuple[Candidate, ...]) -> Passed:
    """Pass a description on, followed by the held candidates that belong to it; the others are dropped."""
    if not held:
        return Passed((description,))
    followers = (each for each in held if _is_of(candidate_ufrag(each.payload), ufrags))
    return Passed((description, *followers))


def _candidate_from_client(signaling: Signaling, candidate: Candidate) -> tuple[Signaling, Verdict]:
    if _is_described(signaling, candidate):
        return signaling, Passed((candidate,))
    if len(signaling.held) >= HELD_CANDIDATES:
        return signaling, Refused(
            ErrorCode.WRONG_STATE, f"{HELD_CANDIDATES} candidates are already held for your next offer or answer"
        )
    return attrs.evolve(signaling, held=(*signaling.held, candidate)), Passed()


def _is_described(signaling: Signaling, candidate: Candidate) -> bool:
    own, view = signaling.own, signaling.view
    ufrag = candidate_ufrag(candidate.payload)
    if own is not None and _is_of(ufrag, own):
        return True
    return isinstance(view, HaveLocalOffer) and _is_of(ufrag, view.ufrags)


def _is_of(ufrag: str | None, ufrags: Ufrags) -> bool:
    """Whether a candidate with this user fragment belongs to a description; one without belongs to any."""
    return ufrag is None or ufrag in ufrags or not ufrags


# ---------------------------------------------------------------- signals of the partner


def _offer_from_partner(signaling: Signaling, offer: Offer) -> tuple[Signaling, Passed]:
    ufrags = description_ufrags(offer.payload)
    match signaling.view:
        case HaveLocalOffer() if not signaling.polite:
            return _void(signaling, ufrags), Passed()
        case HaveRemoteOffer():
            return _void(signaling, ufrags), Passed()
    offered = Signaling(
        polite=signaling.polite,
        view=HaveRemoteOffer(ufrags),
        own=signaling.own,
        peer=signaling.peer,
        held=signaling.held,
        refused=_still_void(signaling, ufrags),
    )
    return offered, Passed((offer,))


def _answer_from_partner(signaling: Signaling, answer: Answer) -> tuple[Signaling, Passed]:
    if not isinstance(signaling.view, HaveLocalOffer):
        return signaling, Passed()
    ufrags = description_ufrags(answer.payload)
    answered = Signaling(
        polite=signaling.polite,
        own=signaling.view.ufrags,
        peer=ufrags,
        held=signaling.held,
        refused=_still_void(signaling, ufrags),
    )
    return answered, Passed((answer,))


def _candidate_from_partner(signaling: Signaling, candidate: Candidate) -> tuple[Signaling, Passed]:
    if signaling.refused and candidate_ufrag(candidate.payload) in signaling.refused:
        return signaling, Passed()
    return signaling, Passed((candidate,))


def _void(signaling: Signaling, ufrags: Ufrags) -> Signaling:
    """Remember the user fragments of a void offer, except those that are in use by a completed exchange."""
    refused = (*signaling.refused, *sorted(ufrags - signaling.peer - set(signaling.refused)))
    return attrs.evolve(signaling, refused=refused[-REFUSED_UFRAGS:])


def _still_void(signaling: Signaling, ufrags: Ufrags) -> tuple[str, ...]:
    """The void user fragments, without those that a new description uses."""
    refused = signaling.refused
    return refused and tuple(ufrag for ufrag in refused if ufrag not in ufrags)
