"""Pages written for the seed's server work unmodified, and better than they did there.

The seed sends both partners `join`, both offer at once, and 4 of 15 attempts end in a call. Here every attempt
does, because the server settles glare and orders candidates.
"""

from pathlib import Path

import playwright.sync_api
import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import OpenPage
from tests.end_to_end.page_user import PageUser

SEED_PAGE = Path(__file__).with_name("seed_page.html").read_text()
ATTEMPTS = 10
ATTEMPT_SECONDS = 5


def open_seed_page(open_page: OpenPage, camera: str) -> PageUser:
    """A user with a page that is not part of this project, but has the server's origin."""
    user = open_page(camera, path="/health")
    user.page.set_content(SEED_PAGE)
    return user


def received_types(user: PageUser) -> list[str]:
    """The types of the messages that a seed page received."""
    types: list[str] = user.evaluate("seed.received.map(({ type }) => type)")
    return types


def attempt(ana: PageUser, ben: PageUser) -> str:
    """Both start. Returns what went wrong; empty if both receive moving video."""
    ana.evaluate("start('Ana')")
    ben.evaluate("start('Ben')")
    try:
        video_of_ana, video_of_ben = (
            ana.watch_video(seconds=ATTEMPT_SECONDS),
            ben.watch_video(seconds=ATTEMPT_SECONDS),
        )
    except playwright.sync_api.Error:
        return f"no video; errors of the pages: {ana.evaluate('seed.log')} {ben.evaluate('seed.log')}"
    moving = video_of_ana.is_moving and video_of_ben.is_moving
    right = (video_of_ana.colour, video_of_ben.colour) == ("blue", "red")
    return "" if moving and right else f"{video_of_ana} {video_of_ben}"


def test_two_seed_pages_connect_in_every_attempt(open_page: OpenPage) -> None:
    outcomes = []
    for _ in range(ATTEMPTS):
        ana, ben = open_seed_page(open_page, "red"), open_seed_page(open_page, "blue")
        outcomes.append(attempt(ana, ben))
        open_page.close_pages(ana, ben)
    assert outcomes == [""] * ATTEMPTS


def test_a_seed_page_receives_only_legacy_messages(open_page: OpenPage) -> None:
    ana, ben = open_seed_page(open_page, "red"), open_seed_page(open_page, "blue")
    ana.evaluate("start('Ana')")
    ben.evaluate("start('Ben')")
    assert ana.watch_video().is_moving
    assert ben.watch_video().is_moving
    for user in (ana, ben):
        assert set(received_types(user)) <= {"ready", "join", "offer", "answer", "candidate", "leave", "error"}
        assert not user.evaluate("seed.log.filter((line) => line.startsWith('candidate'))")
    ana.page.close()
    ben.page.wait_for_function("() => seed.received.at(-1).type === 'leave'")


@pytest.mark.parametrize("page_is_first", [True, False], ids=["page offers", "seed page offers"])
def test_a_seed_page_and_the_page_connect(open_page: OpenPage, page_is_first: bool) -> None:
    ana, ben = open_page("red"), open_seed_page(open_page, "blue")
    if page_is_first:
        ana.start_as("Ana")
        expect(ana.state).to_have_text("Waiting for a partner.")
        ben.evaluate("start('Ben')")
    else:
        ben.evaluate("start('Ben')")
        ben.page.wait_for_function("() => seed.received.some(({ type }) => type === 'ready')")
        ana.start_as("Ana")
    expect(ana.state).to_have_text("Talking with Ben.")
    video_of_ana, video_of_ben = ana.watch_video(), ben.watch_video()
    assert video_of_ana.is_moving, video_of_ana
    assert video_of_ben.is_moving, video_of_ben
    assert (video_of_ana.colour, video_of_ben.colour) == ("blue", "red")


def test_chat_with_a_seed_page_is_refused_with_the_reason(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_seed_page(open_page, "blue")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ben.evaluate("start('Ben')")
    expect(ana.state).to_have_text("Talking with Ben.")
    ana.send_chat("Can you read this?")
    expect(ana.notice).to_have_text(
        "Your last message was not delivered. Your partner's program has no text chat."
    )
    assert "chat" not in received_types(ben)
