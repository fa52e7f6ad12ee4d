"""How long the scripted server waits."""

import attrs


@attrs.frozen
class Timeouts:
    """In seconds."""

    answer: float = 5.0
    """For what the client has to send by itself."""
    action: float = 5.0
    """For what follows an action of the user."""
    quiet: float = 2.5
    """How long to make sure that something does not happen."""
    reconnect: float = 20.0
    """Until a client has reconnected by itself."""
    offer: float = 20.0
    """For the first offer (P-5.3)."""
    media: float = 45.0
    """Until a client has reported that no media is established."""
    give_up: float = 45.0
    """Until a client has given up a connection over which its pings are not answered."""
