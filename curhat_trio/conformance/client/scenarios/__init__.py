"""The scenarios for a client under test, each with the rules that it shows.

A scenario begins with a client that connects and joins. Whatever happens meanwhile, a monitor checks every message
against the rules that always hold, and its violations are reported beside the result of the scenario.
"""

from curhat_trio.conformance.client.scenarios import (
    errors,
    joining,
    negotiation,
    reconnecting,
    rooms,
    user_actions,
)
from curhat_trio.conformance.client.scenarios.registry import Scenario

__all__ = ["SCENARIOS", "Scenario"]

SCENARIOS: list[Scenario] = [
    scenario
    for module in (joining, negotiation, rooms, user_actions, errors, reconnecting)
    for scenario in module.scenario.scenarios
]
"""All of them, in the order in which they are tried."""
