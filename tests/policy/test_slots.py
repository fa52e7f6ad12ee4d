"""Connection slots and sockets, compared with a list of all connections."""

import math

import attrs
from hypothesis import given
from hypothesis import strategies as st

from curhat_trio.policy.slots import RESUME_GRACE_SECONDS, ConnectionSlot, ConnectionSlots

NOW = 100.0
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit newcomer", "acquire", "release", "close_socket"]), st.integers(0, 30)
    )
)


@attrs.define(eq=False)
class Expected:
    """The state that a connection should have."""

    slot: ConnectionSlot
    is_held: bool
    has_socket: bool = True


@given(st.integers(1, 25), OPERATIONS)
def test_slots_and_sockets_never_exceed_their_limits_and_none_is_lost(
    limit: int, operations: list[tuple[str, int]]
) -> None:
    slots = ConnectionSlots(limit)
    connections: list[Expected] = []
    socket_limit = limit + max(1, limit // 10)
    for operation, number in operations:
        taken = sum(each.is_held for each in connections)
        sockets = sum(each.has_socket for each in connections)
        if operation in ("admit", "admit newcomer"):
            may_resume = operation == "admit"
            slot = slots.admit(NOW, may_resume)
            is_in = sockets < socket_limit and (may_resume or taken < limit)
            assert (slot is not None) is is_in
            if slot is not None:
                connections.append(Expected(slot, taken < limit))
        elif connections:
            each = connections[number % len(connections)]
            if operation == "acquire":
                each.is_held = each.is_held or taken < limit
                assert each.slot.acquire() is each.is_held
            elif operation == "release":
                each.slot.release()
                each.is_held = False
            else:
                each.slot.close_socket()
                each.has_socket = False
        assert slots.taken == sum(each.is_held for each in connections) <= limit
        assert slots.sockets == sum(each.has_socket for each in connections) <= socket_limit
        for each in connections:
            assert each.slot.deadline == (math.inf if each.is_held else NOW + RESUME_GRACE_SECONDS)
