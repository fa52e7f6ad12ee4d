"""The rate limit of one client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curhat_trio.protocol.rate_limit import Allowance, RateLimit


def rate_limit(messages: float = 10.0, burst: float = 3.0, byte_burst: float = 100.0) -> RateLimit:
    """With `messages` and 50 bytes per second."""
    return RateLimit(Allowance(messages, burst, 50.0, byte_burst))


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    client = rate_limit()
    assert [client.spend(1, now=1000.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert client.spend(1, now=1000.0) == pytest.approx(0.1)
    assert client.spend(1, now=1000.05) == pytest.approx(0.05)
    assert client.spend(1, now=1000.125) == 0.0
    assert client.spend(1, now=1000.125) == pytest.approx(0.075)


def test_bytes_are_limited_too() -> None:
    client = rate_limit()
    assert client.spend(90, now=0.0) == 0.0
    assert client.spend(30, now=0.0) == pytest.approx(20 / 50)
    assert client.spend(10, now=0.0) == 0.0


def test_a_refused_message_costs_nothing() -> None:
    """Neither bytes nor a message are taken."""
    client = rate_limit(burst=2.0)
    assert client.spend(101, now=0.0) > 0
    assert client.spend(101, now=0.0) > 0
    assert client.spend(50, now=0.0) == 0.0
    assert client.spend(50, now=0.0) == 0.0
    assert client.spend(0, now=0.0) > 0


def test_the_longer_of_the_two_waits_is_returned() -> None:
    client = rate_limit(messages=1.0, burst=1.0)
    client.spend(100, now=0.0)
    assert client.spend(10, now=0.0) == pytest.approx(1.0)
    assert client.spend(75, now=0.0) == pytest.approx(1.5)


def test_an_idle_client_accumulates_no_more_than_a_burst() -> None:
    client = rate_limit()
    client.spend(1, now=0.0)
    assert [client.spend(1, now=1e6) > 0 for _ in range(4)] == [False, False, False, True]


@given(
    rate=st.floats(0.5, 100.0),
    burst=st.integers(1, 20),
    pauses=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60),
)
def test_no_interval_allows_more_than_burst_and_rate(rate: float, burst: int, pauses: list[float]) -> None:
    client = RateLimit(Allowance(rate, burst))
    now, allowed = 0.0, []
    for pause in pauses:
        now += pause
        if client.spend(0, now) == 0:
            allowed.append(now)
    for first, start in enumerate(allowed):
        for count, end in enumerate(allowed[first:], start=1):
            assert count <= burst + rate * (end - start) + 1e-6


@given(rate=st.floats(0.5, 100.0), burst=st.integers(1, 20), extra=st.integers(0, 30))
def test_a_message_after_the_returned_wait_is_allowed(rate: float, burst: int, extra: int) -> None:
    """The endpoint rounds up to tenths of a second, which is more than enough."""
    client = RateLimit(Allowance(rate, burst))
    now = 5.0
    for _ in range(burst + extra):
        if (wait := client.spend(0, now)) > 0:
            now += wait + 1e-6
            assert client.spend(0, now) == 0


def test_without_a_limit_of_bytes_any_size_is_allowed() -> None:
    client = RateLimit(Allowance(10.0, 2.0))
    assert client.spend(1 << 40, now=0.0) == 0
    assert client.spend(1 << 40, now=0.0) == 0
    assert client.spend(0, now=0.0) == pytest.approx(0.1)
