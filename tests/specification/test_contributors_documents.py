"""Files, links and names in the documents for contributors exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "spec/README.md",
    "spec/architecture.md",
    "spec/changelog.md",
    "spec/contributing.md",
    "spec/operating.md",
]

SOURCES = [
    file
    for folder in ("curhat_trio", "tests", "spec")
    for file in (ROOT / folder).rglob("*")
    if file.suffix in {".py", ".js", ".tla", ".json"} and file != Path(__file__) and "cache" not in str(file)
]


def in_backticks(text: str) -> set[str]:
    return set(re.findall(r"`([^`\s]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))


def missing_links(document: Path) -> list[str]:
    """Those within the repository that lead nowhere."""
    targets = (target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", document.read_text()))
    return [
        target for target in targets if target and "://" not in target and not (document.parent / target).exists()
    ]


def missing_names(text: str) -> list[str]:
    """Files, and names with a dot, an underscore or a capital, that neither code nor tests have."""
    named = in_backticks(text)
    files = {name for name in named if re.fullmatch(r"[\w./-]+\.(py|js|json|tla|md)", name)}
    known_files = {file.relative_to(ROOT).as_posix() for file in ROOT.glob("spec/**/*.md")}
    known_files |= {file.relative_to(ROOT).as_posix() for file in SOURCES}
    lost = [name for name in files if not any(f"/{known}".endswith(f"/{name}") for known in known_files)]
    words = set(re.findall(r"\w+", " ".join(file.read_text() for file in SOURCES)))
    identifiers = {
        name for name in named - files if re.fullmatch(r"[\w.]+", name) and re.search(r"[._A-Z]", name.strip("."))
    }
    return sorted(lost + [name for name in identifiers if not set(filter(None, name.split("."))) <= words])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    assert missing_links(ROOT / name) == []


@pytest.mark.parametrize("name", ["spec/architecture.md", "spec/contributing.md"])
def test_every_file_and_every_name_is_in_the_code(name: str) -> None:
    assert missing_names((ROOT / name).read_text()) == []


def test_a_missing_file_or_name_is_found(tmp_path: Path) -> None:
    document = tmp_path / "some.md"
    document.write_text(
        "[a](some.md), [b](none.md#part), [c](https://a.test), `no_such_thing`, `gone.py`, `Dispatcher`"
    )
    assert missing_links(document) == ["none.md"]
    assert missing_names(document.read_text()) == ["gone.py", "no_such_thing"]
