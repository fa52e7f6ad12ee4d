"""The lines of a trace: sessions, events and effects as small JSON objects, without anything private.

Whatever belongs to a user (ids, names of rooms and topics, ICE user fragments) is replaced by a short name, so
that a trace shows only where it appears again. Descriptions, candidates, chat and user names are left out, and so
is a field with its usual value.

`revive` is the reverse: it makes a message that has the same line.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from curhat_trio.policy.matching import Pair
from curhat_trio.protocol import effects, events, messages
from curhat_trio.protocol.errors import CloseCode, ErrorCode, Fault
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.sdp import candidate_ufrag, description_ufrags, relay_only_candidate
from curhat_trio.protocol.session import (
    Closed,
    Connected,
    Negotiating,
    Paired,
    Session,
    Waiting,
    comparable_topics,
)
from curhat_trio.protocol.signaling import HaveLocalOffer, HaveRemoteOffer

FORMAT = 4
"""The version of this format, in the first line."""

Line = dict[str, Any]


@attrs.frozen
class Terms:
    """Settings of a server that its sessions and its matchmaker depend on."""

    widens: bool
    """Clients with topics wait for a partner who shares one before they are matched with anyone."""
    resumes: bool
    """A session may outlive its connection."""
    relay_only: bool
    """Partners get no candidates but those of relays."""


def terms_line(terms: Terms) -> Line:
    """The part that the first line and the last one have in common."""
    return {"format": FORMAT, **attrs.asdict(terms)}


class Names:
    """Short names, numbered in the order in which they first appear.

    Sessions are s1, s2, ...; the waits that s1 begins, and the rooms they may become, s1/1, s1/2, ...; ICE
    generations u1, ...; topics t1, ...; named rooms n1, ... They are kept as long as the trace is written.
    """

    def __init__(self) -> None:
        self._short: dict[tuple[str, str], str] = {}
        self._counts: Counter[str] = Counter()

    def session(self, client: ClientId) -> str:
        """Such as `s1`."""
        return self._name("s", client)

    def begin_wait(self, ticket: effects.Ticket) -> None:
        """Name a room after the session that begins to wait in it."""
        own = f"{self.session(ticket.client)}/"
        self._counts[own] += 1
        self._short["room", ticket.id] = f"{own}{self._counts[own]}"

    def room(self, room: RoomId) -> str:
        """Such as `s1/2`; `begin_wait` has named it before."""
        return self._short["room", room]

    def named_room(self, name: str) -> str:
        """Such as `n1`."""
        return self._name("n", name)

    def topics(self, topics: Iterable[str]) -> list[str]:
        """Such as `t1` and `t2`, in order."""
        return self._set("t", topics)

    def generation(self, ufrag: str) -> str:
        """Such as `u1`."""
        return self._name("u", ufrag)

    def generations(self, ufrags: Iterable[str]) -> list[str]:
        """Such as `u1` and `u2`, in order."""
        return self._set("u", ufrags)

    def _set(self, letter: str, members: Iterable[str]) -> list[str]:
        return sorted((self._name(letter, member) for member in sorted(members, key=_by_number)), key=_by_number)

    def _name(self, letter: str, meaning: str) -> str:
        known = self._short.get((letter, meaning))
        if known is None:
            self._counts[letter] += 1
            known = self._short[letter, meaning] = f"{letter}{self._counts[letter]}"
        return known


def _by_number(name: str) -> tuple[int, str]:
    """t2 before t10; for what has no short name yet any order will do that is always the same."""
    return len(name), name


def _brief(**fields: Any) -> Line:
    """The fields that do not have their usual value."""
    return {name: value for name, value in fields.items() if value not in (None, False, 0, (), [])}


# ---------------------------------------------------------------- sessions


def session_line(session: Session, names: Names) -> Line:
    """The line of a session between two events."""
    line: Line = {"state": type(session.state).__name__.lower()}
    match session.state:
        case Connected(first_message_by):
            line |= _brief(silent=first_message_by is not None)
        case Waiting(ticket):
            line |= {"room": names.room(ticket.id), "wish": _wish_line(ticket.room, ticket.topics, names)}
        case Paired(pairing) | Negotiating(pairing):
            signaling = pairing.signaling
            view = {HaveLocalOffer: "local", HaveRemoteOffer: "remote"}.get(type(signaling.view))
            line |= {
                "room": names.room(pairing.room),
                "wish": _wish_line(pairing.wishes.room, pairing.wishes.topics, names),
                "partner": names.session(pairing.partner),
            }
            line |= _brief(
                polite=signaling.polite,
                view=view,
                described=signaling.own is not None,
                held=len(signaling.held),
            )
            if isinstance(session.state, Paired) and session.state.hold is not None:
                hold = session.state.hold
                line |= {"hold": "long" if hold.has_offered else "first"} | _brief(signals=len(hold.signals))
            if isinstance(session.state, Negotiating):
                line |= _brief(failing=session.state.media_by is not None)
        case Closed():
            pass
    last = session.last_partner
    return line | _brief(
        last=None if last is None else names.session(last),
        invalid=session.invalid_messages,
        rate_limited=session.rate_limited,
        away=session.away_until is not None,
        answers_only=session.answers_only,
    )


def _wish_line(room: str | None, topics: Iterable[str], names: Names) -> Line:
    return {"in": None if room is None else names.named_room(room), "topics": names.topics(topics)}


# ---------------------------------------------------------------- events


def event_line(event: events.Event, names: Names) -> Line:
    """The line of an event: its type (a message has its own), and what the session may depend on."""
    match event:
        case events.MessageReceived(message):
            return _message_line(message, names)
        case events.InvalidMessage(fault):
            return {"type": "InvalidMessage", "code": str(fault.code)} | _brief(ref=_known(fault.ref))
        case events.RateLimited(ref=ref):
            return {"type": "RateLimited"} | _brief(ref=_known(ref))
        case events.Matched():
            return {
                "type": "Matched",
                "ticket": names.room(event.ticket),
                "room": names.room(event.room),
                "partner": names.session(event.partner),
                "profile": event.partner_profile,
                "offerer": event.offerer,
                "topics": names.topics(event.topics),
            }
        case events.PeerSent(room, message):
            line = _message_line(message, names)
            return {**line, "type": "PeerSent", "room": names.room(room), "kind": message.type}
        case events.PeerLeft(room, reason):
            return {"type": "PeerLeft", "room": names.room(room), "reason": str(reason)}
        case events.PeerPresence(room, state):
            return {"type": "PeerPresence", "room": names.room(room), "state": state}
        case events.SessionResumed(heard=heard):
            return {"type": "SessionResumed", "heard": heard}
        case events.ClosingForced(code):
            return {"type": "ClosingForced", "code": int(code)}
    return {"type": type(event).__name__}


def _message_line(message: messages.ClientMessage, names: Names) -> Line:
    line: Line = {"type": message.type}
    match message:
        case messages.Join(topics=topics, room=room):
            line["wish"] = _wish_line(room, comparable_topics(topics), names)
        case messages.Offer(payload) | messages.Answer(payload):
            line["ice"] = names.generations(description_ufrags(payload))
        case messages.Candidate(payload):
            ufrag = candidate_ufrag(payload)
            line["ice"] = [] if ufrag is None else [names.generation(ufrag)]
            line |= _brief(relay=relay_only_candidate(payload) is not None)
        case messages.Status(media, path, stage):
            line |= {"media": media} | _brief(path=path, stage=stage)
    return line


def _known(ref: str | None) -> str | None:
    """The type of a message that was refused. Of an unknown type nothing is written: the client has made it up."""
    return ref if ref is None or ref in messages.FROM_CLIENT or ref in messages.OPTIONAL else "other"


def revive(
    line: Line, fresh_room: RoomId, heard: int
) -> events.MessageReceived | events.InvalidMessage | events.RateLimited:
    """Make an event from a client that has this line.

    Args:
        line: As in a trace.
        fresh_room: As in `MessageReceived`.
        heard: As in `MessageReceived`.

    Raises:
        LookupError, TypeError, ValueError: No event from a client has a line like that.
    """
    match line["type"]:
        case "RateLimited":
            return events.RateLimited(1.0, line.get("ref"))
        case "InvalidMessage":
            return events.InvalidMessage(Fault(ErrorCode(line["code"]), "", line.get("ref")))
    return events.MessageReceived(_revive_message(line), 0.0, fresh_room, heard=heard)


def _revive_message(line: Line) -> messages.ClientMessage:
    match line["type"]:
        case "join":
            return messages.Join(topics=tuple(line["wish"]["topics"]), room=line["wish"]["in"])
        case "offer":
            return messages.Offer(_description("offer", line["ice"]))
        case "answer":
            return messages.Answer(_description("answer", line["ice"]))
        case "candidate":
            (ufrag,) = line["ice"] or [None]
            return messages.Candidate(
                messages.IceCandidate("" if line.get("relay") else "-", usernameFragment=ufrag)
            )
        case "status":
            return messages.Status(line["media"], line.get("path"), line.get("stage"))
    return _SAME_FOR_EVERY_SESSION[line["type"]]


_SAME_FOR_EVERY_SESSION: dict[str, messages.ClientMessage] = {
    message.type: message
    for message in (
        messages.Chat("-"),
        messages.Typing(True),
        messages.Media(True, True),
        messages.Ice(),
        messages.Resume("-", 0),
        messages.Leave(),
        messages.Next(),
        messages.Ping(),
    )
}
"""Messages whose contents a session does not depend on, by type."""


def _description(kind: Any, ufrags: list[str]) -> messages.Description:
    return messages.Description(kind, "".join(["v=0\r\n", *(f"a=ice-ufrag:{ufrag}\r\n" for ufrag in ufrags)]))


# ---------------------------------------------------------------- effects


def step_line(
    session: Session,
    source: str,
    event: events.Event,
    after: Session,
    to_do: Sequence[effects.Effect],
    names: Names,
) -> Line:
    """The line of one step: where the event came from, the session before and after, what is to be done."""
    before = session_line(session, names)
    happened = event_line(event, names)
    if isinstance(event, events.DeadlinePassed) and session.away_until is not None:
        happened |= _brief(gives_up=event.at >= session.away_until)
    for effect in to_do:
        if isinstance(effect, effects.Enter):
            names.begin_wait(effect.ticket)
    line: Line = {
        "what": "step",
        "session": names.session(session.client),
        "from": source,
        "event": happened,
        "before": before,
        "after": session_line(after, names),
    }
    line |= _brief(
        sends=[_sent_line(effect.message, names) for effect in to_do if isinstance(effect, effects.Send)],
        forwards=[
            {"to": names.session(effect.partner), "event": event_line(effect.event, names)}
            for effect in to_do
            if isinstance(effect, effects.Forward)
        ],
        requests=[request_line(effect, names) for effect in to_do if isinstance(effect, effects.Request)],
        counts=[effect.what for effect in to_do if isinstance(effect, effects.Count)],
    )
    for effect in to_do:
        if isinstance(effect, effects.Close):
            line["closes"] = code_line(effect.code)
    return line


def code_line(code: CloseCode | None) -> int | None:
    """A close code; None: the client closed the connection, or it broke."""
    return None if code is None else int(code)


def request_line(request: effects.Request, names: Names) -> Line:
    """The line of a request to the matchmaker."""
    match request:
        case effects.Enter(ticket):
            return {
                "type": "Enter",
                "room": names.room(ticket.id),
                "profile": ticket.profile,
                "wish": _wish_line(ticket.room, ticket.topics, names),
            } | _brief(avoid=None if ticket.avoid is None else names.session(ticket.avoid))
        case effects.Withdraw(room) | effects.Suspend(room) | effects.Reinstate(room):
            return {"type": type(request).__name__, "room": names.room(room)}


def pair_line(pair: Pair | None, names: Names) -> Line:
    """The longer wait first; nothing if there is no pair."""
    return {} if pair is None else {"pair": [names.room(pair.first.id), names.room(pair.second.id)]}


def _sent_line(message: messages.ServerMessage, names: Names) -> Line:
    """The line of a message to the client."""
    line: Line = {"type": message.type}
    match message:
        case messages.Ready(room):
            line["room"] = names.room(room)
        case messages.Joined():
            line |= {
                "room": names.room(message.room_id),
                "from": names.session(message.from_),
                "role": message.role,
                "polite": message.polite,
                "topics": names.topics(message.topics),
            }
        case messages.Relayed():
            line |= {"room": names.room(message.room_id), "from": names.session(message.from_)}
        case messages.Left(sender, room, reason):
            line |= {"room": names.room(room), "from": names.session(sender), "reason": str(reason)}
        case messages.ErrorMessage():
            line |= {"code": str(message.code), "ref": _known(message.ref), "fatal": message.fatal}
        case messages.Presence(sender, room, state):
            line |= {"room": names.room(room), "from": names.session(sender), "state": state}
        case messages.Pong(heard):
            line["heard"] = heard
        case messages.Resumed():
            line |= {"session": names.session(message.session_id), "heard": message.heard}
        case messages.GoAway(reason):
            line["reason"] = str(reason)
    return line
