"""The generated part of the specification: tables, diagrams and schemas made from the code.

`documents()` generates all of them; `spec/generated/` holds the result. This is a tool for developers: it reads
the tests of a checkout, so the wheel leaves it out. What a server serves is made in `curhat_trio.documents`, and
written to the folder too.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import orjson

from curhat_trio.documents.asyncapi import Document, asyncapi
from curhat_trio.documents.definitions import Schema
from curhat_trio.documents.schemas import schemas
from curhat_trio.specification.diagrams import state_diagram_mermaid, state_diagram_svg
from curhat_trio.specification.evidence import collect_evidence, requirements_table, without_evidence
from curhat_trio.specification.tables import close_code_table, error_table, leave_reason_table, state_table
from curhat_trio.specification.tla import session_table
from curhat_trio.specification.walk import offer_mermaid, offer_svg, offer_walk

Documents = dict[str, str]
"""File name, relative to the folder, to its text."""


CHECKOUT = Path(__file__).parents[2]
"""The repository, with the tests."""


def documents() -> Documents:
    """Everything that is generated from the code and its tests."""
    walk = offer_walk()
    return {
        "asyncapi.yaml": _yaml(asyncapi()),
        "states.md": state_table(),
        "states.mermaid": state_diagram_mermaid(),
        "states.svg": state_diagram_svg(),
        "offer.mermaid": offer_mermaid(walk),
        "offer.svg": offer_svg(walk),
        "SessionTable.tla": session_table(),
        "errors.md": error_table(),
        "close-codes.md": close_code_table(),
        "leave-reasons.md": leave_reason_table(),
        "requirements.md": requirements_table(collect_evidence(CHECKOUT)),
        **{name: _json(schema) for name, schema in schemas().items()},
    }


def _json(schema: Schema) -> str:
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _yaml(document: Document) -> str:
    """YAML, by a library that serving does not need."""
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return text


def write(folder: Path) -> None:
    """Write the documents to a folder, and delete everything else there."""
    wanted = documents()
    for name in stray(folder, wanted):
        (folder / name).unlink()
    for name, text in wanted.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def differences(folder: Path) -> list[str]:
    """Names of the files that are out of date: missing, different, or not generated at all."""
    wanted = documents()
    changed = [
        name
        for name, text in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_text() != text
    ]
    return sorted(changed + stray(folder, wanted))


def stray(folder: Path, wanted: Documents) -> list[str]:
    """Files in the folder that are not generated."""
    found = (str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return [name for name in found if name not in wanted]


def main(arguments: Sequence[str]) -> int:
    """`curhat-trio spec`: write the documents, or with `--check` list those that are out of date.

    Returns:
        The exit status: 0, or 1 if the check found differences, or requirements without evidence.
    """
    parser = argparse.ArgumentParser(
        prog="curhat-trio spec", description="Generate a part of the specification from the code."
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("spec/generated"), help="default: %(default)s"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the folder is out of date")
    choice = parser.parse_args(arguments)
    if not choice.check:
        write(choice.folder)
        return 0
    changed = differences(choice.folder)
    for name in changed:
        print(f"{choice.folder / name}: out of date; run `curhat-trio spec {choice.folder}`")
    unshown = without_evidence(collect_evidence(CHECKOUT))
    for identifier in unshown:
        print(f'{identifier}: says MUST, and no test shows it; mark one with @pytest.mark.shows("{identifier}")')
    return 1 if changed or unshown else 0
