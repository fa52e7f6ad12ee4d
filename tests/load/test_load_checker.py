"""The checker by itself: it counts each fault of a relay under the right name."""

from collections.abc import Callable
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curhat_trio.load.checker import Checker, Direction, Fault
from curhat_trio.load.labels import Label, compose, read_label
from curhat_trio.load.plan import Kind

RUN, ROOM, SENDER = "run", "a room/ü", 3
KINDS: st.SearchStrategy[Kind] = st.sampled_from(["offer", "answer", "candidate"])
LABELS = st.builds(
    Label,
    run=st.text("abcdef0123456789", min_size=1),
    room=st.text(min_size=1),
    sender=st.integers(0, 10**6),
    number=st.integers(0, 10**6),
)

Received = tuple[str, Any]


@attrs.define
class Conversation:
    """A direction in which messages have been sent, but none received."""

    checker: Checker
    direction: Direction
    sent: list[Received]

    def receive(self, *received: Received) -> None:
        for kind, payload in received:
            foreign = self.direction.receive(kind, payload)
            if foreign is not None:
                self.checker.misrouted(foreign)

    def faults(self) -> dict[Fault, int]:
        """The counts after the end."""
        self.checker.close(self.direction)
        return dict(self.checker.faults.counts)


def conversation(count: int, room: str = ROOM, checker: Checker | None = None) -> Conversation:
    checker = checker or Checker(RUN)
    direction = checker.open(room, SENDER)
    sent: list[Received] = []
    for number in range(count):
        kind: Kind = "candidate" if number else "offer"
        text, payload = compose(Label(RUN, room, SENDER, number), kind, 250)
        direction.send(kind, payload)
        sent.append((kind, orjson.loads(text)["payload"]))
    return Conversation(checker, direction, sent)


@given(LABELS, KINDS, st.integers(1, 2000))
def test_a_label_is_read_as_it_was_written(label: Label, kind: Kind, size: int) -> None:
    text, payload = compose(label, kind, size)
    assert orjson.loads(text) == {"type": kind, "payload": payload}
    assert read_label(kind, payload) == label


@given(LABELS, KINDS, st.integers(1, 2000))
def test_a_message_is_as_long_as_asked_or_not_padded(label: Label, kind: Kind, size: int) -> None:
    shortest = len(compose(label, kind, 0)[0])
    assert len(compose(label, kind, size)[0]) == max(shortest, size)


@given(st.integers(0, 30))
def test_messages_received_as_they_were_sent_are_no_faults(count: int) -> None:
    talk = conversation(count)
    talk.receive(*talk.sent)
    assert talk.direction.complete == count
    assert talk.faults() == {}


@given(st.integers(1, 30), st.data())
def test_messages_that_do_not_arrive_are_lost(count: int, data: st.DataObject) -> None:
    talk = conversation(count)
    received = data.draw(st.lists(st.sampled_from(range(count)), unique=True, max_size=count - 1).map(sorted))
    talk.receive(*(talk.sent[number] for number in received))
    assert talk.faults() == {Fault.LOST: count - len(received)}


@given(st.integers(1, 30), st.data())
def test_messages_that_arrive_again_are_duplicated(count: int, data: st.DataObject) -> None:
    talk = conversation(count)
    again = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=10))
    stream = talk.sent.copy()
    for number in again:  # anywhere after the first time
        place = data.draw(st.integers(stream.index(talk.sent[number]) + 1, len(stream)))
        stream.insert(place, talk.sent[number])
    talk.receive(*stream)
    assert talk.faults() == {Fault.DUPLICATED: len(again)}


@given(st.integers(2, 12).flatmap(lambda count: st.permutations(range(count))))
def test_messages_received_after_a_later_one_are_reordered(order: list[int]) -> None:
    talk = conversation(len(order))
    talk.receive(*(talk.sent[number] for number in order))
    overtaken = sum(number < max(order[:place], default=-1) for place, number in enumerate(order))
    assert talk.faults() == ({Fault.REORDERED: overtaken} if overtaken else {})
    assert talk.direction.complete == len(order)


@given(st.integers(1, 12), st.data())
def test_a_change_of_any_character_is_found(count: int, data: st.DataObject) -> None:
    talk = conversation(count)
    number = data.draw(st.integers(0, count - 1))
    kind, payload = talk.sent[number]
    field = data.draw(st.sampled_from(sorted(name for name, value in payload.items() if isinstance(value, str))))
    place = data.draw(st.integers(0, len(payload[field]) - 1))
    character = data.draw(st.characters(codec="ascii"))
    assume(character != payload[field][place])
    altered = payload[field][:place] + character + payload[field][place + 1 :]
    stream = talk.sent.copy()
    stream[number] = kind, payload | {field: altered}
    talk.receive(*stream)
    assert talk.faults() == {Fault.ALTERED: 1}
    assert talk.direction.complete == count


CHANGES: list[Callable[[Received], Received]] = [
    lambda received: ("answer", received[1]),
    lambda received: (received[0], None),
    lambda received: (received[0], {**received[1], "more": 1}),
    lambda received: (received[0], {**received[1], "sdpMLineIndex": True}),
    lambda received: (received[0], {**received[1], "candidate": ["a", "list"]}),
    lambda received: (received[0], {**received[1], "candidate": ""}),
    lambda received: (received[0], {name: value for name, value in received[1].items() if name != "sdpMid"}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_of_structure_are_found(change: Callable[[Received], Received]) -> None:
    talk = conversation(3)
    talk.receive(talk.sent[0], change(talk.sent[1]), talk.sent[2])
    assert talk.faults() == {Fault.ALTERED: 1}


def test_an_offer_that_arrives_as_an_answer_is_altered() -> None:
    talk = conversation(2)
    talk.receive(("answer", talk.sent[0][1]), talk.sent[1])
    assert talk.faults() == {Fault.ALTERED: 1}


def test_a_message_with_a_valid_label_that_was_never_sent_is_altered() -> None:
    talk = conversation(2)
    invented = compose(Label(RUN, ROOM, SENDER, 7), "candidate", 300)[1]
    talk.receive(*talk.sent, ("candidate", invented))
    assert talk.faults() == {Fault.ALTERED: 1}


def test_a_misrouted_message_does_not_also_count_as_lost() -> None:
    here = conversation(3)
    there = conversation(3, "there", here.checker)
    here.receive(*here.sent, there.sent[1])
    there.receive(there.sent[0], there.sent[2])
    here.checker.close(there.direction)
    assert here.faults() == {Fault.MISROUTED: 1}


def test_a_misrouted_copy_does_not_affect_the_original() -> None:
    here = conversation(1)
    there = conversation(3, "there", here.checker)
    here.receive(*here.sent, there.sent[1])
    there.receive(*there.sent)
    here.checker.close(there.direction)
    assert here.faults() == {Fault.MISROUTED: 1}


@pytest.mark.parametrize(
    "label", [Label("another", ROOM, SENDER, 0), Label(RUN, ROOM, SENDER + 1, 0), Label(RUN, "gone", SENDER, 0)]
)
def test_messages_of_other_runs_senders_and_ended_rooms_are_misrouted(label: Label) -> None:
    talk = conversation(1)
    talk.receive(*talk.sent, ("offer", compose(label, "offer", 300)[1]))
    assert talk.faults() == {Fault.MISROUTED: 1}


def test_messages_that_the_server_refused_are_not_lost() -> None:
    talk = conversation(5)
    talk.receive(*talk.sent[:2])
    talk.direction.refused = 2
    assert talk.faults() == {Fault.LOST: 1}


def test_messages_in_flight_when_a_conversation_failed_are_not_lost() -> None:
    talk = conversation(5)
    talk.checker.close(talk.direction, ignores_loss=True)
    assert talk.checker.faults.counts == {}


@given(
    st.integers(2, 20),
    st.sets(st.integers(0, 19)),
    st.sets(st.integers(0, 19)),
    st.sets(st.integers(0, 19)),
)
def test_faults_of_several_kinds_are_counted_separately(
    count: int, dropped: set[int], duplicated: set[int], altered: set[int]
) -> None:
    talk = conversation(count)
    altered -= dropped
    duplicated -= dropped
    stream: list[Received] = []
    for number, (kind, payload) in enumerate(talk.sent):
        received = (kind, payload | {"usernameFragment": "other"}) if number in altered else (kind, payload)
        stream += [received] * (0 if number in dropped else 2 if number in duplicated else 1)
    talk.receive(*stream)
    counts = {fault: sum(number < count for number in numbers) for fault, numbers in (
        (Fault.LOST, dropped), (Fault.DUPLICATED, duplicated), (Fault.ALTERED, altered))}  # fmt: skip
    assert talk.faults() == {fault: times for fault, times in counts.items() if times}
