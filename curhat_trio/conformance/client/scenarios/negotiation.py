"""Offers, answers and candidates in one room: both roles, renegotiation, glare."""

from functools import partial

import trio

from curhat_trio.conformance.client.connection import FEATURES, ClientConnection
from curhat_trio.conformance.client.fake_peer import FakePeer, media_of
from curhat_trio.conformance.client.results import NotApplicable, ScenarioFailed
from curhat_trio.conformance.client.scenario_run import Role, ScenarioRun
from curhat_trio.conformance.client.scenarios.registry import ROLES, ScenarioGroup
from curhat_trio.protocol import messages

scenario = ScenarioGroup()


# ---------------------------------------------------------------- offers and answers


@scenario("is the offerer", "P-5.3")
async def _is_the_offerer(run: ScenarioRun) -> None:
    connection = await run.negotiated("offerer")
    await connection.expect_working_pairing("P-5.7")


@scenario("is the answerer, and the offer is delayed", "P-5.2", "P-5.7")
async def _is_the_answerer(run: ScenarioRun) -> None:
    connection = await run.paired("answerer")
    await connection.expect_none("offer", "answer", rules="P-5.2")
    await run.negotiate(connection, "answerer")


async def _sends_candidates(role: Role, run: ScenarioRun) -> None:
    connection = await run.negotiated(role)
    while True:
        candidate = await connection.expect("candidate", rules="P-6.4")
        assert isinstance(candidate, messages.Candidate)
        if not candidate.payload.candidate:
            break


for role in ROLES:
    scenario(f"sends its candidates and the end of candidates, as {role}", "P-6.4")(
        partial(_sends_candidates, role)
    )


@scenario("a candidate arrives before any offer", "P-5.7")
async def _early_candidate(run: ScenarioRun) -> None:
    connection = await run.paired("answerer")
    await connection.relay_candidates()
    await connection.relay_offer()
    await connection.expect_answer()


SERVERS = (
    messages.IceServer(("stun:127.0.0.1:9",)),
    messages.IceServer(("turn:127.0.0.1:9?transport=udp",), "someone", "secret"),
)
"""Servers that do not answer."""
CREDENTIAL_SECONDS = 15
"""How long the first credentials are valid."""


@scenario("gets ICE servers", "P-5.3")
async def _ice_servers(run: ScenarioRun) -> None:
    connection = await run.joined()
    await run.pair(connection, "offerer", servers=SERVERS)
    await connection.expect_offer()


async def _relay_only(role: Role, run: ScenarioRun) -> None:
    connection = await run.joined()
    await run.pair(connection, role, policy="relay", servers=SERVERS)
    await run.negotiate(connection, role)
    await connection.expect_open("P-6.7")


for role in ROLES:
    scenario(f"the ICE transport policy is relay, as {role}", "P-6.7")(partial(_relay_only, role))


@scenario("its TURN credentials expire", "P-3.16")
async def _credentials_expire(run: ScenarioRun) -> None:
    connection = await run.joined(features=(*FEATURES, "ice"))
    await run.pair(connection, "answerer", servers=SERVERS, ttlSeconds=CREDENTIAL_SECONDS)
    expire = trio.current_time() + CREDENTIAL_SECONDS
    await run.negotiate(connection, "answerer")
    _expect_media(connection)
    if not any(isinstance(message, messages.Ice) for message in connection.received):
        await connection.expect("ice", rules="P-3.16", within=expire - trio.current_time())
    await connection.send(messages.IceRefreshed(SERVERS, "all", ttl_seconds=600))
    await connection.expect_working_pairing("P-3.16")


@scenario("no media is established", "P-3.18")
async def _no_media(run: ScenarioRun) -> None:
    connection = await run.negotiated("answerer")
    _expect_media(connection)
    deadline = trio.current_time() + run.timeouts.media
    while True:
        within = deadline - trio.current_time()
        message = await connection.expect("status", "offer", rules="P-3.18", within=within)
        if not isinstance(message, messages.Offer):
            break
        await connection.relay_answer(message)  # it tries again
        await connection.relay_candidates()
    await connection.expect_open("P-3.18", 0.5)


def _expect_media(connection: ClientConnection) -> None:
    assert connection.peer is not None
    if not connection.peer.has_media:
        raise NotApplicable("the client has no audio and no video, which are optional")


@scenario("an offer close to the size limit", "P-5.7")
async def _long_offer(run: ScenarioRun) -> None:
    connection = await run.paired("answerer")
    await connection.relay_offer(filler_lines=140)
    await connection.expect_answer()


@scenario("an answer close to the size limit", "P-5.7")
async def _long_answer(run: ScenarioRun) -> None:
    connection = await run.paired("offerer")
    assert connection.peer is not None
    await connection.relay(connection.peer.answer(await connection.expect_offer(), filler_lines=130))
    await connection.expect_working_pairing("P-5.7")


@scenario("its offer is not answered for a while", "P-5.5")
async def _unanswered_offer(run: ScenarioRun) -> None:
    connection = await run.paired("offerer")
    offer = await connection.expect_offer()
    if "renegotiate" in run.driver.actions:
        await run.perform("renegotiate")
    await connection.expect_open("P-5.5")
    await connection.relay_answer(offer)


async def _peer_renegotiates(role: Role, run: ScenarioRun) -> None:
    connection = await run.negotiated(role)
    await connection.expect_working_pairing("P-5.7")
    await connection.relay_offer(restart=True)
    await connection.expect_answer()
    await connection.relay_candidates()
    await connection.expect_working_pairing("P-5.7")


async def _client_renegotiates(role: Role, run: ScenarioRun) -> None:
    connection = await run.negotiated(role)
    await run.perform("renegotiate")
    offer = await connection.expect_offer((), within=run.timeouts.action)
    await connection.relay_answer(offer)
    await connection.relay_candidates()
    await connection.expect_working_pairing("P-5.7")


for role in ROLES:
    scenario(f"the partner renegotiates and restarts ICE, as {role}", "P-5.7")(partial(_peer_renegotiates, role))
    scenario(f"renegotiates, as {role}", "P-5.5", needs=["renegotiate"])(partial(_client_renegotiates, role))


# ---------------------------------------------------------------- glare


@scenario("initial offers collide, and the client is impolite", "P-5.9")
async def _impolite_at_first(run: ScenarioRun) -> None:
    connection = await run.paired("offerer")
    await _expect_offer_ignored(connection, await connection.expect_offer())


@scenario("later offers collide, and the client is impolite", "P-5.9", needs=["renegotiate"])
async def _impolite_later(run: ScenarioRun) -> None:
    connection = await run.negotiated("offerer")
    await run.perform("renegotiate")
    await _expect_offer_ignored(connection, await connection.expect_offer((), within=run.timeouts.action))


async def _expect_offer_ignored(connection: ClientConnection, offer: messages.Offer) -> None:
    peer = connection.peer
    assert peer is not None
    void = FakePeer(peer.id, peer.name, peer.room_id, generation=7)
    await connection.relay(void.offer())
    await connection.relay(messages.Candidate(void.candidate()))
    await connection.expect_none("answer", rules="P-5.9")
    await connection.relay_answer(offer)
    await connection.relay_candidates()
    await connection.expect_working_pairing("P-5.9")


@scenario("offers collide, and the client is polite", "P-5.10")
async def _polite(run: ScenarioRun) -> None:
    connection = await run.paired("answerer")
    # Without a media section for video, a client that has a camera offers again by itself.
    await connection.relay_offer(["audio"])
    await connection.expect_answer()
    await connection.relay_candidates()
    try:
        await connection.expect_offer((), within=_BY_ITSELF_SECONDS)
    except ScenarioFailed as failure:
        if connection.ended is not None:
            raise
        if "renegotiate" not in run.driver.actions:
            raise NotApplicable("the client makes no offer of its own as the answerer") from failure
        await run.perform("renegotiate")
        await connection.expect_offer((), within=run.timeouts.action)
    await connection.relay_offer(restart=True)
    await connection.expect_answer("P-5.10")
    await connection.relay_candidates()
    await connection.expect_working_pairing("P-5.10")


@scenario("its offer is rolled back, and is still needed", "P-5.12")
async def _offers_again(run: ScenarioRun) -> None:
    connection = await run.paired("answerer")
    await connection.relay_offer(["audio"])
    await connection.expect_answer()
    try:
        offer = await connection.expect_offer((), within=_BY_ITSELF_SECONDS)
    except ScenarioFailed as failure:
        if connection.ended is not None:
            raise
        raise NotApplicable("the client does not offer by itself what the first offer lacked") from failure
    if len(media_of(offer.payload)) == 1:
        raise NotApplicable("the client's offer adds no media section to the partner's")
    await connection.relay_offer()  # as before, with the one media section that was agreed on
    await connection.expect_answer("P-5.10")
    again = await connection.expect_offer("P-5.12", within=run.timeouts.answer)
    await connection.relay_answer(again)
    await connection.relay_candidates()
    await connection.expect_working_pairing("P-5.12")


_BY_ITSELF_SECONDS = 1.0
"""How long a client may take that offers without being asked."""
