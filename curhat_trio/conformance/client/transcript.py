"""What was sent and received in a scenario, for the report."""

import attrs
import orjson
import trio

_MAX_CHARACTERS = 400


@attrs.define
class Transcript:
    """Lines of text, each with the seconds since the scenario began."""

    began: float
    lines: list[str] = attrs.Factory(list)

    def note(self, line: str) -> None:
        """Add a line, with the time."""
        self.lines.append(f"{trio.current_time() - self.began:7.3f} {line}")

    def note_sent(self, data: bytes) -> None:
        """A message to the client."""
        self.note(f"< {_abridged(data)}")

    def note_received(self, data: bytes) -> None:
        """A message from the client."""
        self.note(f"> {_abridged(data)}")


def _abridged(data: bytes) -> str:
    """A message without descriptions and candidates: they contain addresses, and bury the rest."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = data.decode(errors="replace")
    if isinstance(value, dict) and isinstance(value.get("payload"), dict):
        value["payload"] = {name: _abridged_field(name, field) for name, field in value["payload"].items()}
    text = orjson.dumps(value).decode()
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}... ({len(data)} bytes)"


def _abridged_field(name: str, field: object) -> object:
    if name in ("sdp", "candidate") and isinstance(field, str) and field:
        return f"({len(field)} characters)"
    return field
