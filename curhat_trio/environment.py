"""What every part of one server shares: its settings, what follows from them, and what is counted."""

import secrets
import time

import attrs
import trio

from curhat_trio.config import Settings
from curhat_trio.metrics import Metrics
from curhat_trio.policy.slots import ConnectionSlots
from curhat_trio.policy.turn import Turn
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import IceServer
from curhat_trio.protocol.rate_limit import Allowance
from curhat_trio.protocol.session import Rules


@attrs.frozen
class Environment:
    """One server's. Also the source of all that must never be the same twice."""

    settings: Settings
    metrics: Metrics = attrs.Factory(Metrics)
    draining: trio.Event = attrs.Factory(trio.Event)
    """Set when the server is going away: who comes now is closed at once."""
    slots: ConnectionSlots = attrs.field(init=False)
    rules: Rules = attrs.field(init=False)
    """The part of the settings that sessions decide by."""
    allowance: Allowance = attrs.field(init=False)
    """What each client may send."""
    turn_server: Turn | None = attrs.field(init=False)
    """What makes TURN credentials; None: the operator has no TURN server."""

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
            max_message_bytes=settings.max_message_bytes,
            ice_servers=(IceServer(settings.stun_urls),) if settings.stun_urls else (),
            turn_ttl_seconds=settings.turn_ttl_seconds if settings.turn_urls else None,
            ice_transport_policy=settings.ice_transport_policy,
        )

    @allowance.default
    def _allowance_from_settings(self) -> Allowance:
        settings = self.settings
        return Allowance(
            settings.messages_per_second, settings.message_burst, settings.bytes_per_second, settings.byte_burst
        )

    @turn_server.default
    def _turn_from_settings(self) -> Turn | None:
        settings = self.settings
        if not settings.turn_urls:
            return None
        return Turn(settings.turn_urls, settings.turn_secret, settings.turn_ttl_seconds)

    def client(self) -> ClientId:
        """An id for a new session: 96 random bits."""
        return ClientId(secrets.token_urlsafe(12))

    def room(self) -> RoomId:
        """An id for a new wait: 96 random bits."""
        return RoomId(secrets.token_urlsafe(12))

    def turn(self) -> IceServer | None:
        """The TURN server with credentials for one client, good from now on."""
        if self.turn_server is None:
            return None
        return self.turn_server.ice_server(secrets.token_urlsafe(12), time.time())
