"""Random conversations: Hypothesis generates what clients do, the reference server tells what they must receive, a
player finds out whether they do; the shortest conversation that fails is kept. Needs the extra `conform`.
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
from curhat_trio.conformance.server.reference import ReferenceServer
from curhat_trio.conformance.server.vectors import Profile, Vector
from curhat_trio.protocol.session import Rules

CLIENTS = ("ani", "budi", "cinta", "dewi")
PROFILES: tuple[Profile, ...] = ("v1", "v1", "legacy")
SEGMENTS, SEGMENT_LENGTH = 5, 10
"""After its beginning a conversation has so many segments, with at most so many actions each."""
_BEGINNINGS = (0, 2, 4, 4)
"""Sensible messages that the first two clients send by turns at first: 2 are joins, 4 also offer and answer."""

Play = Callable[[Vector], Trial]
Action = tuple[str, Any]
"""What is done, and with what."""

DEFAULT_RULES = Rules()
_SENSIBLE: Action = ("send sensible", None)


@attrs.frozen
class Conversation:
    """What a few clients do, one after the other."""

    profiles: tuple[Profile, ...]
    beginning: int
    actions: tuple[tuple[int, Action], ...]
    """(who, counted modulo the number of clients; what)"""


def _join(room: str, username: str | None, topics: list[str]) -> Action:
    name = {} if username is None else {"username": username}
    return "send", {"type": "join", "room": room, **name, **({"topics": topics} if topics else {})}


_OFFERS = ("$offerA", "$offerA2", "$offerB")
_ANSWERS = ("$answerA", "$answerB", "$answerB2")
_CANDIDATES = (
    "$candidateA", "$candidateA2", "$candidateA3", "$candidateB", "$candidateB2", "$candidateOfAny",
    "$noMoreCandidates",
)  # fmt: skip
_INVALID_TEXTS = ("{", "[]", '{"type":"chat"}', '{"type":"dance"}', '{"type":"offer","payload":7}')


_IDS = {"id": st.sampled_from(("1", "2", "\N{GRINNING FACE}"))}


def _messages(kind: str, **choices: st.SearchStrategy[Any]) -> st.SearchStrategy[Action]:
    message = st.fixed_dictionaries({"type": st.just(kind), **choices}, optional=_IDS)
    return message.map(lambda message: ("send", message))


_JOINS = st.builds(
    _join,
    st.sampled_from(("$room", "$room", "$room2")),
    st.sampled_from((None, "Nama", "\N{GRINNING FACE}")),
    st.lists(st.sampled_from(("musik", "Musik ", "film")), max_size=2),
)
_ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.just(_SENSIBLE),
    st.just(_SENSIBLE),
    _JOINS,
    _messages("offer", payload=st.sampled_from(_OFFERS)),
    _messages("answer", payload=st.sampled_from(_ANSWERS)),
    _messages("candidate", payload=st.sampled_from(_CANDIDATES)),
    _messages("chat", text=st.sampled_from(("hi", "\N{GRINNING FACE}", "\u0000\n", "hi"))),
    st.sampled_from(("next", "leave")).flatmap(_messages),
    _messages("next"),
    st.one_of(_messages("ping"), _messages("status", media=st.sampled_from(("connected", "failed")))),
    st.sampled_from(_INVALID_TEXTS).map(lambda text: ("send text", text)),
    _messages("typing", active=st.booleans()),
    _messages("media", audio=st.booleans(), video=st.booleans()),
    st.sampled_from((("close", None), ("disconnect", None), ("send binary", None))),
    st.just(("resume", None)),
)


def _profiles(size: int) -> st.SearchStrategy[tuple[Profile, ...]]:
    return st.tuples(*[st.sampled_from(PROFILES)] * size)


_PROFILES = st.sampled_from((2, 2, 3, len(CLIENTS))).flatmap(_profiles)
_SEGMENT = st.lists(st.tuples(st.integers(0, len(CLIENTS) - 1), _ACTIONS), max_size=SEGMENT_LENGTH)
_CONVERSATIONS = st.builds(
    Conversation,
    _PROFILES,
    st.sampled_from(_BEGINNINGS),
    st.lists(_SEGMENT, min_size=SEGMENTS, max_size=SEGMENTS).map(lambda each: tuple(chain.from_iterable(each))),
)


def compose(
    conversation: Conversation, values: Mapping[str, Any], name: str, rules: Rules = DEFAULT_RULES
) -> Vector:
    """Write down what is done, and what each client must receive because of it."""
    reference = ReferenceServer(values, rules)
    opening = [(number % 2, _SENSIBLE) for number in range(conversation.beginning)]
    for number, (kind, detail) in [*opening, *conversation.actions]:
        index = number % len(conversation.profiles)
        who = CLIENTS[index]
        if kind == "resume" and reference.is_connected(who):
            reference.disconnect(who)
        if kind == "resume" and reference.can_resume(who):
            reference.resume(who)
        elif not reference.is_connected(who):
            reference.connect(who, conversation.profiles[index])
        match kind:
            case "send":
                reference.send(who, detail)
            case "send text":
                reference.send_text(who, detail)
            case "send sensible":
                reference.send(who, reference.next_sensible_message(who))
            case "close":
                reference.close(who)
            case "disconnect":
                reference.disconnect(who)
            case "send binary":
                reference.send_binary(who)
    return reference.vector(name)


class _Failed(Exception):
    """A conversation failed; Hypothesis looks for a shorter one."""


@attrs.define
class Exploration:
    """The result of `explore`."""

    tried: int = 0
    rules: set[str] = attrs.Factory(set)
    """Shown by the conversations that passed."""
    shortest: tuple[Vector, Trial] | None = None
    """The shortest conversation that failed."""
    flaky: bool = False
    """The same conversation passed another time."""
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
    """Play random conversations until one fails, then look for the shortest that does.

    Args:
        play: Plays one.
        values: Those of names in messages.
        examples: How many to play if none fails.
        seconds: When to stop.
        number: The seed: the same number plays the same ones.
        rules: The server's settings.
        progress: Called with how many were played so far, and whether one has failed.
    """
    result = Exploration()
    began = time.monotonic()

    def attempt(conversation: Conversation) -> None:
        if time.monotonic() - began > seconds:
            result.out_of_time = True
            return
        vector = compose(conversation, values, f"a random conversation (seed {number})", rules)
        trial = play(vector)
        result.tried += 1
        progress(result.tried, result.shortest is not None)
        if trial.outcome is Outcome.FAILED:
            if result.shortest is None or len(vector.steps) <= len(result.shortest[0].steps):
                result.shortest = vector, trial
            raise _Failed
        result.rules.update(vector.rules())

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
        result.flaky = not result.out_of_time
    return result
