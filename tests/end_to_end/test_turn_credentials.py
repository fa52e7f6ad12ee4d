"""A real TURN server accepts the credentials of this server: those of its own secret, until they expire."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.policy.turn import Turn
from tests.coturn import SECRET, Coturn, running_coturn
from tests.peers import running_server

UNAUTHORIZED = 401


@pytest.fixture(scope="module")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coturn]:
    with running_coturn(tmp_path_factory.mktemp("coturn")) as coturn:
        yield coturn


def allocate(coturn: Coturn, *, secret: str = SECRET, age_seconds: float = 0) -> int:
    """Coturn's answer to credentials for a minute that were made so long ago."""
    made = Turn((coturn.url,), secret, ttl_seconds=60).ice_server(
        secrets.token_urlsafe(12), time.time() - age_seconds
    )
    assert made.username is not None
    assert made.credential is not None
    return coturn.allocate(made.username, made.credential)


def test_fresh_credentials_are_accepted(coturn: Coturn) -> None:
    assert allocate(coturn) == 0
    assert allocate(coturn, age_seconds=50) == 0


@pytest.mark.shows("P-11.6")
def test_expired_credentials_are_refused(coturn: Coturn) -> None:
    assert allocate(coturn, age_seconds=70) == UNAUTHORIZED


def test_credentials_of_another_secret_are_refused(coturn: Coturn) -> None:
    assert allocate(coturn, secret="another") == UNAUTHORIZED


def test_credentials_with_a_changed_expiry_are_refused(coturn: Coturn) -> None:
    made = Turn((coturn.url,), SECRET, ttl_seconds=60).ice_server("x", time.time() - 70)
    assert made.credential is not None
    assert coturn.allocate(f"{int(time.time()) + 60}:x", made.credential) == UNAUTHORIZED


@pytest.mark.shows("P-3.15")
async def test_ice_replaces_expired_credentials(
    coturn: Coturn, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The server's clock is an hour behind at the `join`, so its credentials have expired for coturn."""
    settings = Settings(turn_urls=(coturn.url,), turn_secret=SECRET, turn_ttl_seconds=600)

    def credentials_in(joined: dict[str, Any]) -> tuple[str, str]:
        [server] = joined["iceServers"]
        assert server["urls"] == [coturn.url]
        return server["username"], server["credential"]

    now = time.time()
    async with running_server(settings) as server:
        with monkeypatch.context() as an_hour_ago:
            an_hour_ago.setattr("time.time", lambda: now - 3600)
            ani, budi = await server.connect(), await server.connect()
            await ani.send("join")
            await ani.receive("ready")
            await budi.send("join")
            joined = await ani.receive("join")
        assert coturn.allocate(*credentials_in(joined)) == UNAUTHORIZED
        await ani.send("ice")
        assert coturn.allocate(*credentials_in(await ani.receive("ice"))) == 0
