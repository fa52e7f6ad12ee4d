"""The AsyncAPI 3.0 document: one channel, the messages in both directions, all schemas."""

from typing import Any

from curhat_trio import __version__
from curhat_trio.documents.schemas import Schema, client_schemas, server_schemas
from curhat_trio.protocol.messages import USERNAME_CHARACTERS

Document = dict[str, Any]


def asyncapi() -> Document:
    """The document, as JSON values. Directions are the server's: it receives what clients send."""
    client, server = _messages("client", client_schemas()), _messages("server", server_schemas())
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "curhat.v1",
            "version": __version__,
            "description": "Signaling for anonymous one-to-one video chat. The rules are in spec/protocol.md.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {"signaling": _channel([*client, *server])},
        "operations": {
            "receiveFromClient": _operation("receive", list(client)),
            "sendToClient": _operation("send", list(server)),
        },
        "components": {"messages": client | server},
    }


def _channel(messages: list[str]) -> Document:
    username = {
        "type": "string",
        "maxLength": USERNAME_CHARACTERS,
        "description": "A name to be shown to partners.",
    }
    return {
        "address": "/ws",
        "description": "A WebSocket with the subprotocol curhat.v1.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": {"username": username}},
                "bindingVersion": "0.1.0",
            }
        },
    }


def _operation(action: str, messages: list[str]) -> Document:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/signaling"},
        "messages": [{"$ref": f"#/channels/signaling/messages/{name}"} for name in messages],
    }


def _messages(sender: str, schemas: dict[str, Schema]) -> dict[str, Document]:
    return {
        f"{sender}.{name}": {"name": name, "title": f"{name}, sent by the {sender}", "payload": _payload(schema)}
        for name, schema in schemas.items()
    }


def _payload(schema: Schema) -> Schema:
    """Only what draft 7 and 2020-12 share is used, so the schema needs no dialect of its own here."""
    return {key: value for key, value in schema.items() if key != "$schema"}
