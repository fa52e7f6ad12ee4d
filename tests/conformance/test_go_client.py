"""A client in Go, written from `spec/protocol.md` alone, passes every scenario."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from curhat_trio.conformance.client.command import main
from curhat_trio.conformance.client.drivers import ALL_ACTIONS

SOURCE = Path(__file__).with_name("go_client") / "main.go"

LIBRARIES = Path("/usr/share/gocode")
"""Debian's packages of Go libraries."""


@pytest.fixture
def go_client(tmp_path: Path) -> Path:
    """The program."""
    if shutil.which("go") is None:
        pytest.skip("no go: apt-get install golang-go")
    if not (LIBRARIES / "src/github.com/gorilla/websocket").is_dir():
        pytest.skip("no gorilla/websocket: apt-get install golang-github-gorilla-websocket-dev")
    program = tmp_path / "client"
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(LIBRARIES), "GOCACHE": str(tmp_path / "cache")}
    command = ["go", "build", "-o", str(program), str(SOURCE)]
    subprocess.run(command, env=environment, check=True)
    return program


def test_the_go_client_passes_every_scenario(go_client: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"{go_client} {{url}}"
    status = main(["0", "--client-command", command, "--actions", ",".join(ALL_ACTIONS), "--quiet-time", "1"])
    printed = capsys.readouterr()
    assert status == 0, printed.out
    assert "FAILED" not in printed.out, "not even a SHOULD is broken"
    assert "SKIPPED" not in printed.out
