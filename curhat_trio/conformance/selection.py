"""Which vectors or scenarios `--only` chooses, and how `--list` prints them."""

from collections.abc import Sequence

_RULES_WIDTH = 16


def is_chosen(text: str, name: str, rules: Sequence[str]) -> bool:
    """Whether the text is part of the name, a rule (`P-5.9`), or the section of one (`P-5`)."""
    rule = text.upper()
    return text.lower() in name.lower() or any(each == rule or each.startswith(f"{rule}.") for each in rules)


def listed(name: str, rules: Sequence[str]) -> str:
    """A line of `--list`."""
    return f"{' '.join(rules):{_RULES_WIDTH}} {name}"
