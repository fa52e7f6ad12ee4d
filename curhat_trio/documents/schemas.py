"""JSON Schemas (draft 2020-12) of every message, as files.

Each direction has one schema, `client.json` and `server.json`: a `oneOf` of its messages, from which a program can
generate types. Each message also has one of its own, for validation.
"""

from collections.abc import Iterator
from typing import Any, get_args

from curhat_trio.documents.definitions import REFERENCE, Schema, Sender, definitions, message_titles

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, Schema]:
    """Every schema by its file name: `schemas/client.json`, `schemas/client/join.json` and so on."""
    return {
        **{f"schemas/{sender}.json": direction_schema(sender) for sender in get_args(Sender)},
        **{f"schemas/client/{name}.json": schema for name, schema in client_schemas().items()},
        **{f"schemas/server/{name}.json": schema for name, schema in server_schemas().items()},
    }


def schema_index() -> dict[str, Schema]:
    """The paths of all schemas on a server, by direction: of the `oneOf`, and of each message by its type."""
    return {
        sender: {
            "all": f"/v1/schemas/{sender}.json",
            "messages": {name: f"/v1/schemas/{sender}/{name}.json" for name in message_titles(sender)},
        }
        for sender in get_args(Sender)
    }


def direction_schema(sender: Sender) -> Schema:
    """One schema for whatever this side sends."""
    references = [{"$ref": REFERENCE + title} for title in message_titles(sender).values()]
    return {
        "$schema": _DIALECT,
        "title": f"{sender.capitalize()}Message",
        "description": f"Any message from the {sender}, in curhat.v1.",
        "oneOf": references,
        "$defs": _reachable(references),
    }


def client_schemas() -> dict[str, Schema]:
    """What a curhat.v1 client may send, by type."""
    return {name: _file(title) for name, title in message_titles("client").items()}


def server_schemas() -> dict[str, Schema]:
    """What the server sends to a curhat.v1 client, by type."""
    return {name: _file(title) for name, title in message_titles("server").items()}


def _file(title: str) -> Schema:
    schema = definitions()[title]
    parts = _reachable(schema)
    return {"$schema": _DIALECT, **schema, **({"$defs": parts} if parts else {})}


def _reachable(schema: Any) -> dict[str, Schema]:
    """The named schemas to which this one leads, in the order of their names."""
    found: set[str] = set()
    unread = list(_references(schema))
    while unread:
        name = unread.pop()
        if name not in found:
            found.add(name)
            unread.extend(_references(definitions()[name]))
    return {name: definitions()[name] for name in sorted(found)}


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix(REFERENCE)
        schema = list(schema.values())
    if isinstance(schema, list):
        for inner in schema:
            yield from _references(inner)
