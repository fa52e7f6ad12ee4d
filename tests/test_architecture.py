"""Which module may import which: an order that keeps the core pure and the shell small."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

import curhat_trio

ROOT = Path(curhat_trio.__file__).parent

CORE = {"protocol", "policy"}

ALLOWED: dict[str, set[str]] = {
    "__main__": {"cli"},
    "cli": {"server", "trace", "config", "log"},
    # beside the server: commands and libraries that draw, test, check or connect to one
    "conformance": {"documents", "frames", *CORE},
    "load": {"protocol"},
    "client": {"protocol"},
    "specification": {
        "documents",
        "dispatcher",
        "connection",
        "environment",
        "observer",
        "deadlines",
        "config",
        *CORE,
    },
    # the server, from the outside in
    "server": {
        "http",
        "admission",
        "dispatcher",
        "backends",
        "session_log",
        "environment",
        "observer",
        "deadlines",
        "config",
        "log",
        "policy",
    },
    "http": {"admission", "environment", "documents", "log", "protocol", "__init__"},
    "admission": {
        "dispatcher",
        "connection",
        "environment",
        "deadlines",
        "handshake",
        "transport",
        "log",
        *CORE,
    },
    "trace": {"dispatcher", "environment", "observer", "deadlines", "config", "log", *CORE},
    "dispatcher": {
        "backends",
        "sessions",
        "environment",
        "observer",
        "metrics",
        "deadlines",
        "log",
        *CORE,
    },
    "connection": {"deadlines", "frames", "transport", "config", "protocol"},
    "backends": {"matchmaker", "observer", *CORE},
    "matchmaker": {"observer", *CORE},
    "session_log": {"metrics", "observer", "log", "protocol"},
    "sessions": {"protocol"},
    "environment": {"config", "metrics", *CORE},
    "metrics": {"observer", "protocol"},
    "observer": CORE,
    "documents": {"protocol", "__init__"},
    "frames": {"protocol"},
    "config": {"protocol", "__init__"},
    # modules that import nothing of this package
    "deadlines": set(),
    "handshake": set(),
    "transport": set(),
    "log": set(),
    # the core
    "policy": {"protocol"},
    "protocol": set(),
    "__init__": set(),
}
"""What each module or subpackage imports of this package, from the outside in: only what stands below it. Commands
that are imported by name when they run are not listed."""

STANDARD_LIBRARY_FOR_PURE = {
    "base64",
    "collections",
    "enum",
    "functools",
    "heapq",
    "hmac",
    "ipaddress",
    "json",
    "math",
    "re",
    "types",
    "typing",
}
PURE = {
    "protocol": {"attrs", "cattrs", "orjson"},
    "policy": {"attrs"},
    "frames": {"attrs", "websockets"},
    "config/kinds": {"attrs"},
    "config/settings": {"attrs"},
    "client/machine": {"attrs"},
}
"""The third-party imports of pure packages and modules, which use no Trio, clock, randomness or logging."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def package_of(path: Path) -> str:
    """The top-level module or package that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


def third_parties(path: Path) -> set[str] | None:
    """The third parties that a pure module may import; None if it is not pure."""
    return PURE.get(module(path), PURE.get(package_of(path)))


def imported(path: Path) -> Iterator[str]:
    """Full names of all that a file imports."""
    package = ".".join(("curhat_trio", *path.relative_to(ROOT).parent.parts))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield resolve_name("." * node.level + (node.module or ""), package)


def target_of(name: str) -> str:
    """The top-level module or package of an import from this package."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_inwards(path: Path) -> None:
    ours = {target_of(name) for name in imported(path) if name.split(".")[0] == "curhat_trio"}
    assert ours <= ALLOWED[package_of(path)] | {package_of(path)}


def test_the_order_of_the_table_is_the_direction_of_imports() -> None:
    """So there are no cycles."""
    order = list(ALLOWED)
    for place, name in enumerate(order):
        assert ALLOWED[name] <= set(order[place + 1 :]), name


def test_every_allowed_import_is_used() -> None:
    used: dict[str, set[str]] = {}
    for path in modules():
        ours = {target_of(name) for name in imported(path) if name.split(".")[0] == "curhat_trio"}
        used.setdefault(package_of(path), set()).update(ours - {package_of(path)})
    assert used == ALLOWED


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if third_parties(path) is not None],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_pure_packages_import_no_io(path: Path) -> None:
    others = {name.split(".")[0] for name in imported(path)} - {"curhat_trio"}
    assert others <= STANDARD_LIBRARY_FOR_PURE | (third_parties(path) or set())


def test_every_package_called_pure_exists() -> None:
    assert PURE.keys() <= {name for path in modules() for name in (package_of(path), module(path))}


@pytest.mark.parametrize(("half", "other"), [("client", "server"), ("server", "client")])
def test_the_two_halves_of_the_conformance_kit_do_not_know_each_other(half: str, other: str) -> None:
    for path in (ROOT / "conformance" / half).rglob("*.py"):
        assert not [name for name in imported(path) if name.startswith(f"curhat_trio.conformance.{other}")], path


IMPORTED_BY_A_SERVER = {
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
    "log",
    "matchmaker",
    "metrics",
    "observer",
    "policy",
    "protocol",
    "server",
    "session_log",
    "sessions",
    "transport",
}
"""Not the modules that only draw, test, check or connect to a server."""


def test_a_running_server_imports_only_what_it_runs() -> None:
    """In a separate process, because this one has imported everything."""
    script = "import sys, curhat_trio.server; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    loaded = process.stdout.split()
    packages = {target_of(name) for name in loaded if name.split(".")[0] == "curhat_trio"}
    assert "server" in packages
    assert packages <= IMPORTED_BY_A_SERVER
    assert "hypothesis" not in loaded


SESSIONS_AND_CONNECTIONS = ("dispatcher", "connection")


@pytest.mark.parametrize("name", SESSIONS_AND_CONNECTIONS)
def test_sessions_and_matchmaker_meet_only_through_channels(name: str) -> None:
    assert "curhat_trio.matchmaker" not in imported(ROOT / f"{name}.py")
    assert f"curhat_trio.{name}" not in imported(ROOT / "matchmaker.py")


def test_sessions_and_connections_know_each_other_only_by_protocols() -> None:
    for name, other in (SESSIONS_AND_CONNECTIONS, SESSIONS_AND_CONNECTIONS[::-1]):
        assert f"curhat_trio.{other}" not in imported(ROOT / f"{name}.py")
        assert "curhat_trio.protocol.session" not in imported(ROOT / "connection.py")
