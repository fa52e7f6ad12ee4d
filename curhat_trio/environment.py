"""What all parts of one server share: its settings, what is derived from them, and its metrics."""

import secrets
import time

import attrs
import trio

from curhat_trio.config import Settings
from curhat_trio.metrics import Metrics
from curhat_trio.policy.slots import ConnectionSlots
from curhat_trio.policy.turn import Turn
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import IceServer, Limits
from curhat_trio.protocol.rate_limit import Allowance
from curhat_trio.protocol.session import Rules


@attrs.frozen
class Environment:
    """The environment of one server, and the source of ids and credentials, which must be unique."""

    settings: Settings
    metrics: Metrics = attrs.Factory(Metrics)
    draining: trio.Event = attrs.Factory(trio.Event)
    """Set when the server shuts down; new connections are then closed at once."""
    slots: ConnectionSlots = attrs.field(init=False)
    rules: Rules = attrs.field(init=False)
    """The settings that sessions depend on."""
    allowance: Allowance = attrs.field(init=False)
    """The rate limit of each client."""
    turn_server: Turn | None = attrs.field(init=False)
    """Creates TURN credentials; None without a TURN server."""

    @slots.default
    def _slots_from_settings(self) -> ConnectionSlots:
        return ConnectionSlots(self.settings.max_connections)

    @rules.default
    def _rules_from_settings(self) -> Rules:
        settings = self.settings
        return Rules(
            first_message_seconds=settings.first_message_seconds,
            offer_seconds=settings.offer_seconds,
            media_seconds=settings.media_seconds,
            resume_seconds=settings.resume_seconds,
            ping_seconds=settings.ping_seconds,
            limits=Limits(
                message_bytes=settings.max_message_bytes,
                messages_per_second=settings.messages_per_second,
                message_burst=settings.message_burst,
                bytes_per_second=settings.bytes_per_second,
                byte_burst=settings.byte_burst,
            ),
            ice_servers=(IceServer(settings.stun_urls),) if settings.stun_urls else (),
            turn_ttl_seconds=settings.turn_ttl_seconds if settings.turn_urls else None,
            ice_transport_policy=settings.ice_transport_policy,
        )

    @allowance.default
    def _allowance_from_settings(self) -> Allowance:
        limits = self.rules.limits
        return Allowance(
            limits.messages_per_second, limits.message_burst, limits.bytes_per_second, limits.byte_burst
        )

    @turn_server.default
    def _turn_from_settings(self) -> Turn | None:
        settings = self.settings
        if not settings.turn_urls:
            return None
        return Turn(settings.turn_urls, settings.turn_secret, settings.turn_ttl_seconds)

    def client(self) -> ClientId:
        """Create an id for a session: 96 random bits."""
        return ClientId(secrets.token_urlsafe(12))

    def room(self) -> RoomId:
        """Create an id for a room: 96 random bits."""
        return RoomId(secrets.token_urlsafe(12))

    def turn(self) -> IceServer | None:
        """Create TURN credentials for one client, valid from now on."""
        if self.turn_server is None:
            return None
        return self.turn_server.ice_server(secrets.token_urlsafe(12), time.time())
