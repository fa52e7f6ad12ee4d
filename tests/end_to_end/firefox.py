"""Debian's Firefox, driven by the protocol that it speaks by itself: WebDriver BiDi (W3C), over a WebSocket.

Playwright drives a Firefox of its own making only, and this way needs no geckodriver.
"""

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Message, Ping, Request

SECONDS = 30
"""How long an answer of the browser's may take."""

PREFERENCES = {
    "media.navigator.streams.fake": True,  # a camera whose colour changes all the time, a microphone that hums
    "media.navigator.permission.disabled": True,
}

_LISTENING = re.compile(r"WebDriver BiDi listening on (ws://\S+)")

_SHOW = "(element) => element.scrollIntoView({ block: 'center' })"
_AS_JSON = "async (given) => JSON.stringify(await (SCRIPT)(...JSON.parse(given)) ?? null)"


class FirefoxError(Exception):
    """What the browser answered instead of a result; or that a script in a page threw."""


class Window:
    """A window with one page, in a profile of its own. What goes wrong in the page unseen is kept in `errors`."""

    def __init__(self, firefox: "Firefox", context: str) -> None:
        self._firefox = firefox
        self.context = context
        self.errors: list[str] = []

    def goto(self, url: str) -> None:
        """Open a page, and wait until it has loaded."""
        self._firefox.command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def evaluate(self, script: str, *arguments: Any) -> Any:
        """Call a JavaScript function in the page. Takes and returns what JSON can hold.

        Raises:
            FirefoxError: It threw.
        """
        given = {"type": "string", "value": json.dumps(arguments)}
        return json.loads(self._call(_AS_JSON.replace("SCRIPT", script), given)["value"])

    def click(self, role: str, name: str) -> None:
        """Press on the middle of an element, as a mouse does."""
        element = self._find(role, name)
        self._call(_SHOW, element)
        target = {"type": "element", "element": element}
        self._act(
            "pointer",
            {"type": "pointerMove", "x": 0, "y": 0, "origin": target},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        )

    def write(self, name: str, text: str) -> None:
        """Click on a field, and type key by key."""
        self.click("textbox", name)
        self._act("key", *({"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")))

    def close(self) -> None:
        self._firefox.close_window(self)

    def _find(self, role: str, name: str) -> dict[str, str]:
        """The element that has this role and name for those who can't see (W3C WAI-ARIA)."""
        locator = {"type": "accessibility", "value": {"role": role, "name": name}}
        found = self._firefox.command("browsingContext.locateNodes", context=self.context, locator=locator)
        if not found["nodes"]:
            raise FirefoxError(f"the page shows no {role} named {name}")
        return {"sharedId": found["nodes"][0]["sharedId"]}

    def _act(self, device: str, *actions: dict[str, Any]) -> None:
        source = {"type": device, "id": device, "actions": actions}
        self._firefox.command("input.performActions", context=self.context, actions=[source])

    def _call(self, function: str, argument: dict[str, str]) -> dict[str, Any]:
        answer = self._firefox.command(
            "script.callFunction",
            functionDeclaration=function,
            arguments=[argument],
            target={"context": self.context},
            awaitPromise=True,
        )
        if answer["type"] != "success":
            raise FirefoxError(answer["exceptionDetails"]["text"])
        result: dict[str, Any] = answer["result"]
        return result


class Firefox:
    """A running browser, and the one session that it gives.

    Args:
        executable: Its file.
        profile: An empty folder.
    """

    def __init__(self, executable: str, profile: Path) -> None:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        (profile / "user.js").write_text("".join(lines))
        self._process = subprocess.Popen(
            [executable, "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", str(profile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._url = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self._number = 0
        self._windows: dict[str, Window] = {}

    def begin(self) -> None:
        """Wait until it has started, and begin the session."""
        self._ready.wait(SECONDS)
        if not self._url:
            raise FirefoxError("it did not start, or does not speak WebDriver BiDi")
        self._wire = Wire(f"{self._url}/session")
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded"])

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := _LISTENING.search(line):
                self._url = found[1]
                self._ready.set()
        self._ready.set()

    def open_window(self, before: str = "") -> Window:
        """A window in a fresh profile. `before`: a script that runs before those of every page in it."""
        user = self.command("browser.createUserContext")["userContext"]
        if before:
            script = f"() => {{ {before} }}"
            self.command("script.addPreloadScript", functionDeclaration=script, userContexts=[user])
        made = self.command("browsingContext.create", type="window", userContext=user)
        window = Window(self, made["context"])
        self._windows[window.context] = window
        return window

    def close_window(self, window: Window) -> None:
        self.command("browsingContext.close", context=window.context)
        del self._windows[window.context]

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have something done, and wait for the result.

        Raises:
            FirefoxError: It was refused.
            TimeoutError: There was no answer.
        """
        self._number += 1
        self._wire.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._wire.receive())
            if answer["type"] == "event":
                self._note(answer["params"])
            elif answer["id"] == self._number:
                break
        if answer["type"] == "error":
            raise FirefoxError(f"{method}: {answer['error']}: {answer['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _note(self, entry: dict[str, Any]) -> None:
        window = self._windows.get(entry["source"].get("context", ""))
        if window is not None and entry["level"] in ("error", "warn"):
            window.errors.append(entry["text"])

    def close(self) -> None:
        self.command("browser.close")
        self._process.wait(SECONDS)
        self._wire.close()
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(SECONDS)
        assert self._process.stderr is not None
        self._process.stderr.close()


class Wire:
    """A WebSocket that waits for every message. Args: `url`: `ws://HOST:PORT/PATH`."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._socket = socket.create_connection((address.hostname, address.port), SECONDS)
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._events: Iterator[Any] = iter(())
        self._socket.sendall(self._connection.send(Request(host=address.netloc, target=address.path)))
        assert isinstance(self._next_event(), AcceptConnection), f"{url} is no WebSocket"

    def send(self, text: str) -> None:
        self._socket.sendall(self._connection.send(Message(data=text)))

    def receive(self) -> str:
        """The next message.

        Raises:
            TimeoutError: It did not come.
            ConnectionError: The other end is gone.
        """
        parts: list[str] = []
        while True:
            event = self._next_event()
            if isinstance(event, Ping):
                self._socket.sendall(self._connection.send(event.response()))
            elif isinstance(event, Message):
                parts.append(str(event.data))
                if event.message_finished:
                    return "".join(parts)
            else:
                raise ConnectionError(f"the WebSocket ended: {event}")

    def _next_event(self) -> Any:
        while True:
            for event in self._events:
                return event
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the WebSocket broke off")
            self._connection.receive_data(data)
            self._events = self._connection.events()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def running_firefox(executable: str, profile: Path) -> Iterator[Firefox]:
    """A browser from here to the end of the block."""
    firefox = Firefox(executable, profile)
    try:
        firefox.begin()
        yield firefox
    except BaseException:
        firefox.kill()
        raise
    firefox.close()
