"""What an installed package has of the specification: schemas and AsyncAPI, made from its messages, and the rules.

A server serves the first two; `requirements` reads the rules and vectors of `spec/`, for the conformance kit.
"""

from collections.abc import Mapping
from typing import Any

from curhat_trio.documents.asyncapi import asyncapi
from curhat_trio.documents.schemas import schema_index, schemas


def served_documents() -> Mapping[str, Mapping[str, Any]]:
    """JSON values by the path that they have under `/v1/`."""
    return {"asyncapi.json": asyncapi(), "schemas/": schema_index(), **schemas()}
