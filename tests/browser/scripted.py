"""A scripted server, right or wrong as the test wants it, and a page that has the library and nothing else."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import JSHandle, Page, Route, WebSocketRoute

import curhat_trio

STATIC = Path(curhat_trio.__file__).parent / "static"
HARNESS = Path(__file__).with_name("harness.js")
ORIGIN = "http://localhost"
SECONDS = 10
"""How long anything that has to happen may take."""

Message = dict[str, Any]

FEATURES = ["block", "chat", "ice", "next", "report", "rooms", "status", "topics", "typing"]
WELCOME: Message = {
    "type": "welcome",
    "sessionId": "c-me",
    "limits": {"messageBytes": 65536, "chatCharacters": 2000, "topics": 5, "topicCharacters": 32},
    "features": FEATURES,
    "pingSeconds": 20.0,
}
RESUMABLE: Message = {
    **WELCOME,
    "features": [*FEATURES, "resume"],
    "resumeToken": "token-1",
    "resumeSeconds": 30,
}
JOIN: Message = {
    "type": "join",
    "from": "c-you",
    "username": "Budi",
    "roomId": "r-1",
    "topics": [],
    "iceServers": [],
    "iceTransportPolicy": "all",
}


def joined(role: str, **fields: Any) -> Message:
    """The server's `join` for a client of this role."""
    return {**JOIN, "role": role, "polite": role == "answerer", **fields}


class Connection:
    """One WebSocket that the page has opened, from the server's side.

    What the client sends is kept in `received` until the test expects it, but for its `id`: those are in `ids`.
    Pings without `data` are only counted.
    """

    def __init__(self, page: Page, route: WebSocketRoute) -> None:
        self._page = page
        self._route = route
        self._seq = 0
        self.received: list[Message] = []
        self.ids: list[str] = []
        self.pings = 0
        self.url = route.url
        self.closed_by_client = False
        self.close_code: int | None = None
        """The client's."""
        route.on_message(self._note)
        route.on_close(self._note_close)

    def _note(self, text: str | bytes) -> None:
        message = json.loads(text)
        if "id" in message:
            self.ids.append(message.pop("id"))
        if message == {"type": "ping"}:
            self.pings += 1
        else:
            self.received.append(message)

    def _note_close(self, code: int | None, _reason: str | None) -> None:
        self.closed_by_client, self.close_code = True, code
        self._route.close(code=code, reason="")  # the closing handshake

    def send(self, message: Message | str, /, **fields: Any) -> None:
        """Send a message with the next `seq`, or just its `type` and some fields."""
        whole = {"type": message, **fields} if isinstance(message, str) else {**message, **fields}
        self._seq += 1
        self._route.send(json.dumps({"seq": self._seq, **whole}))

    def send_raw(self, data: str | bytes) -> None:
        """Send this as it is."""
        self._route.send(data)

    def expect(self, kind: str) -> Message:
        """The client's next message, which must be of this type."""
        wait_until(self._page, lambda: bool(self.received), f"the client to send {kind}")
        message = self.received.pop(0)
        assert message["type"] == kind, message
        return message

    def expect_no_more(self) -> None:
        """The client has sent nothing more. Only conclusive after something that it did send or dispatch."""
        assert self.received == []

    def end(self, code: int = 1006) -> None:
        """End the connection; 1006: without a close frame."""
        self._route.close(code=code, reason="")


class Client:
    """A `Curhat` in the page, and its events."""

    def __init__(self, page: Page, handle: JSHandle, connections: list[Connection]) -> None:
        self._page = page
        self._handle = handle
        self._connections = connections
        self._taken = len(connections)

    def evaluate(self, script: str, *arguments: Any) -> Any:
        """The value of an expression in which `client` is the Curhat and `given` are the arguments."""
        return self._handle.evaluate(
            f"async ({{ client, events }}, given) => {{ const result = await ({script}); "
            "return result === undefined ? null : result; }",
            list(arguments),
        )

    def start(self, **options: Any) -> Connection:
        """Look for a partner over a connection that is opened for it."""
        self.evaluate("client.start(given[0])", options)
        return self.next_connection()

    def next_connection(self) -> Connection:
        """The next connection that this client opens."""
        wait_until(self._page, lambda: len(self._connections) > self._taken, "the client to connect")
        self._taken += 1
        return self._connections[self._taken - 1]

    @property
    def has_connected_again(self) -> bool:
        return len(self._connections) > self._taken

    @property
    def state(self) -> str:
        return str(self.evaluate("client.state"))

    def events(self, name: str) -> list[Message]:
        """The details of all events of this name so far."""
        events: list[Message] = self.evaluate("events.filter(({ name }) => name === given[0])", name)
        return [{key: value for key, value in event.items() if key != "name"} for event in events]

    def expect_event(self, name: str, **fields: Any) -> Message:
        """Wait for an event with these fields; forget it and all of this name before it."""

        def find() -> bool:
            return any(fields.items() <= event.items() for event in self.events(name))

        wait_until(self._page, find, f"{name} {fields}")
        event: Message = self.evaluate(
            """(() => {
                const fits = (event) => event.name === given[0]
                    && Object.entries(given[1]).every(([key, value]) => event[key] === value);
                const index = events.findIndex(fits);
                const found = events[index];
                const kept = events.filter((event, place) => place > index || event.name !== given[0]);
                events.splice(0, events.length, ...kept);
                return found;
            })()""",
            name,
            fields,
        )
        return event

    def wait_for_receipt(self, connection: Connection) -> None:
        """Wait until the client has received everything that was sent over this connection."""
        mark = f"mark-{time.monotonic_ns()}"
        connection.send_raw(json.dumps({"type": mark}))
        self.expect_event("log", type=mark)


class Harness:
    """A page with the library in it. Whatever it leaves open, and every uncaught error, is found by `clear`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._clients: list[Client] = []
        self._streams: list[JSHandle] = []
        self._connections: list[list[Connection]] = []
        page.route(f"{ORIGIN}/**", serve)
        page.route_web_socket("**/ws/*", self._accept)
        page.goto(f"{ORIGIN}/")
        page.wait_for_function("window.openClient !== undefined")

    def _accept(self, route: WebSocketRoute) -> None:
        number = int(route.url.partition("/ws/")[2].partition("?")[0])
        self._connections[number].append(Connection(self.page, route))

    def client(self, **settings: Any) -> Client:
        url = f"ws://localhost/ws/{len(self._connections)}"
        self._connections.append([])
        handle = self.page.evaluate_handle("(settings) => openClient(settings)", {"url": url, **settings})
        self._clients.append(Client(self.page, handle, self._connections[-1]))
        return self._clients[-1]

    def stream(self, **kinds: Any) -> JSHandle:
        """A moving picture of one colour, and silence; `audio=False`, `video=False`: without that."""
        made = self.page.evaluate_handle("(kinds) => makeStream(kinds)", kinds)
        self._streams.append(made)
        return made.evaluate_handle("({ stream }) => stream")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(self.page, condition, what)

    def advance(self, seconds: float) -> None:
        """Advance the page's clock, which stands still otherwise."""
        self.page.clock.run_for(round(seconds * 1000))

    def clear(self) -> None:
        """Disconnect all clients; nothing may be left open."""
        for client in self._clients:
            client.evaluate("client.disconnect()")
        for stream in self._streams:
            stream.evaluate("({ stop }) => stop()")
        self._clients.clear()
        self._streams.clear()
        left = self.page.evaluate(
            "({ timers: opened.timers.size, connections: opened.connections.size, sockets: opened.sockets.size,"
            " listeners: opened.listeners, faults: faults.splice(0) })"
        )
        assert left == {"timers": 0, "connections": 0, "sockets": 0, "listeners": 0, "faults": []}


def wait_until(page: Page, condition: Callable[[], bool], what: str) -> None:
    """Let the page run until a condition holds.

    Raises:
        AssertionError: It did not within `SECONDS`.
    """
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"timeout while waiting for {what}"
        page.wait_for_timeout(2)


def serve(route: Route) -> None:
    """Answer a request for the blank page or a file of the library, whatever the host."""
    name = route.request.url.rpartition("/")[2]
    if name == "harness.js":
        route.fulfill(path=HARNESS, content_type="text/javascript")
    elif name.endswith(".js"):
        route.fulfill(path=STATIC / name, content_type="text/javascript")
    else:
        page = '<!doctype html><title>blank</title><script type="module" src="/harness.js"></script>'
        route.fulfill(body=page, content_type="text/html")
