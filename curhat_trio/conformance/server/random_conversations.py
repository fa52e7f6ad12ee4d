"""Random conversations: Hypothesis invents what clients do, the reference tells what they must hear, a player
finds out whether they do; the shortest conversation that goes wrong is kept. Needs the extra `conform`.
"""

import time
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure

from curhat_trio.conformance.report import Outcome, Trial
from curhat_trio.conformance.server.reference import Reference
from curhat_trio.conformance.server.vectors import Profile, Vector
from curhat_trio.protocol.session import Rules

PEOPLE = ("ani", "budi", "cinta", "dewi")
PROFILES: tuple[Profile, ...] = ("v1", "v1", "legacy")
STRETCHES, STRETCH = 5, 10
"""A conversation is so many stretches of at most so many acts, after a beginning."""
_BEGINNINGS = (0, 2, 4, 4)
"""How many sensible things the first two have said by turns when it begins: 2 join, 4 offer and answer too."""

Play = Callable[[Vector], Trial]
Act = tuple[str, Any]
"""What is done, and with what."""

DEFAULT_RULES = Rules()
_SENSIBLE_ACT: Act = ("is sensible", None)


@attrs.frozen
class Conversation:
    """What a few people do, one after the other."""

    profiles: tuple[Profile, ...]
    beginning: int
    acts: tuple[tuple[int, Act], ...]
    """(who, counted around the people, what)"""


def _join(room: str, username: str | None, topics: list[str]) -> Act:
    name = {} if username is None else {"username": username}
    return "says", {"type": "join", "room": room, **name, **({"topics": topics} if topics else {})}


_OFFERS = ("$offerA", "$offerA2", "$offerB")
_ANSWERS = ("$answerA", "$answerB", "$answerB2")
_CANDIDATES = (
    "$candidateA", "$candidateA2", "$candidateA3", "$candidateB", "$candidateB2", "$candidateOfAny",
    "$noMoreCandidates",
)  # fmt: skip
_NO_MESSAGES = ("{", "[]", '{"type":"chat"}', '{"type":"dance"}', '{"type":"offer","payload":7}')


def _said(kind: str, **choices: st.SearchStrategy[Any]) -> st.SearchStrategy[Act]:
    return st.fixed_dictionaries({"type": st.just(kind), **choices}).map(lambda message: ("says", message))


_JOINS = st.builds(
    _join,
    st.sampled_from(("$room", "$room", "$room2")),
    st.sampled_from((None, "Nama", "\N{GRINNING FACE}")),
    st.lists(st.sampled_from(("musik", "Musik ", "film")), max_size=2),
)
_SENSIBLE: st.SearchStrategy[Act] = st.just(_SENSIBLE_ACT)
_ACTS: st.SearchStrategy[Act] = st.one_of(
    _SENSIBLE,
    _SENSIBLE,
    _JOINS,
    _said("offer", payload=st.sampled_from(_OFFERS)),
    _said("answer", payload=st.sampled_from(_ANSWERS)),
    _said("candidate", payload=st.sampled_from(_CANDIDATES)),
    _said("chat", text=st.sampled_from(("hi", "\N{GRINNING FACE}", "\u0000\n", "hi"))),
    st.sampled_from(("next", "leave")).flatmap(_said),
    _said("next"),
    st.one_of(_said("ping"), _said("status", media=st.sampled_from(("connected", "failed")))),
    st.sampled_from(_NO_MESSAGES).map(lambda text: ("saysText", text)),
    _said("typing", active=st.booleans()),
    st.sampled_from((("closes", None), ("vanishes", None), ("sends binary", None))),
    st.just(("resumes", None)),
)


def _company(size: int) -> st.SearchStrategy[tuple[Profile, ...]]:
    return st.tuples(*[st.sampled_from(PROFILES)] * size)


_COMPANIES = st.sampled_from((2, 2, 3, len(PEOPLE))).flatmap(_company)
_STRETCH = st.lists(st.tuples(st.integers(0, len(PEOPLE) - 1), _ACTS), max_size=STRETCH)
_CONVERSATIONS = st.builds(
    Conversation,
    _COMPANIES,
    st.sampled_from(_BEGINNINGS),
    st.lists(_STRETCH, min_size=STRETCHES, max_size=STRETCHES).map(lambda each: tuple(chain.from_iterable(each))),
)


def compose(
    conversation: Conversation, values: Mapping[str, Any], name: str, rules: Rules = DEFAULT_RULES
) -> Vector:
    """Write down what is done, and what everybody must hear because of it."""
    reference = Reference(values, rules)
    opening = [(number % 2, _SENSIBLE_ACT) for number in range(conversation.beginning)]
    for number, (kind, detail) in [*opening, *conversation.acts]:
        seat = number % len(conversation.profiles)
        who = PEOPLE[seat]
        if kind == "resumes" and reference.is_open(who):
            reference.vanish(who)
        if kind == "resumes" and reference.can_resume(who):
            reference.resume(who)
        elif not reference.is_open(who):
            reference.open(who, conversation.profiles[seat])
        match kind:
            case "says":
                reference.say(who, detail)
            case "saysText":
                reference.say_text(who, detail)
            case "is sensible":
                reference.say(who, reference.sensible(who))
            case "closes":
                reference.close(who)
            case "vanishes":
                reference.vanish(who)
            case "sends binary":
                reference.send_binary(who)
    return reference.vector(name)


class _Failed(Exception):
    """A conversation went wrong; Hypothesis looks for a shorter one."""


@attrs.define
class Exploration:
    """What came of it."""

    tried: int = 0
    rules: set[str] = attrs.Factory(set)
    """That conversations which went well have shown."""
    shortest: tuple[Vector, Trial] | None = None
    """The shortest that went wrong."""
    flaky: bool = False
    """The same conversation went well at another time."""
    out_of_time: bool = False


def explore(
    play: Play,
    values: Mapping[str, Any],
    *,
    examples: int,
    seconds: float,
    number: int,
    rules: Rules = DEFAULT_RULES,
    progress: Callable[[int, bool], None] = lambda _tried, _failing: None,
) -> Exploration:
    """Play random conversations until one goes wrong, then look for the shortest that does.

    Args:
        play: Plays one.
        values: What names in messages stand for.
        examples: How many to try before all is well.
        seconds: When to stop, even amid it.
        number: Decides which: the same number tries the same ones.
        rules: What the server's operator chose.
        progress: Told how many were tried so far, and whether one has failed.
    """
    found = Exploration()
    began = time.monotonic()

    def attempt(conversation: Conversation) -> None:
        if time.monotonic() - began > seconds:
            found.out_of_time = True
            return
        vector = compose(conversation, values, f"a random conversation (seed {number})", rules)
        trial = play(vector)
        found.tried += 1
        progress(found.tried, found.shortest is not None)
        if trial.outcome is Outcome.FAILED:
            if found.shortest is None or len(vector.steps) <= len(found.shortest[0].steps):
                found.shortest = vector, trial
            raise _Failed
        found.rules.update(vector.rules())

    bounded = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    try:
        seed(number)(bounded(given(_CONVERSATIONS)(attempt)))()
    except _Failed:
        pass
    except FlakyFailure:
        found.flaky = not found.out_of_time
    return found
