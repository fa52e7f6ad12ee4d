"""Ways to change what a running server does, for tests that need a broken one."""

from collections.abc import Callable
from typing import Any

import pytest

from curhat_trio.dispatcher import LiveEndpoint
from curhat_trio.protocol import endpoint
from curhat_trio.protocol.effects import Effect, Send
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.messages import ServerMessage
from curhat_trio.protocol.session import Session, Step
from curhat_trio.protocol.session import step as session_step

Patch = pytest.MonkeyPatch


def change_step(patch: Patch, changed: Callable[[Session, Event], Step]) -> None:
    """Replace the session table's step in the endpoints of the server, but not of the reference server."""
    original = LiveEndpoint._step

    def changed_step_of(self: LiveEndpoint, *arguments: Any) -> None:
        with patch.context() as temporary:
            temporary.setattr(endpoint, "step", changed)
            original(self, *arguments)

    patch.setattr(LiveEndpoint, "_step", changed_step_of)


def change_effects(patch: Patch, changed: Callable[[Session, Event, list[Effect]], list[Effect]]) -> None:
    """Change the effects of each step."""

    def step(session: Session, event: Event) -> Step:
        after, effects = session_step(session, event)
        return after, changed(session, event, effects)

    change_step(patch, step)


def change_sent(patch: Patch, changed: Callable[[Session, ServerMessage], list[ServerMessage]]) -> None:
    """Change the messages that are sent to clients."""

    def change(session: Session, _event: Event, effects: list[Effect]) -> list[Effect]:
        sent: list[Effect] = []
        for effect in effects:
            sent += map(Send, changed(session, effect.message)) if isinstance(effect, Send) else [effect]
        return sent

    change_effects(patch, change)


def is_message(event: Event, kind: type[Any]) -> bool:
    return isinstance(event, MessageReceived) and isinstance(event.message, kind)
