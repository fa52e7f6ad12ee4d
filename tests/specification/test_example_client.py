"""The JavaScript of spec/protocol.md: it is a part of spec/examples/client.mjs, which is run here."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.end_to_end.server_process import running_server

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "spec" / "examples" / "client.mjs").read_text()
DOCUMENT = (ROOT / "spec" / "protocol.md").read_text()


def test_the_document_quotes_the_example() -> None:
    quoted = re.findall(r"^```js\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert len(quoted) == 3
    assert [text for text in quoted if text not in EXAMPLE] == []


@pytest.mark.shows("P-3.21", "P-4.8", "P-4.9", "P-4.11", "P-9.2", "P-13.4", "P-13.9", "P-13.12", "P-13.16")
def test_the_session_follows_its_rules() -> None:
    """Each case is in example_client.test.mjs, which plays the server."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no `node` on the PATH; version 20 or later is needed")
    script = Path(__file__).with_name("example_client.test.mjs")
    ended = subprocess.run([node, "--test", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "# pass 0" not in ended.stdout


# ---------------------------------------------------------------- in a browser

_GLARE = """async () => {
    const { negotiate } = window.example;
    const sides = { offerer: { polite: false }, answerer: { polite: true } };
    const log = { offerer: [], answerer: [] };
    const other = { offerer: "answerer", answerer: "offerer" };
    let holds = [];  // while it is a list, what is sent is kept in it
    const deliver = ({ to, message }) => sides[to].receive(message);
    for (const [role, side] of Object.entries(sides)) {
        side.pc = new RTCPeerConnection();
        side.receive = negotiate(side.pc, { role, polite: side.polite }, (message) => {
            log[role].push(message);
            const sent = { to: other[role], message };
            if (holds) holds.push(sent); else deliver(sent);
        });
        side.pc.addTransceiver("audio");
    }
    const until = async (condition) => {
        for (let tries = 0; !condition(); tries += 1) {
            if (tries > 200) throw new Error(`waited in vain for ${condition}`);
            await new Promise((resolve) => setTimeout(resolve, 25));
        }
    };
    const release = () => { const kept = holds; holds = null; kept.forEach(deliver); };
    const all = (check) => Object.values(sides).every(check);
    const offers = (role) => log[role].filter(({ type }) => type === "offer").length;
    const ended = (role) => log[role].some(({ payload }) => payload.candidate === "");
    const stable = ({ pc }) => pc.signalingState === "stable";
    await until(() => offers("offerer") === 1);
    const early = offers("answerer");
    release();
    await until(() => all(({ pc }) => pc.connectionState === "connected"));
    await until(() => ended("offerer") && ended("answerer"));
    await until(() => offers("answerer") === 1 && all(stable));
    holds = [];
    for (const { pc } of Object.values(sides)) pc.addTransceiver("video");
    await until(() => offers("offerer") === 2 && offers("answerer") === 2);
    release();
    await until(() => offers("answerer") === 3 && all(stable));
    const lines = all(({ pc }) => pc.getTransceivers().filter(({ mid }) => mid).length === 4);
    return { early, offers: [offers("offerer"), offers("answerer")], lines };
}"""
"""Each adds audio, the answerer's is offered second; then both offer a video at once, and one rolls back."""


@pytest.fixture(scope="module")
def page() -> Iterator["Page"]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no `chromium` on the PATH; Debian has it in the package `chromium`")
    from playwright.sync_api import sync_playwright  # the tests that run by default do without it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.add_script_tag(type="module", content=EXAMPLE + "\nwindow.example = { negotiate, Session };")
        page.wait_for_function("window.example")
        yield page
        browser.close()


@pytest.mark.shows("P-5.2", "P-5.9", "P-5.10", "P-5.12", "P-6.4")
def test_negotiation_survives_glare_and_offers_again(page: "Page") -> None:
    seen: dict[str, Any] = page.evaluate(_GLARE)
    assert seen == {"early": 0, "offers": [2, 3], "lines": True}


_CALL = """async (url) => {
    const { negotiate, Session } = window.example;
    const sockets = [];
    const Native = WebSocket;
    window.WebSocket = class extends Native {
        constructor(...given) { super(...given); sockets.push(this); }
    };
    const begin = (username) => {
        const client = { chats: [], overs: [], pairings: 0 };
        const session = new Session(url, {
            pairing(join) {
                client.pairings += 1;
                client.pc = new RTCPeerConnection();
                client.receive = negotiate(client.pc, join, (message) => session.send(message));
                client.pc.addTransceiver("audio");
            },
            signal: (message) => client.receive(message),
            partner: ({ type, text, state }) => client.chats.push(text ?? state ?? type),
            over: (reason) => client.overs.push(reason),
            ended: (code) => { client.ended = code; },
        });
        session.join({ username, topics: ["example"] });
        return Object.assign(client, { session });
    };
    const until = async (condition) => {
        for (let tries = 0; !condition(); tries += 1) {
            if (tries > 400) throw new Error(`waited in vain for ${condition}`);
            await new Promise((resolve) => setTimeout(resolve, 25));
        }
    };
    const [ani, budi] = [begin("Ani"), begin("Budi")];
    await until(() => [ani, budi].every(({ pc }) => pc?.connectionState === "connected"));
    sockets[0].onclose({ code: 1006 });  // the page loses it, though the server does not know yet
    ani.session.send({ type: "chat", text: "lost on the way" });
    budi.session.send({ type: "chat", text: "missed" });
    await until(() => ani.chats.includes("missed") && budi.chats.includes("lost on the way"));
    ani.session.next();
    await until(() => ani.overs.length && budi.overs.length);
    budi.session.join({ username: "Budi" });
    await until(() => ani.pairings === 2 && budi.pairings === 2);
    await until(() => [ani, budi].every(({ pc }) => pc.connectionState === "connected"));
    for (const { session } of [ani, budi]) session.close();
    await until(() => ani.ended && budi.ended);
    return { chats: [ani.chats, budi.chats], overs: [ani.overs[0], budi.overs[0]], sockets: sockets.length };
}"""
"""Two clients in a call; one resumes its session, and goes to the next partner, who is the same one."""


def test_negotiation_and_session_work_with_the_server(page: "Page") -> None:
    with running_server("--widen-after-seconds", "1") as server:
        seen: dict[str, Any] = page.evaluate(_CALL, server.url.replace("http:", "ws:") + "/ws")
    assert seen == {"chats": [["missed"], ["lost on the way"]], "overs": ["next", "next"], "sockets": 3}
