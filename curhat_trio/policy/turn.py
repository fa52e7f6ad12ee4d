"""Time-limited TURN credentials, generated for each client.

The scheme is draft-uberti-behave-turn-rest-00, "A REST API For Access To TURN Services", which coturn calls
`use-auth-secret`: this server and the TURN server share a secret, and need no connection to each other. The
username contains the time of expiry and the password is the username's HMAC, so the TURN server can verify both by
itself.
"""

import hmac
from base64 import b64encode

import attrs

from curhat_trio.protocol.messages import IceServer


@attrs.frozen
class Turn:
    """The operator's TURN servers, which share one secret."""

    urls: tuple[str, ...]
    secret: str = attrs.field(repr=False)
    ttl_seconds: int

    def ice_server(self, user: str, now: float) -> IceServer:
        """An entry for a client's `iceServers` (the draft's section 2.2).

        Args:
            user: Distinguishes the clients. It is sent to the TURN server in plain text, so it should be random.
            now: Seconds since 1970. The TURN server's clock must agree.
        """
        username = f"{int(now) + self.ttl_seconds}:{user}"
        password = hmac.digest(self.secret.encode(), username.encode(), "sha1")
        return IceServer(self.urls, username, b64encode(password).decode())
