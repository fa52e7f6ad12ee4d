"""Which tests show which rule of the protocol: a table drawn from a checkout's tests, vectors and situations.

A test names its rules in `@pytest.mark.shows("P-4.2")`, a situation of the conformance kit in its own decorator, a
vector in its `shows`. Files are read, not run.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson

from curhat_trio.specification.requirements import Level, Requirement, requirements
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
    for where, ids in sorted({*_from_tests(checkout), *_from_vectors(checkout)}):
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
        for rule in requirements().values()
    ]
    return (
        "What shows each rule of the protocol. `vectors:` are those of [`../vectors/`](../vectors/), which also "
        "try any other server; `situations:` those into which `curhat-trio conform --listen` puts a client.\n\n"
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
        return "situations:"
    return f"[`{file}`](../../{file}):"


def _listed(names: list[str]) -> str:
    if len(names) <= _ENDS_OF_LONG_LISTS:
        return ", ".join(names)
    return ", ".join(names[:_ENDS_OF_LONG_LISTS]) + f" and {len(names) - _ENDS_OF_LONG_LISTS} more"


# ---------------------------------------------------------------- where rules are named

Named = tuple[str, tuple[str, ...]]


def _from_tests(checkout: Path) -> Iterator[Named]:
    """Functions and classes with a decorator that names rules."""
    files = [*checkout.glob("tests/**/test_*.py"), *checkout.glob("curhat_trio/conformance/situations*.py")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                ids = tuple(identifier for each in node.decorator_list for identifier in _ids(each))
                if ids:
                    yield f"{file.relative_to(checkout).as_posix()}::{node.name}", ids


_DECORATORS = ("shows", "situation")
_ID = re.compile(r"P-\d+\.\d+")


def _ids(decorator: ast.expr) -> Iterator[str]:
    """The rules that a decorator names, if it is one that names rules."""
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(_DECORATORS):
        for argument in decorator.args:
            if isinstance(argument, ast.Constant) and _ID.fullmatch(str(argument.value)):
                yield str(argument.value)


def _from_vectors(checkout: Path) -> Iterator[Named]:
    for file in checkout.glob("spec/vectors/*.json"):
        document = orjson.loads(file.read_bytes())
        for vector in document.get("vectors", []):
            yield f"{file.relative_to(checkout).as_posix()}::{vector['name']}", tuple(vector["shows"])
