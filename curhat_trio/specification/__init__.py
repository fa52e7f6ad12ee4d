"""The parts of the specification that are drawn from the code, so that they can't disagree with it.

`documents()` makes them all; `spec/generated/` holds what it made. Nothing here is used while serving.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import orjson

from curhat_trio.specification.diagrams import state_diagram_mermaid, state_diagram_svg
from curhat_trio.specification.schemas import client_schemas, server_schemas
from curhat_trio.specification.tables import close_code_table, error_table, leave_reason_table, state_table

Documents = dict[str, str]
"""File name, relative to the folder, to its text."""


def documents() -> Documents:
    """Everything that is drawn from the code."""
    schemas = {f"schemas/client/{name}.json": schema for name, schema in client_schemas().items()} | {
        f"schemas/server/{name}.json": schema for name, schema in server_schemas().items()
    }
    return {
        "states.md": state_table(),
        "states.mermaid": state_diagram_mermaid(),
        "states.svg": state_diagram_svg(),
        "errors.md": error_table(),
        "close-codes.md": close_code_table(),
        "leave-reasons.md": leave_reason_table(),
    } | {
        name: orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode() + "\n" for name, schema in schemas.items()
    }


def write(folder: Path) -> None:
    """Make the folder hold the documents and nothing else."""
    wanted = documents()
    for name in stray(folder, wanted):
        (folder / name).unlink()
    for name, text in wanted.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def differences(folder: Path) -> list[str]:
    """Names of the files that are not as the code draws them: missing, different, or not drawn at all."""
    wanted = documents()
    changed = [
        name
        for name, text in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_text() != text
    ]
    return sorted(changed + stray(folder, wanted))


def stray(folder: Path, wanted: Documents) -> list[str]:
    """Files in the folder that no document has the name of."""
    found = (str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return [name for name in found if name not in wanted]


def draw_specification(arguments: Sequence[str]) -> int:
    """`curhat-trio spec`: write the documents, or with `--check` tell which are not as the code has it.

    Returns:
        The exit status: 0, or 1 if the check found differences.
    """
    parser = argparse.ArgumentParser(
        prog="curhat-trio spec", description="Draw the generated part of the specification."
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
        print(f"{choice.folder / name}: not as the code has it; run `curhat-trio spec {choice.folder}`")
    return 1 if changed else 0
