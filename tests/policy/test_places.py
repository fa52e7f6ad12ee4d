"""Places and sockets, against a plain list of who is here."""

import math

import attrs
from hypothesis import given
from hypothesis import strategies as st

from curhat_trio.policy.places import ASKING_SECONDS, Place, Places

NOW = 100.0
ACTS = st.lists(
    st.tuples(st.sampled_from(["admit", "admit newcomer", "take", "give_back", "hang_up"]), st.integers(0, 30))
)


@attrs.define(eq=False)
class Here:
    """One connection as it should be."""

    place: Place
    is_taken: bool
    has_socket: bool = True


@given(st.integers(1, 25), ACTS)
def test_there_are_never_more_than_fit_and_none_is_lost(most: int, acts: list[tuple[str, int]]) -> None:
    places = Places(most)
    here: list[Here] = []
    most_sockets = most + max(1, most // 10)
    for act, number in acts:
        taken = sum(each.is_taken for each in here)
        sockets = sum(each.has_socket for each in here)
        if act in ("admit", "admit newcomer"):
            may_resume = act == "admit"
            place = places.admit(NOW, may_resume)
            is_in = sockets < most_sockets and (may_resume or taken < most)
            assert (place is not None) is is_in
            if place is not None:
                here.append(Here(place, taken < most))
        elif here:
            each = here[number % len(here)]
            if act == "take":
                each.is_taken = each.is_taken or taken < most
                assert each.place.take() is each.is_taken
            elif act == "give_back":
                each.place.give_back()
                each.is_taken = False
            else:
                each.place.hang_up()
                each.has_socket = False
        assert places.taken == sum(each.is_taken for each in here) <= most
        assert places.sockets == sum(each.has_socket for each in here) <= most_sockets
        for each in here:
            assert each.place.due == (math.inf if each.is_taken else NOW + ASKING_SECONDS)
