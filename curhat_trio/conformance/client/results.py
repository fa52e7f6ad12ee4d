"""How a scenario can end before it has passed."""

import attrs


@attrs.frozen
class Violation:
    """The client broke a rule, or did not get as far as a scenario needs (then `requirements` is empty)."""

    requirements: tuple[str, ...]
    detail: str
    """What was expected, and what happened."""


class ScenarioFailed(Exception):
    """The client broke a rule, or did not get far enough."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation)
        self.violation = violation


class NotApplicable(Exception):
    """The scenario shows nothing, through no fault of the client; the argument says why."""
