"""Connection slots and sockets, against a plain list of who is here."""

import math

import attrs
from hypothesis import given
from hypothesis import strategies as st

from curhat_trio.policy.slots import RESUME_GRACE_SECONDS, ConnectionSlot, ConnectionSlots

NOW = 100.0
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit newcomer", "acquire", "release", "close_socket"]), st.integers(0, 30)
    )
)


@attrs.define(eq=False)
class Here:
    """One connection as it should be."""

    slot: ConnectionSlot
    is_held: bool
    has_socket: bool = True


@given(st.integers(1, 25), ACTS)
def test_there_are_never_more_than_fit_and_none_is_lost(limit: int, acts: list[tuple[str, int]]) -> None:
    slots = ConnectionSlots(limit)
    here: list[Here] = []
    socket_limit = limit + max(1, limit // 10)
    for act, number in acts:
        taken = sum(each.is_held for each in here)
        sockets = sum(each.has_socket for each in here)
        if act in ("admit", "admit newcomer"):
            may_resume = act == "admit"
            slot = slots.admit(NOW, may_resume)
            is_in = sockets < socket_limit and (may_resume or taken < limit)
            assert (slot is not None) is is_in
            if slot is not None:
                here.append(Here(slot, taken < limit))
        elif here:
            each = here[number % len(here)]
            if act == "acquire":
                each.is_held = each.is_held or taken < limit
                assert each.slot.acquire() is each.is_held
            elif act == "release":
                each.slot.release()
                each.is_held = False
            else:
                each.slot.close_socket()
                each.has_socket = False
        assert slots.taken == sum(each.is_held for each in here) <= limit
        assert slots.sockets == sum(each.has_socket for each in here) <= socket_limit
        for each in here:
            assert each.slot.deadline == (math.inf if each.is_held else NOW + RESUME_GRACE_SECONDS)
