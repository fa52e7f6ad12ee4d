"""Mistakes that a signaling server can make, each a value of the model's CONSTANT Mistake. TLC must find each.

Several are those of the server that this one re-implements: SEEDS. Others are this server with one line left out.
Every invariant and every property is broken by at least one; run.py sees to that.
"""

from typing import NamedTuple


class Mistake(NamedTuple):
    """One value of `Mistake`, where it must be found, and by what."""

    name: str
    world: str
    """The .cfg in which it is looked for."""
    broken: str
    """The first invariant or property that TLC reports."""
    shows: str
    changes: tuple[str, ...] = ()
    """Other lines of the .cfg, replaced: "Joins = 2"."""
    alone: bool = False
    """Nothing but `broken` is looked for: another invariant would be broken earlier."""
    long: bool = False
    """It is found only after minutes."""


MISTAKES = (
    Mistake("both_offer", "MCrejoin3", "OneOfferer", "both partners are told to offer: always glare"),
    Mistake("newcomer_offers", "MCrejoin3", "OneOfferer", "the roles are swapped: the room's owner answers"),
    Mistake("answerer_first", "MCglare2", "FirstOfferByOfferer", "the answerer makes the first offer"),
    Mistake("impolite_yields", "MCglare2", "ViewsAgree", "offers cross and both sides give up their own"),
    Mistake("polite_insists", "MCglare2", "ViewsAgree", "offers cross and both sides insist: two pending offers"),
    Mistake("survivor_stays", "MCrejoin3", "NotStranded", "the abandoned client stays in the old room for ever"),
    Mistake("requeued", "MCrejoin3", "SentInOrder", "the abandoned client has to wait again without a `join`"),
    Mistake("lazy_pool", "MCrejoin3", "PoolOnlyWaiting", "a `leave` leaves the ticket in the pool"),
    Mistake("lost_not_withdrawn", "MCrejoin3", "PoolOnlyWaiting", "a lost socket takes nothing out of the pool"),
    Mistake("pair_kept", "MCrejoin3", "PoolOnlyWaiting", "who was found stays in the pool: three to a room"),
    Mistake("old_ticket", "MCrejoin3", "SentInOrder", "the first wait's match is taken for the second's"),
    Mistake(
        "ticket_reused",
        "MCrejoin3",
        "PoolOnlyWaiting",
        "`next` waits under the old room's id",
    ),
    Mistake("no_decline", "MCrejoin3", "NotStranded", "a match that crossed a leave is not answered"),
    Mistake(
        "unread_forgotten",
        "MCrejoin3",
        "NotStranded",
        "a closing session does not answer its last match",
    ),
    Mistake("introduced_half", "MCrejoin3", "NotStranded", "one was gone already, and the other is not notified"),
    Mistake("overflow_ignored", "MCrejoin3", "WaitingIsKnown", "a full inbox loses an event and lives on"),
    Mistake("loss_unreported", "MCrejoin3", "NotStranded", "a lost socket does not end the other's pairing"),
    Mistake("timeout_unreported", "MCrejoin3", "NotStranded", "a negotiation timeout ends one side only"),
    Mistake("left_anywhere", "MCrejoin3", "NotStranded", "a late `PeerLeft` ends the next pairing"),
    Mistake("left_twice", "MCrejoin3", "SentInOrder", "two leaves cross, and one client gets two for one pairing"),
    Mistake("no_echo", "MCrejoin3", "StateIsKnown", "a client's own `leave` is not acknowledged"),
    Mistake("relayed_anywhere", "MCrelay3", "SentInOrder", "late messages reach the next partner"),
    Mistake("rooms_mixed", "MCwishes3", "NamedRoomsApart", "somebody who named no room lands in a named one"),
    Mistake("unfair", "MClive", "WaitersMeetAB", "the matchmaker may stop: two wait for ever"),
    Mistake(
        "never_widened",
        "MClive",
        "WaitersMeetAB",
        "a wish for a topic is never given up: two wait for ever",
        ("Clients = {a, b}", "AllJoins = 2", 'Wishes = {"any", "music"}'),
    ),
    Mistake("lazy_pool", "MClive", "LostIsFreedA", "... and a ticket stays after all clients have gone"),
    Mistake("survivor_stays", "MClive", "AbandonedIsNotifiedA", "... and the abandoned client is never notified"),
    Mistake("no_echo", "MCclients", "LeaveIsAnsweredA", "... and a client that waits for the echo waits for ever"),
    Mistake("join_again", "MCrejoin3", "PoolOnlyWaiting", "a second `join` begins a second wait"),
    Mistake(
        "sent_to_detached",
        "MCrejoin3",
        "DetachedIsEmpty",
        "two are lost at once: an event is queued for a session that is detached",
    ),
    Mistake(
        "leave_unreported", "MCrejoin3", "StateIsKnown", "the pairing is over for the server, not for the client"
    ),
    Mistake("widened_unseen", "MCwishes3", "NoPairLeftWaiting", "a widened ticket is not matched at once"),
    Mistake("pair_kept", "MCrejoin3", "TwoPerRoom", "... three to a room", alone=True),
    Mistake("pair_kept", "MCrejoin3", "Symmetric", "... one has a partner who has another", alone=True),
    Mistake("pair_kept", "MCsafe3", "OnlyFromPartner", "... one receives messages of another pairing", alone=True),
    Mistake("lost_not_withdrawn", "MCrejoin3", "NothingLeft", "... and stays when all are gone", alone=True),
    Mistake("impolite_yields", "MCglare2", "SignalsFit", "... an answer finds no offer", alone=True),
    Mistake(
        "overflow_lingers",
        "MClive",
        "OverflowClosesA",
        "an event that did not fit into an inbox does not close the session",
    ),
    Mistake(
        "presence_unreported", "MCcuts2", "PresenceKnown", "the partner is not notified that the client is away"
    ),
    Mistake("crossing_unreported", "MCcuts2", "PresenceKnown", "... of a match that crossed the loss of the link"),
    Mistake(
        "presence_anywhere",
        "MCsecondwait3",
        "PresenceKnown",
        "an earlier partner's absence is taken for the next one's",
        long=True,
    ),
    Mistake(
        "return_unreported", "MCcuts2", "PresenceKnown", "the partner is not notified that the client is back"
    ),
    Mistake("resumed_twice", "MCcuts2", "SentInOrder", "`back` is sent although `away` was not"),
    Mistake(
        "suspend_forgotten",
        "MCcuts2",
        "AwayIsSuspended",
        "the pool is not asked to suspend the ticket of a client that is away",
    ),
    Mistake("suspended_matched", "MCcuts2", "AwayIsNotMatched", "the pool matches whom it knows to be away"),
    Mistake(
        "reinstate_forgotten",
        "MCcuts2",
        "SuspendedIsAway",
        "the pool is not asked to reinstate the ticket of a client that is back",
    ),
    Mistake("reinstate_forgotten", "MCcutslive", "WaitersMeetAB", "... and it waits for ever"),
    Mistake("reinstated_unseen", "MCcuts2", "NoPairLeftWaiting", "who is back is not given who waits already"),
    Mistake("place_lost", "MCcuts2", "PlaceIsKept", "who is back has to queue anew"),
    Mistake("suspended_kept", "MCcuts2", "PoolOnlyWaiting", "the ticket of somebody given up stays in the pool"),
    Mistake(
        "timeout_while_away_unreported",
        "MCcuts2",
        "NotStranded",
        "the partner is not notified when a client that is away is given up",
    ),
    Mistake("awaited_for_ever", "MCcutslive", "AwayIsSettledA", "nobody is ever given up"),
    Mistake("awaited_for_ever", "MCcutslive", "ApartEndsA", "... and a partner waits for it for ever"),
    Mistake("loss_unseen", "MCclients", "LostSocketIsFreedA", "a lost socket is not noticed: its session stays"),
    Mistake(
        "leave_unreported", "MCclients", "BeliefIsTrueA", "... and the client believes for ever that it is paired"
    ),
    Mistake(
        "slow_kept", "MCnonreader", "SlowIsClosedA", "messages are queued for ever for a client that does not read"
    ),
    Mistake("slow_kept", "MCnonreader", "OutIsBounded", "... and its queue grows", ("OutCap = 1",), alone=True),
    Mistake(
        "requeued",
        "MCclients",
        "OnlyLeaveIsRefused",
        "... and a client that does as it should is refused a `join`",
        ("Joins = 2", "AllJoins = 3"),
        alone=True,
    ),
    Mistake(
        "none",
        "MCclients",
        "LeaveIsAnsweredA",
        "a client that waits for its own `leave` even after a refusal waits for ever",
        ("AcceptsRefusal = FALSE",),
    ),
)

SEEDS = {
    "both partners are told to offer": "both_offer",
    "the one left behind stays in its room for ever": "survivor_stays",
    "a second join strands the client": "join_again",
    "two disconnect at the same moment": "sent_to_detached",
    "a send queue is full": "overflow_ignored",
}
"""What the server that this one re-implements did wrong, as far as the model can say it."""

TWIN_MISTAKES = (
    ("UNFAIR", "meet", "the matchmaker may stop: two wait for ever"),
    ("NO_DECLINE", "notified", "a match that crossed a leave is not answered"),
    ("NO_WITHDRAWAL", "freed", "a lost socket leaves its ticket in the pool"),
    ("OVERFLOW_LINGERS", "closes", "an event that did not fit into an inbox does not close the session"),
    ("NO_ECHO", "answered", "a client's own `leave` is not acknowledged"),
)
"""The same for the Promela twin: a name to define, the claim that must fail, and what that shows."""
