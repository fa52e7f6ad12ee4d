"""The descriptions of classes and fields in the generated documents: the docstrings in their source.

A field's docstring is the string literal after it, which Python does not keep, so it is read from the source. An
installation without source files serves the same documents without descriptions.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any


def describe(kind: type[Any], field: str | None = None) -> dict[str, str]:
    """The `description` of a class, or of one of its fields or members; empty if there is no source.

    Raises:
        LookupError: The source has no docstring there.
    """
    documented = _docstrings(kind.__module__)
    if documented is None:
        return {}
    name = kind.__name__ if field is None else f"{kind.__name__}.{field}"
    if name not in documented:
        raise LookupError(f"{name} in {kind.__module__} has no docstring to describe it in the schemas")
    return {"description": documented[name]}


@cache
def _docstrings(module: str) -> Mapping[str, str] | None:
    """The docstrings of a module's classes and their fields, as `Class` and `Class.field`; None without source."""
    try:
        source = inspect.getsource(sys.modules[module])
    except OSError:
        return None
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {name: " ".join(text.split()) for node in classes for name, text in _documented(node)}


def _documented(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    if text := ast.get_docstring(node):
        yield node.name, text
    for statement, following in pairwise(node.body):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)]),
                ast.Expr(ast.Constant(str(text))),
            ):
                yield f"{node.name}.{name}", text
