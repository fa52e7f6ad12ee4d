"""The README's example, as it stands there: two people with nothing else see each other, and move on."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route

END_TO_END = Path(__file__).parents[1] / "end_to_end"
README = Path(__file__).parents[2] / "README.md"


def example() -> str:
    found = re.search(r"^## A page of one's own$.*?^```html$(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1].strip()
