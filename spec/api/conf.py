"""How Sphinx builds the documentation of `curhat_trio.client`: `.ci/docs` runs it, and a warning is an error
there.

Docstrings in this package are written for readers of the code: names stand in single backquotes, as in Markdown.
Here those become links if they are public names of the client, and code otherwise.
"""

import pkgutil
import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

from curhat_trio import client

project = "curhat_trio.client"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["*.md"]
html_theme = "alabaster"
html_show_copyright = False
html_copy_source = False

nitpicky = True
nitpick_ignore_regex = [
    # other projects' documentation, which is not fetched: the build needs no network
    ("py:.*", r"(collections|enum|ssl|trio|typing)\..*"),
]

autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

_BACKQUOTED = re.compile(r"(?<!`)(?<!:)`([^`]+)`(?!`)")
_logger = logging.getLogger(__name__)
_attributes: dict[str, list[str]] = {}
"""Name of an attribute -> its docstring as it was before napoleon."""


def _link(match: re.Match[str]) -> str:
    """A public name of the client, or one of its attributes, becomes a link."""
    code = match[1]
    name, _, attribute = code.partition(".")
    target = getattr(client, name, None) if name in client.__all__ else None
    if target is None or (attribute and not hasattr(target, attribute)):
        return f"``{code}``"
    return f":py:obj:`{code} <curhat_trio.client.{code}>`"


def _constant_docstring(name: str) -> list[str]:
    """A constant's docstring is in the module that defines it; autodoc looks only into the one that exports it."""
    for module in pkgutil.iter_modules(client.__path__, f"{client.__name__}."):
        docs = ModuleAnalyzer.for_module(module.name).find_attr_docs()
        if ("", name) in docs:
            return docs["", name]
    return []


def _before_napoleon(_app: Sphinx, kind: str, name: str, documented: Any, _options: Any, lines: list[str]) -> None:
    """Complain about a missing docstring, and turn backquoted names into links."""
    if isinstance(documented, client.CloseCode):
        lines[:] = [f"{documented.explanation}."]
    elif kind == "data" and name.startswith(f"{client.__name__}."):
        lines[:] = _constant_docstring(name.rpartition(".")[2])
    elif kind == "module":
        lines.insert(next(number for number, line in enumerate(lines) if line.startswith(" ")), "::\n")
        lines[:] = "\n".join(lines).splitlines()
    if not any(lines):
        _logger.warning("%s %s has no docstring", kind, name)
    lines[:] = [_BACKQUOTED.sub(_link, line) for line in lines]
    if kind in ("attribute", "data", "property"):
        _attributes[name] = lines.copy()


def _after_napoleon(
    _app: Sphinx, _kind: str, name: str, _documented: Any, _options: Any, lines: list[str]
) -> None:
    """Restore an attribute's docstring: napoleon takes the words before a colon for its type."""
    lines[:] = _attributes.get(name, lines)


def _expect_all_names(_app: Sphinx, env: BuildEnvironment) -> None:
    """Complain about a public name that no page documents."""
    documented = {name for name, *_ in env.domains.python_domain.get_objects()}
    for name in client.__all__:
        if f"{client.__name__}.{name}" not in documented:
            _logger.warning("%s is public and on no page", name)


def setup(app: Sphinx) -> None:
    """Process every docstring before and after napoleon, which has the priority 500; check the result."""
    app.connect("autodoc-process-docstring", _before_napoleon, priority=100)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=900)
    app.connect("env-check-consistency", _expect_all_names)
