"""What a running server serves of the specification: JSON Schemas and AsyncAPI, made from its messages."""

from collections.abc import Mapping
from typing import Any

from curhat_trio.documents.asyncapi import asyncapi
from curhat_trio.documents.schemas import schemas


def served_documents() -> Mapping[str, dict[str, Any]]:
    """JSON values by the path that they have under `/v1/`."""
    return {"asyncapi.json": asyncapi(), **schemas()}
