"""The sessions of one process, by client and by resume token.

A session is registered from its first event to its last, connected or not. A token is valid once; only its digest
is stored.
"""

import hashlib
import secrets
from collections.abc import Iterator
from typing import Generic, TypeVar

from curhat_trio.protocol.ids import ClientId

S = TypeVar("S")
"""The type of a session."""


class Sessions(Generic[S]):
    """A registry by client and by resume token."""

    def __init__(self) -> None:
        self._by_client: dict[ClientId, S] = {}
        self._by_token: dict[bytes, tuple[ClientId, S]] = {}
        self._tokens: dict[ClientId, bytes] = {}
        """The digest of the valid token of each session that has one."""

    def __len__(self) -> int:
        return len(self._by_client)

    def __iter__(self) -> Iterator[S]:
        return iter(list(self._by_client.values()))

    def __contains__(self, client: ClientId) -> bool:
        return client in self._by_client

    def get(self, client: ClientId) -> S | None:
        """The session of a client; None if it has ended."""
        return self._by_client.get(client)

    def add(self, client: ClientId, session: S) -> None:
        """Register a session."""
        self._by_client[client] = session

    def remove(self, client: ClientId) -> None:
        """Remove a session that has ended, and revoke its token."""
        del self._by_client[client]
        self._revoke(client)

    def issue_token(self, client: ClientId) -> str:
        """Create a token for a registered session, and revoke its previous one."""
        self._revoke(client)
        token = secrets.token_urlsafe(32)
        digest = self._tokens[client] = _digest(token)
        self._by_token[digest] = client, self._by_client[client]
        return token

    def claim(self, token: str) -> S | None:
        """The session of a token, which becomes invalid by this; None if the token is not valid."""
        client, session = self._by_token.pop(_digest(token), (None, None))
        if client is not None:
            del self._tokens[client]
        return session

    def _revoke(self, client: ClientId) -> None:
        digest = self._tokens.pop(client, None)
        if digest is not None:
            del self._by_token[digest]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
