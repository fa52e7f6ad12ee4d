"""The monitor of what a client receives: whether each message may follow those before it.

This is `Observe` in Signaling.tla. It is independent of the server's state table and of the client library on
purpose: what a server sends in every order of events is checked by it.
"""

from typing import Any

from tests.model.world import to_room


def observe(monitor: tuple[str, Any], message: dict[str, Any], begins_wait: bool) -> tuple[str, Any]:
    """The state of the monitor after one more message; `("bad", why)` if the client must not receive it now.

    Args:
        monitor: The state before.
        message: What the client receives, as JSON.
        begins_wait: Whether it answers a message of the client's that may begin a wait.
    """
    if monitor[0] == "bad":
        return monitor
    match message:
        case {"type": "error" | "resumed"}:
            return monitor
        case {"type": "ready", "roomId": room}:
            right = monitor[0] == "ready" or (monitor[0] == "idle" and begins_wait)
            return ("ready", to_room(room)) if right else ("bad", "ready, unasked")
        case {"type": "join", "roomId": room}:
            return (
                ("in", to_room(room)) if monitor == ("ready", to_room(room)) else ("bad", "join without its ready")
            )
        case {"type": "leave", "roomId": room}:
            right = monitor in (("in", to_room(room)), ("apart", to_room(room)), ("ready", to_room(room)))
            return ("idle", None) if right else ("bad", "leave, once more")
        case {"type": "peer", "roomId": room, "state": state}:
            other = {("in", "away"): "apart", ("apart", "back"): "in"}.get((monitor[0], state))
            if other is None or monitor[1] != to_room(room):
                return "bad", "away or back, out of turn"
            return other, monitor[1]
        case {"from": sender, "roomId": room}:
            content = message["text"] if "text" in message else message["payload"]["sdp"]
            right = monitor == ("in", to_room(room)) and content == f"{room}/{sender}"
            return monitor if right else ("bad", "relayed outside its pairing")
        case _:
            return monitor if monitor[0] != "gone" else ("bad", "sent after the end")
