"""TURN credentials: a username with the time of expiry, and a password that requires the secret."""

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


def test_a_credential_equals_that_of_another_implementation() -> None:
    """The password is what `echo -n 1700086400:budi | openssl dgst -sha1 -hmac north -binary | base64` prints."""
    server = Turn(URLS, "north", ttl_seconds=86_400).ice_server("budi", NOW)
    assert server == IceServer(URLS, "1700086400:budi", "l9FhDNopWdpMMsmoO3hltPexSrM=")


@pytest.mark.shows("P-3.14", "P-11.6")
@given(st.text(min_size=1), st.text(), st.integers(60, 10**6), st.floats(0, 1e10))
def test_the_username_has_the_expiry_and_the_password_is_its_hmac(
    secret: str, user: str, ttl_seconds: int, now: float
) -> None:
    server = Turn(URLS, secret, ttl_seconds).ice_server(user, now)
    assert server.username is not None
    assert server.credential is not None
    expiry, _, name = server.username.partition(":")
    assert name == user
    assert now + ttl_seconds - 1 < int(expiry) <= now + ttl_seconds
    expected = hmac.new(secret.encode(), server.username.encode(), hashlib.sha1).digest()
    assert b64decode(server.credential, validate=True) == expected


def test_secret_and_credential_are_not_in_any_repr() -> None:
    turn = Turn(URLS, "northstar", 600)
    server = turn.ice_server("budi", NOW)
    assert server.credential is not None
    assert "northstar" not in repr(turn)
    assert server.credential not in repr(server)
