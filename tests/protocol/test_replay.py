"""The replay buffer, compared with a list that discards nothing."""

from hypothesis import example, given
from hypothesis import strategies as st

from curhat_trio.protocol.replay import ReplayBuffer

MESSAGES = st.lists(st.binary(max_size=12), max_size=30)


def fitting(messages: list[bytes], most: int, most_bytes: int) -> int:
    """How many of the latest messages may be kept."""
    kept = 0
    while kept < min(len(messages), most) and sum(map(len, messages[-kept - 1 :])) <= most_bytes:
        kept += 1
    return kept


@given(MESSAGES, st.integers(0, 10), st.integers(0, 60), st.integers(-2, 33))
@example([b"too long for it"], 5, 3, 0)
def test_the_latest_messages_are_returned_completely_or_not_at_all(
    messages: list[bytes], most: int, most_bytes: int, number: int
) -> None:
    replay = ReplayBuffer(most, most_bytes)
    kept = 0
    for sent, message in enumerate(messages, 1):
        replay.append(message)
        kept = min(kept + 1, fitting(messages[:sent], most, most_bytes))
        assert replay.last == sent
        assert replay.after(sent) == []
        assert replay.after(sent + 1) is None, "which was never sent"
    is_known = len(messages) - kept <= number <= len(messages)
    assert replay.after(number) == (messages[number:] if is_known else None)


def test_discarded_messages_do_not_use_memory() -> None:
    replay = ReplayBuffer(max_messages=4, max_bytes=100)
    for _ in range(1000):
        replay.append(b"x" * 30)
        assert sum(map(len, replay._messages)) <= 100
        assert len(replay._messages) <= 2 * 4 + 1
    assert replay.after(997) == [b"x" * 30] * 3
