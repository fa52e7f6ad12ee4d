"""Mistakes that a signaling server can make, each a value of the model's CONSTANT Mistake. TLC must find each.

Several are those of the server that this one re-implements; others are this server with one line left out.
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


MISTAKES = (
    Mistake("both_offer", "MCrejoin3", "OneOfferer", "both partners are told to offer: always glare"),
    Mistake("newcomer_offers", "MCrejoin3", "OneOfferer", "the roles are swapped: the room's owner answers"),
    Mistake("answerer_first", "MCglare2", "FirstOfferByOfferer", "the answerer makes the first offer"),
    Mistake("impolite_yields", "MCglare2", "ViewsAgree", "offers cross and both sides give up their own"),
    Mistake("polite_insists", "MCglare2", "ViewsAgree", "offers cross and both sides insist: two pending offers"),
    Mistake("survivor_stays", "MCrejoin3", "NotStranded", "the abandoned sits in the old room for ever"),
    Mistake("requeued", "MCrejoin3", "ToldInOrder", "the abandoned is made to wait again without having asked"),
    Mistake("lazy_pool", "MCrejoin3", "PoolOnlyWaiting", "a `leave` leaves the ticket in the pool"),
    Mistake("lost_not_withdrawn", "MCrejoin3", "PoolOnlyWaiting", "a lost socket takes nothing out of the pool"),
    Mistake("pair_kept", "MCrejoin3", "PoolOnlyWaiting", "who was found stays in the pool: three to a room"),
    Mistake("old_ticket", "MCrejoin3", "ToldInOrder", "the first wait's match is taken for the second's"),
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
    Mistake("introduced_half", "MCrejoin3", "NotStranded", "one was gone already, and the other is not told"),
    Mistake("overflow_ignored", "MCrejoin3", "WaitingIsKnown", "a full inbox loses an event and lives on"),
    Mistake("lost_untold", "MCrejoin3", "NotStranded", "a lost socket does not end the other's pairing"),
    Mistake("timeout_untold", "MCrejoin3", "NotStranded", "a negotiation timeout ends one side only"),
    Mistake("left_anywhere", "MCrejoin3", "NotStranded", "a late `PeerLeft` ends the next pairing"),
    Mistake("left_twice", "MCrejoin3", "ToldInOrder", "two leaves cross, and one side hears two for one pairing"),
    Mistake("no_echo", "MCrejoin3", "ToldTheState", "one's own leave is not acknowledged"),
    Mistake("said_anywhere", "MCrelay3", "ToldInOrder", "late words reach the next stranger"),
    Mistake("rooms_mixed", "MCwishes3", "NamedRoomsApart", "somebody who named no room lands in a named one"),
    Mistake("unfair", "MClive", "WaitersMeetAB", "the matchmaker may stop: two wait for ever"),
    Mistake(
        "never_relaxed",
        "MClive",
        "WaitersMeetAB",
        "a wish for a topic is never given up: two wait for ever",
        ("Clients = {a, b}", "AllJoins = 2", 'Wishes = {"any", "music"}'),
    ),
    Mistake("lazy_pool", "MClive", "LostIsFreedA", "... and a ghost's ticket stays after everybody has gone"),
    Mistake("survivor_stays", "MClive", "AbandonedIsToldA", "... and the abandoned is never told"),
    Mistake("no_echo", "MCclients", "LeaveIsAnsweredA", "... and a client that waits for the echo waits for ever"),
    Mistake(
        "none",
        "MCclients",
        "LeaveIsAnsweredA",
        "a client that waits for its own `leave` even after a refusal waits for ever",
        ("HeedsRefusal = FALSE",),
    ),
)
