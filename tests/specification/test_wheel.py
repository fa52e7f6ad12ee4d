"""What needs a checkout is left out of the wheel, and nothing in the wheel needs what is left out."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

from curhat_trio import cli
from tests.test_architecture import imported, modules

CHECKOUT = Path(__file__).parents[2]
WHEEL = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]


def is_left_out(path: Path) -> bool:
    return any(path.is_relative_to(CHECKOUT / folder) for folder in WHEEL["exclude"])


def reads_tests(path: Path) -> bool:
    """Whether a string in the code, docstrings aside, is a path into `tests/`."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    )
    return any(string == "tests" or string.startswith("tests/") for string in strings)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")


def test_what_reads_tests_is_not_in_the_wheel() -> None:
    reading = [path for path in modules() if reads_tests(path)]
    assert reading, "what generates the table of evidence"
    assert [path for path in reading if not is_left_out(path)] == []


def test_nothing_in_the_wheel_imports_what_is_left_out() -> None:
    left_out = {name_of(path) for path in modules() if is_left_out(path)}
    importing = {
        path.name: sorted(left_out & set(imported(path)))
        for path in modules()
        if not is_left_out(path) and left_out & set(imported(path))
    }
    assert importing == {}


def test_whatever_is_left_out_exists() -> None:
    assert all((CHECKOUT / folder).is_dir() for folder in WHEEL["exclude"])


def test_spec_is_the_only_command_that_an_installed_package_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = [
        name for name, module in cli._SUBCOMMANDS.items() if is_left_out(CHECKOUT / module.replace(".", "/"))
    ]
    assert lacking == ["spec"]
    monkeypatch.setitem(sys.modules, cli._SUBCOMMANDS["spec"], None)
    assert cli.main(["spec", "--check"]) == 2
    assert capsys.readouterr().err == (
        "curhat-trio: `spec` works in a checkout of the repository only; this is an installed package\n"
    )
