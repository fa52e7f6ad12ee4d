"""TURN credentials: a name that tells when they expire, and a password that only who knows the secret can make."""

import hashlib
import hmac
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curhat_trio.policy.turn import Turn
from curhat_trio.protocol.messages import IceServer

URLS = ("turn:turn.example:3478", "turns:turn.example?transport=tcp")
NOW = 1_700_000_000.9


def test_a_credential_as_another_implementation_makes_it() -> None:
    """The password is what `echo -n 1700086400:budi | openssl dgst -sha1 -hmac north -binary | base64` prints."""
    lent = Turn(URLS, "north", ttl_seconds=86_400).ice_server("budi", NOW)
    assert lent == IceServer(URLS, "1700086400:budi", "l9FhDNopWdpMMsmoO3hltPexSrM=")


@pytest.mark.shows("P-3.14", "P-11.6")
@given(st.text(min_size=1), st.text(), st.integers(60, 10**6), st.floats(0, 1e10))
def test_the_name_tells_the_expiry_and_the_password_is_its_hmac(
    secret: str, user: str, ttl_seconds: int, now: float
) -> None:
    lent = Turn(URLS, secret, ttl_seconds).ice_server(user, now)
    assert lent.username is not None
    assert lent.credential is not None
    expiry, _, name = lent.username.partition(":")
    assert name == user
    assert now + ttl_seconds - 1 < int(expiry) <= now + ttl_seconds
    expected = hmac.new(secret.encode(), lent.username.encode(), hashlib.sha1).digest()
    assert b64decode(lent.credential, validate=True) == expected


def test_neither_secret_nor_credential_is_printed() -> None:
    turn = Turn(URLS, "northstar", 600)
    lent = turn.ice_server("budi", NOW)
    assert lent.credential is not None
    assert "northstar" not in repr(turn)
    assert lent.credential not in repr(lent)
