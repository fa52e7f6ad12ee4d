"""Offer/answer inside one pairing, as one side of it sees things: roles, glare, held and stale candidates.

Each seat keeps its own view of the JSEP signaling state (RFC 8829, section 3.2) and decides from that alone:
`say` judges what the own client says, `hear` what the partner said. When two offers cross, the impolite side's
survives and the polite side's is void. Both seats reach that verdict without asking each other, because each
sees its own offer before the partner's:

    view                 the own client offers            the partner's offer arrives
    Stable               passed on (*)                    given to the client
    HaveLocalOffer       wrong_state, one is pending      polite: given, own is void; impolite: dropped
    HaveRemoteOffer      impolite: passed on, the         dropped (no rule-abiding partner's server lets
                         partner's is void; polite:       it through)
                         dropped, it crossed

(*) but the very first offer of a pairing is the offerer's: the answerer hears `not_your_turn`.

A candidate never overtakes its description: until the client has sent the description that carries the
candidate's ICE user fragment, the candidate is held. What the next description does not claim is dropped.
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
"""How many candidates are held for a description that has not come yet."""

REFUSED_UFRAGS = 8
"""How many of the partner's void ICE generations are remembered."""

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
    """The partner's offer was given to the client and awaits its answer."""

    ufrags: Ufrags


@value
class Signaling:
    """One seat's view of a pairing's negotiation."""

    polite: bool
    """The answerer is polite: of two offers that cross, its own yields."""
    view: Stable | HaveLocalOffer | HaveRemoteOffer = Stable()
    own: Ufrags | None = None
    """The client's ICE generation of the last finished exchange; None before any."""
    peer: Ufrags = frozenset()
    """The partner's ICE generation of the last finished exchange."""
    held: tuple[Candidate, ...] = ()
    """The client's candidates whose description has not come yet."""
    refused: tuple[str, ...] = ()
    """Fragments of the partner's void offers: their candidates are dropped."""


@value
class Passed:
    """What goes on, in this order: to the partner (`say`) or to the client (`hear`). Empty: dropped in silence."""

    signals: tuple[Signal, ...] = ()


@value
class Refused:
    """What the own client is told when its signal is refused."""

    code: ErrorCode
    message: str


Verdict = Passed | Refused


def say(signaling: Signaling, signal: Signal) -> tuple[Signaling, Verdict]:
    """Judge what the own client says."""
    if isinstance(signal, Candidate):  # most of all signals are
        return _say_candidate(signaling, signal)
    if isinstance(signal, Offer):
        return _say_offer(signaling, signal)
    return _say_answer(signaling, signal)


def hear(signaling: Signaling, signal: Signal) -> tuple[Signaling, Passed]:
    """Judge what the partner said."""
    if isinstance(signal, Candidate):  # most of all signals are
        return _hear_candidate(signaling, signal)
    if isinstance(signal, Offer):
        return _hear_offer(signaling, signal)
    return _hear_answer(signaling, signal)


def relay_only(signal: Signal) -> Signal | None:
    """What of a client's signal the partner may see under the policy `relay`; None: nothing of it."""
    if isinstance(signal, Candidate):
        candidate = relay_only_candidate(signal.payload)
        return None if candidate is None else Candidate(candidate)
    return attrs.evolve(signal, payload=relay_only_description(signal.payload))


# ---------------------------------------------------------------- the own client


def _say_offer(signaling: Signaling, offer: Offer) -> tuple[Signaling, Verdict]:
    match signaling.view:
        case HaveLocalOffer():
            return signaling, Refused(ErrorCode.WRONG_STATE, "your last offer still awaits its answer")
        case HaveRemoteOffer(ufrags) if not signaling.polite:
            signaling = _refuse(signaling, ufrags)
        case HaveRemoteOffer():
            return signaling, Passed()
        case Stable() if signaling.polite and signaling.own is None:
            return signaling, Refused(
                ErrorCode.NOT_YOUR_TURN, "the offerer makes the first offer; wait for it and answer"
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


def _say_answer(signaling: Signaling, answer: Answer) -> tuple[Signaling, Verdict]:
    if not isinstance(signaling.view, HaveRemoteOffer):
        return signaling, Refused(ErrorCode.WRONG_STATE, "there is no offer to answer")
    ufrags = description_ufrags(answer.payload)
    answered = Signaling(
        polite=signaling.polite, own=ufrags, peer=signaling.view.ufrags, refused=signaling.refused
    )
    return answered, _with_followers(answer, ufrags, signaling.held)


def _with_followers(description: Offer | Answer, ufrags: Ufrags, held: tuple[Candidate, ...]) -> Passed:
    """Pass a description on, and after it the held candidates that are its own; the others are dropped."""
    if not held:
        return Passed((description,))
    followers = (each for each in held if _is_of(candidate_ufrag(each.payload), ufrags))
    return Passed((description, *followers))


def _say_candidate(signaling: Signaling, candidate: Candidate) -> tuple[Signaling, Verdict]:
    if _is_described(signaling, candidate):
        return signaling, Passed((candidate,))
    if len(signaling.held) >= HELD_CANDIDATES:
        return signaling, Refused(
            ErrorCode.WRONG_STATE, f"{HELD_CANDIDATES} candidates already wait for your offer or answer"
        )
    return attrs.evolve(signaling, held=(*signaling.held, candidate)), Passed()


def _is_described(signaling: Signaling, candidate: Candidate) -> bool:
    own, view = signaling.own, signaling.view
    ufrag = candidate_ufrag(candidate.payload)
    if own is not None and _is_of(ufrag, own):
        return True
    return isinstance(view, HaveLocalOffer) and _is_of(ufrag, view.ufrags)


def _is_of(ufrag: str | None, ufrags: Ufrags) -> bool:
    """Whether a candidate with this fragment belongs to a generation; one that names none belongs to any."""
    return ufrag is None or ufrag in ufrags or not ufrags


# ---------------------------------------------------------------- the partner


def _hear_offer(signaling: Signaling, offer: Offer) -> tuple[Signaling, Passed]:
    ufrags = description_ufrags(offer.payload)
    match signaling.view:
        case HaveLocalOffer() if not signaling.polite:
            return _refuse(signaling, ufrags), Passed()
        case HaveRemoteOffer():
            return _refuse(signaling, ufrags), Passed()
    offered = Signaling(
        polite=signaling.polite,
        view=HaveRemoteOffer(ufrags),
        own=signaling.own,
        peer=signaling.peer,
        held=signaling.held,
        refused=_still_void(signaling, ufrags),
    )
    return offered, Passed((offer,))


def _hear_answer(signaling: Signaling, answer: Answer) -> tuple[Signaling, Passed]:
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


def _hear_candidate(signaling: Signaling, candidate: Candidate) -> tuple[Signaling, Passed]:
    if signaling.refused and candidate_ufrag(candidate.payload) in signaling.refused:
        return signaling, Passed()
    return signaling, Passed((candidate,))


def _refuse(signaling: Signaling, ufrags: Ufrags) -> Signaling:
    """Remember a void offer's generation, unless an exchange that stands uses it too."""
    void = (*signaling.refused, *sorted(ufrags - signaling.peer - set(signaling.refused)))
    return attrs.evolve(signaling, refused=void[-REFUSED_UFRAGS:])


def _still_void(signaling: Signaling, ufrags: Ufrags) -> tuple[str, ...]:
    """The void generations, but for those that are used by an exchange which stands now."""
    refused = signaling.refused
    return refused and tuple(ufrag for ufrag in refused if ufrag not in ufrags)
