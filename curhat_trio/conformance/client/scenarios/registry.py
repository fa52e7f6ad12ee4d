"""What a scenario is, and how a module declares its own."""

from collections.abc import Awaitable, Callable, Sequence

import attrs

from curhat_trio.conformance.client.drivers import Action
from curhat_trio.conformance.client.scenario_run import Role, ScenarioRun

Play = Callable[[ScenarioRun], Awaitable[None]]

ROLES: tuple[Role, ...] = ("offerer", "answerer")


@attrs.frozen
class Scenario:
    """A short conversation with the client under test.

    Args:
        name: In words.
        requirements: Ids of the rules that it shows, if it passes.
        needs: Actions that the client's driver must support, beside the first `join`.
        play: The conversation. It raises `ScenarioFailed`, or `NotApplicable`.
    """

    name: str
    requirements: tuple[str, ...]
    needs: frozenset[Action]
    play: Play


class ScenarioGroup:
    """The scenarios of one module, in the order of their declaration.

    A module calls its group as a decorator: `@scenario("name", "P-1.2", needs=["chat"])`.
    """

    def __init__(self) -> None:
        self.scenarios: list[Scenario] = []

    def __call__(self, name: str, *requirements: str, needs: Sequence[Action] = ()) -> Callable[[Play], Play]:
        """A decorator that adds a scenario."""

        def add(play: Play) -> Play:
            self.scenarios.append(Scenario(name, requirements, frozenset(needs), play))
            return play

        return add
