"""Which file may import which: the one nesting that keeps the core pure and the shell shallow."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

import curhat_trio

ROOT = Path(curhat_trio.__file__).parent

SHELL = ["cli", "server", "http", "admission", "connection", "link", "backends", "relay"]
"""From the outside in: each may import those that follow it."""
FOR_ALL = {"protocol", "policy", "config", "log", "metrics", "trace", "__init__"}
"""What everything may import, and what imports nothing of the shell."""
ALLOWED = {name: {*SHELL[place + 1 :], *FOR_ALL, "frames"} for place, name in enumerate(SHELL)} | {
    "__main__": {"cli"},
    "matchmaker": FOR_ALL,
    "resumption": set(),
    "specification": {"protocol", "documents", "__init__"},
    "documents": {"protocol", "__init__"},
    "load": {"protocol"},
    "conformance": {"protocol", "policy", "specification", "frames", "__init__"},
    "client": {"protocol", "policy"},
    "frames": {"protocol"},
    "config": {"protocol", "__init__"},
    "log": set(),
    "metrics": {"protocol"},
    "trace": {"protocol", "policy", "log"},
    "policy": {"policy", "protocol"},
    "protocol": {"protocol"},
    "__init__": set(),
}
for importer, also in {
    "connection": {"resumption"},
    "server": {"matchmaker"},
    "backends": {"backends"},
    "cli": {"specification", "conformance", "load"},
    "http": {"documents"},
}.items():
    ALLOWED[importer] = ALLOWED[importer] | also

STANDARD_FOR_THE_PURE = {
    "base64",
    "collections",
    "enum",
    "heapq",
    "hmac",
    "ipaddress",
    "math",
    "re",
    "types",
    "typing",
}
PURE = {
    "protocol": {"attrs", "cattrs", "orjson"},
    "policy": {"attrs"},
    "frames": {"attrs"},
    "client/machine": {"attrs"},
}
"""Third parties of the pure rooms and modules. No trio, clock, chance or logging can come in by another name."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    """The top-level module or package that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


def third_parties(path: Path) -> set[str] | None:
    """What a pure module may import beside the standard library; None: it is not pure."""
    return PURE.get(module(path), PURE.get(room(path)))


def imported(path: Path) -> Iterator[str]:
    """Full names of all that a file imports."""
    package = ".".join(("curhat_trio", *path.relative_to(ROOT).parent.parts))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield resolve_name("." * node.level + (node.module or ""), package)


def own(name: str) -> str:
    """The room that an import of our own leads to."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_inwards(path: Path) -> None:
    ours = {own(name) for name in imported(path) if name.split(".")[0] == "curhat_trio"}
    assert ours <= ALLOWED[room(path)] | {room(path)}


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if third_parties(path) is not None],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_pure_rooms_know_no_world(path: Path) -> None:
    others = {name.split(".")[0] for name in imported(path)} - {"curhat_trio"}
    assert others <= STANDARD_FOR_THE_PURE | (third_parties(path) or set())


def test_what_is_called_pure_exists() -> None:
    assert PURE.keys() <= {name for path in modules() for name in (room(path), module(path))}


LOADED_BY_A_SERVER = {
    "__init__",
    "admission",
    "backends",
    "config",
    "connection",
    "deadlines",
    "dispatcher",
    "documents",
    "environment",
    "frames",
    "handshake",
    "http",
    "link",
    "log",
    "matchmaker",
    "metrics",
    "observer",
    "policy",
    "protocol",
    "relay",
    "resumption",
    "server",
    "session_log",
    "sessions",
    "trace",
    "transport",
}
"""Nothing that only draws, tries, checks or connects to a server."""


def test_a_running_server_loads_nothing_that_it_does_not_run() -> None:
    """In a process of its own: this one has loaded everything."""
    script = "import sys, curhat_trio.server; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    loaded = process.stdout.split()
    rooms = {own(name) for name in loaded if name.split(".")[0] == "curhat_trio"}
    assert "server" in rooms
    assert rooms <= LOADED_BY_A_SERVER
    assert "curhat_trio.trace.checker" not in loaded
    assert "hypothesis" not in loaded


def test_connection_and_matchmaker_meet_only_through_channels() -> None:
    assert "curhat_trio.matchmaker" not in imported(ROOT / "connection.py")
    assert "curhat_trio.connection" not in imported(ROOT / "matchmaker.py")
