"""TURN credentials that expire, made for one client at a time and known to nobody but it and the TURN server.

The scheme is draft-uberti-behave-turn-rest-00, "A REST API For Access To TURN Services", which coturn calls
`use-auth-secret`: this server and the TURN server share a secret, and never speak with each other. The name tells
when the credential expires, the password is the name's HMAC, so the TURN server can check both by itself.
"""

import hmac
from base64 import b64encode

import attrs

from curhat_trio.protocol.messages import IceServer


@attrs.frozen
class Turn:
    """The operator's TURN servers, all of one secret."""

    urls: tuple[str, ...]
    secret: str = attrs.field(repr=False)
    ttl_seconds: int

    def ice_server(self, user: str, now: float) -> IceServer:
        """An entry for a client's `iceServers` (the draft's section 2.2).

        Args:
            user: Tells apart whom credentials were made for, and is seen by whoever watches the client's line to
                the TURN server. It should be random.
            now: Seconds since 1970, by the clock that the TURN server goes by too.
        """
        username = f"{int(now) + self.ttl_seconds}:{user}"
        password = hmac.digest(self.secret.encode(), username.encode(), "sha1")
        return IceServer(self.urls, username, b64encode(password).decode())
