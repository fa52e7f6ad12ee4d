"""Which tests show which rule of the protocol: a table made from a checkout's tests, vectors and scenarios.

A test names its rules in `@pytest.mark.shows("P-4.2")`, a scenario of the conformance kit behind its name, a
vector in its `shows`. Files are read, not run.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeGuard

import orjson

from curhat_trio.documents.requirements import Level, Requirement, requirements
from curhat_trio.specification.tables import table

Evidence = Mapping[str, list[str]]
"""Rule id to what shows it: `tests/test_log.py::test_name`, or `spec/vectors/file.json: name`."""

_ENDS_OF_LONG_LISTS = 6


def collect_evidence(checkout: Path) -> Evidence:
    """Everything in a checkout that says which rules it shows.

    Raises:
        ValueError: A rule is named that the protocol does not have.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for where, ids in sorted({*_from_tests(checkout), *_from_scenarios(checkout), *_from_vectors(checkout)}):
        for identifier in ids:
            if identifier not in requirements():
                raise ValueError(f"{where} shows {identifier}, which spec/protocol.md does not have")
            found[identifier].append(where)
    return found


def without_evidence(evidence: Evidence) -> list[str]:
    """Rules that say MUST, and that nothing shows."""
    return [rule.id for rule in requirements().values() if rule.level is Level.MUST and not evidence.get(rule.id)]


def requirements_table(evidence: Evidence) -> str:
    """Every rule, whom it binds, and what shows it."""
    rows = [
        [f"[{rule.id}](../protocol.md)", rule.party, rule.level, _shown(evidence.get(rule.id, []), rule)]
        for rule in sorted(requirements().values(), key=lambda rule: tuple(map(int, rule.id[2:].split("."))))
    ]
    return (
        "What shows each rule of the protocol. `vectors:` are those of [`../vectors/`](../vectors/), which also "
        "try any other server; `scenarios:` those through which `curhat-trio conform --listen` puts a client.\n\n"
        + table(["rule", "binds the", "", "shown by"], rows)
    )


def _shown(places: list[str], rule: Requirement) -> str:
    if not places:
        return "**nothing**" if rule.level is Level.MUST else "nothing"
    groups: dict[str, list[str]] = defaultdict(list)
    for place in places:
        file, _, name = place.partition("::")
        groups[_group(file)].append(f"`{name}`")
    return "; ".join(f"{group} {_listed(names)}" for group, names in sorted(groups.items()))


def _group(file: str) -> str:
    if file.endswith(".json"):
        return "vectors:"
    if file.startswith("curhat_trio/"):
        return "scenarios:"
    return f"[`{file}`](../../{file}):"


def _listed(names: list[str]) -> str:
    if len(names) <= _ENDS_OF_LONG_LISTS:
        return ", ".join(names)
    return ", ".join(names[:_ENDS_OF_LONG_LISTS]) + f" and {len(names) - _ENDS_OF_LONG_LISTS} more"


# ---------------------------------------------------------------- where rules are named

Named = tuple[str, tuple[str, ...]]


def _from_tests(checkout: Path) -> Iterator[Named]:
    """Functions and classes with a decorator that names rules."""
    for file in checkout.glob("tests/**/test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                marks = (each for each in node.decorator_list if _is_call(each, "shows"))
                ids = tuple(_text(argument) for mark in marks for argument in mark.args)
                if ids:
                    yield f"{file.relative_to(checkout).as_posix()}::{node.name}", ids


def _from_scenarios(checkout: Path) -> Iterator[Named]:
    """Calls of `scenario(name, *rules)`."""
    for file in checkout.glob("curhat_trio/conformance/client/scenarios/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if _is_call(node, "scenario"):
                name, *ids = map(_text, node.args)
                known = tuple(each for each in ids if each.startswith("P-"))  # others are variables in a loop
                yield f"{file.relative_to(checkout).as_posix()}::{name}", known


def _is_call(node: ast.AST, name: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == name


def _text(node: ast.expr) -> str:
    """A string as it is written; of an f-string what it is made of."""
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)[2:-1]


def _from_vectors(checkout: Path) -> Iterator[Named]:
    for file in checkout.glob("spec/vectors/*.json"):
        document = orjson.loads(file.read_bytes())
        for vector in document.get("vectors", []):
            yield f"{file.relative_to(checkout).as_posix()}::{vector['name']}", tuple(vector["shows"])
