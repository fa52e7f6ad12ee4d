"""The shell's model against a case that chance rarely finds."""

from itertools import count

from shell_model import Forecast, Limits, Mouth, Replay

from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.events import ConnectionLost
from curhat_trio.protocol.messages import Join, Resume
from curhat_trio.protocol.session import Paired, Rules

LIMITS = Limits(
    messages=(100.0, 100),
    bytes=(1e6, 10**6),
    message_bytes=1000,
    waiting_events=20,
    waiting_messages=20,
    waiting_bytes=10**5,
    write_seconds=10.0,
    kept_messages=20,
    kept_bytes=10**5,
)


def test_who_comes_back_after_its_patience_has_ended_takes_anybody_at_once() -> None:
    """The matchmaker lets relax whose time has come after every request, so this reinstatement makes a pair."""
    core = Replay(Rules(resume_seconds=60.0), LIMITS, relax_after=10.0)
    forecast = Forecast(core, (f"id {number}" for number in count()))
    anna = forecast.arrive(Mouth(LIMITS, "v1", "anna"))
    forecast.says(anna, [encode_client(Join(topics=("rain",))).decode()])
    forecast.come_to_rest()
    forecast.interrupt(anna, ConnectionLost(forecast.now))
    forecast.come_to_rest()
    budi = forecast.arrive(Mouth(LIMITS, "v1", "budi"))
    forecast.says(budi, [encode_client(Join()).decode()])
    forecast.come_to_rest()
    forecast.now += 11.0
    fresh = forecast.arrive(Mouth(LIMITS, "v1", "anna"))
    forecast.says(fresh, [encode_client(Resume(anna.token, len(anna.told))).decode()])
    forecast.come_to_rest()
    assert isinstance(anna.session.state, Paired)
    assert isinstance(budi.session.state, Paired)
