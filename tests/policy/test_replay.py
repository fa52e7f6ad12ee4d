"""What a client may have missed, against a plain list that forgets nothing."""

from hypothesis import example, given
from hypothesis import strategies as st

from curhat_trio.policy.replay import Replay

MESSAGES = st.lists(st.binary(max_size=12), max_size=30)


def fitting(messages: list[bytes], most: int, most_bytes: int) -> int:
    """How many of the last messages may be kept."""
    kept = 0
    while kept < min(len(messages), most) and sum(map(len, messages[-kept - 1 :])) <= most_bytes:
        kept += 1
    return kept


@given(MESSAGES, st.integers(0, 10), st.integers(0, 60), st.integers(-2, 33))
@example([b"too long for it"], 5, 3, 0)
def test_what_was_said_last_is_told_whole_or_not_at_all(
    messages: list[bytes], most: int, most_bytes: int, number: int
) -> None:
    replay = Replay(most, most_bytes)
    kept = 0
    for said, message in enumerate(messages, 1):
        replay.keep(message)
        kept = min(kept + 1, fitting(messages[:said], most, most_bytes))
        assert replay.last == said
        assert replay.since(said) == []
        assert replay.since(said + 1) is None, "which was never said"
    is_known = len(messages) - kept <= number <= len(messages)
    assert replay.since(number) == (messages[number:] if is_known else None)
