"""Pages written for the seed's server go on working, unmodified, and better than they did there.

The seed tells both partners `join`, both offer at once, and 4 of 15 attempts end in a call. Here the server's
roles, and its care for candidates that come too early or too late, make a call of every attempt.
"""

from pathlib import Path

import playwright.sync_api
import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import Invite
from tests.end_to_end.people import Person

SEED_PAGE = Path(__file__).with_name("seed_page.html").read_text()
ATTEMPTS = 10
ATTEMPT_SECONDS = 5


def invite_with_seed_page(invite: Invite, camera: str) -> Person:
    """Somebody with a page that is no part of the product, at the server's address all the same."""
    person = invite(camera, path="/health")
    person.page.set_content(SEED_PAGE)
    return person


def heard(person: Person) -> list[str]:
    """The types of the messages that a seed page got."""
    types: list[str] = person.evaluate("seed.received.map(({ type }) => type)")
    return types


def attempt(ana: Person, ben: Person) -> str:
    """Both start. Returns what went wrong; empty: both see the other move."""
    ana.evaluate("start('Ana')")
    ben.evaluate("start('Ben')")
    try:
        seen_by_ana, seen_by_ben = ana.watch(seconds=ATTEMPT_SECONDS), ben.watch(seconds=ATTEMPT_SECONDS)
    except playwright.sync_api.Error:
        return f"no video; errors of the pages: {ana.evaluate('seed.log')} {ben.evaluate('seed.log')}"
    moving = seen_by_ana.is_moving and seen_by_ben.is_moving
    right = (seen_by_ana.colour, seen_by_ben.colour) == ("blue", "red")
    return "" if moving and right else f"{seen_by_ana} {seen_by_ben}"


def test_two_seed_pages_connect_in_every_attempt(invite: Invite) -> None:
    outcomes = []
    for _ in range(ATTEMPTS):
        ana, ben = invite_with_seed_page(invite, "red"), invite_with_seed_page(invite, "blue")
        outcomes.append(attempt(ana, ben))
        invite.send_home(ana, ben)
    assert outcomes == [""] * ATTEMPTS


def test_a_seed_page_hears_only_words_it_knows(invite: Invite) -> None:
    ana, ben = invite_with_seed_page(invite, "red"), invite_with_seed_page(invite, "blue")
    ana.evaluate("start('Ana')")
    ben.evaluate("start('Ben')")
    assert ana.watch().is_moving
    assert ben.watch().is_moving
    for person in (ana, ben):
        assert set(heard(person)) <= {"ready", "join", "offer", "answer", "candidate", "leave", "error"}
        assert not person.evaluate("seed.log.filter((line) => line.startsWith('candidate'))")
    ana.page.close()
    ben.page.wait_for_function("() => seed.received.at(-1).type === 'leave'")


@pytest.mark.parametrize("page_is_first", [True, False], ids=["page offers", "seed page offers"])
def test_a_seed_page_and_the_page_connect(invite: Invite, page_is_first: bool) -> None:
    ana, ben = invite("red"), invite_with_seed_page(invite, "blue")
    if page_is_first:
        ana.start_as("Ana")
        expect(ana.state).to_have_text("Waiting for a partner.")
        ben.evaluate("start('Ben')")
    else:
        ben.evaluate("start('Ben')")
        ben.page.wait_for_function("() => seed.received.some(({ type }) => type === 'ready')")
        ana.start_as("Ana")
    expect(ana.state).to_have_text("Talking with Ben.")
    seen_by_ana, seen_by_ben = ana.watch(), ben.watch()
    assert seen_by_ana.is_moving, seen_by_ana
    assert seen_by_ben.is_moving, seen_by_ben
    assert (seen_by_ana.colour, seen_by_ben.colour) == ("blue", "red")


def test_chat_with_a_seed_page_is_refused_with_the_reason(invite: Invite) -> None:
    ana, ben = invite("red"), invite_with_seed_page(invite, "blue")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ben.evaluate("start('Ben')")
    expect(ana.state).to_have_text("Talking with Ben.")
    ana.say("Can you read this?")
    expect(ana.notice).to_have_text(
        "Your last message was not delivered. Your partner's program has no text chat."
    )
    assert "chat" not in heard(ben)
