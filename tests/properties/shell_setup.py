"""What is different from one tested server to the next."""

import attrs
from hypothesis import strategies as st

from curhat_trio.config import Settings
from curhat_trio.conformance import wire

MAX_CLIENTS = 6
KEPT_MESSAGES, KEPT_BYTES = 6, 900
UNSOLICITED_PONG = wire.frame(wire.PONG, b"unasked")
NO_CODE = 1005
"""What wsproto makes of a close frame without a code (RFC 6455, section 7.1.5)."""


@attrs.frozen
class ServerSetup:
    """The settings and limits of one server."""

    schedule: int
    """Decides the order in which tasks run that could run at once."""
    burst: int
    """Messages of one client at once. Twice as many may wait for it, the least that is allowed."""
    byte_burst: int
    max_connections: int
    resume_seconds: float
    channel: int
    """How many requests fit into the channel to the matchmaker."""

    @property
    def settings(self) -> Settings:
        return Settings(
            max_message_bytes=1024,
            message_burst=self.burst,
            messages_per_second=5.0,
            byte_burst=self.byte_burst,
            bytes_per_second=1024.0,
            outbound_messages=2 * self.burst,
            outbound_bytes=2 * self.byte_burst,
            max_connections=self.max_connections,
            resume_seconds=self.resume_seconds,
        )

    @property
    def keeps(self) -> tuple[int, int]:
        return min(KEPT_MESSAGES, self.burst), KEPT_BYTES


SETUPS = st.builds(
    ServerSetup,
    st.integers(0, 2**32 - 1),
    st.sampled_from([10, 10, 3]),
    st.sampled_from([4096, 1024]),
    st.sampled_from([2 * MAX_CLIENTS, 2 * MAX_CLIENTS, 3]),
    st.sampled_from([30.0, 30.0, 30.0, 30.0, 0.0]),
    st.sampled_from([256, 256, 1]),
)
