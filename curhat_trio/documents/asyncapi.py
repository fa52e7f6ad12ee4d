"""The AsyncAPI 3.0 document: servers, the messages in both directions, all schemas.

The one WebSocket is two channels, a direction each: generators of code make one type of each channel, that of any
message in it, and a client needs what it sends and what it receives apart.
"""

from typing import Any, get_args

from curhat_trio import __version__
from curhat_trio.documents.definitions import REFERENCE, Schema, Sender, definitions, message_titles
from curhat_trio.protocol.messages import USERNAME_CHARACTERS

Document = dict[str, Any]

_SERVERS: Document = {
    "local": {
        "host": "localhost:8080",
        "protocol": "ws",
        "description": "A server on this computer, with the default port.",
    },
    "public": {
        "host": "{host}",
        "protocol": "wss",
        "description": "A server behind a proxy that terminates TLS. Without TLS, browsers refuse cameras and "
        "microphones, except on localhost.",
        "variables": {"host": {"default": "curhat.example.org", "description": "Host name, and port if not 443."}},
    },
}


def asyncapi() -> Document:
    """The document, as JSON values. Directions are the server's: it receives what clients send."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "curhat.v1",
            "version": __version__,
            "description": "Signaling for anonymous one-to-one video chat. The rules are in spec/protocol.md.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": _SERVERS,
        "channels": {_channel_name(sender): _channel(sender) for sender in get_args(Sender)},
        "operations": {
            "receiveFromClient": _operation("receive", "client"),
            "sendToClient": _operation("send", "server"),
        },
        "components": {
            "messages": _messages("client") | _messages("server"),
            "schemas": {title: _component(schema) for title, schema in definitions().items()},
        },
    }


def _channel_name(sender: Sender) -> str:
    return f"{sender}Message"


def _channel(sender: Sender) -> Document:
    username = {
        "type": "string",
        "maxLength": USERNAME_CHARACTERS,
        "description": "A name to be shown to partners.",
    }
    return {
        "address": "/ws",
        "description": f"A WebSocket with the subprotocol curhat.v1: what its {sender} sends.",
        "messages": {
            title: {"$ref": f"#/components/messages/{title}"} for title in message_titles(sender).values()
        },
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": {"username": username}},
                "bindingVersion": "0.1.0",
            }
        },
    }


def _operation(action: str, sender: Sender) -> Document:
    channel = f"#/channels/{_channel_name(sender)}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{title}"} for title in message_titles(sender).values()],
    }


def _messages(sender: Sender) -> dict[str, Document]:
    return {
        title: {
            "name": title,
            "title": title,
            "summary": f"`{name}`, sent by the {sender}.",
            "payload": {"$ref": f"#/components/schemas/{title}"},
            "examples": [{"payload": _component(example)} for example in definitions()[title]["examples"]],
        }
        for name, title in message_titles(sender).items()
    }


def _component(schema: Any) -> Any:
    """The schema with this document's references; a copy, because YAML would write shared parts as aliases."""
    if isinstance(schema, list):
        return [_component(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    copy: Schema = {key: _component(value) for key, value in schema.items()}
    if "$ref" in copy:
        copy["$ref"] = "#/components/schemas/" + copy["$ref"].removeprefix(REFERENCE)
    return copy
