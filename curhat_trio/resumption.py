"""Which session can be asked for with which token. A token is good once; only its digest is kept."""

import hashlib
import secrets
from typing import Generic, TypeVar

Holder = TypeVar("Holder")
"""Whatever goes on when its token is shown."""


class Resumptions(Generic[Holder]):
    """The sessions of one process that may go on over another connection."""

    def __init__(self) -> None:
        self._holders: dict[bytes, Holder] = {}

    def issue(self, holder: Holder) -> str:
        """A token never used before, for somebody who has none that is good."""
        token = secrets.token_urlsafe(32)
        self._holders[_digest(token)] = holder
        return token

    def claim(self, token: str) -> Holder | None:
        """Whose token it is, which is used up by this; None: it was never good, or is no longer."""
        return self._holders.pop(_digest(token), None)

    def revoke(self, token: str) -> None:
        """The token is good for nothing from now on."""
        self._holders.pop(_digest(token), None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
