"""Conversations in files: read, checked and written; see spec/vectors/README.md for the format.

`player.py` plays them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any, Literal, get_args

import attrs

from curhat_trio.documents.requirements import specification_part

Profile = Literal["v1", "legacy"]
Act = Literal[
    "opens", "says", "saysText", "sendsBytes", "closes", "vanishes",
    "hears", "hearsNothing", "closed",
    "waits", "together", "either", "stopsServer",
]  # fmt: skip
ACTS: tuple[Act, ...] = get_args(Act)
WITHOUT_A_CLIENT = frozenset({"waits", "together", "either", "stopsServer"})
SLOW_SECONDS = 5.0
"""A vector that waits longer is slow."""


class VectorError(Exception):
    """A file of vectors is not valid by spec/vectors/README.md; the argument says where and why."""


@attrs.frozen
class Time:
    """One of the classes of time that steps name, in seconds."""

    seconds: float
    tolerance: float


@attrs.frozen
class Step:
    """One thing that is done, or expected."""

    act: Act
    value: Any
    who: str | None = None
    shows: tuple[str, ...] = ()
    """Rules that are broken if it fails; empty: those of the vector."""
    options: Mapping[str, Any] = attrs.Factory(dict)
    """The other fields of the step."""

    def wire(self) -> dict[str, Any]:
        """The step as in a file."""
        who = {} if self.who is None else {"who": self.who}
        shows = {"shows": list(self.shows)} if self.shows else {}
        value = [step.wire() for step in self.value] if self.act == "together" else self.value
        return {**who, self.act: value, **self.options, **shows}


@attrs.frozen
class Vector:
    """One conversation."""

    name: str
    shows: tuple[str, ...]
    clients: Mapping[str, Profile]
    steps: tuple[Step, ...]
    alone: bool = False
    """Other clients of the server would disturb it."""
    setup: Mapping[str, Any] = attrs.Factory(dict)
    """Settings that the server must have."""
    features: tuple[str, ...] = ()
    """Those of `welcome.features` that it needs."""
    lacks: tuple[str, ...] = ()
    """Those of `welcome.features` that must be absent."""

    @property
    def stops_server(self) -> bool:
        """Whether the server must be stopped while it is played."""
        return any(step.act == "stopsServer" for step in self.steps)

    def rules(self) -> tuple[str, ...]:
        """Ids of all rules that it shows, with those of its steps."""
        return tuple(dict.fromkeys([*self.shows, *(rule for step in self.steps for rule in step.shows)]))

    def seconds(self, times: Mapping[str, Time]) -> float:
        """How long it waits on purpose."""
        return sum(times[name].seconds for step in self.steps if (name := _waits_for(step)) is not None)


def _waits_for(step: Step) -> str | None:
    name = step.value if step.act in ("waits", "hearsNothing") else step.options.get("after")
    assert name is None or isinstance(name, str)
    return name


@attrs.frozen
class Library:
    """Vectors, and what they have in common."""

    vectors: tuple[Vector, ...]
    times: Mapping[str, Time]
    values: Mapping[str, Any]
    """Names that have a value from the start."""


def standard_files() -> list[Traversable]:
    """The files of spec/vectors, in the order of their names."""
    folder = specification_part("vectors")
    found = (file for file in folder.iterdir() if file.name.endswith(".json") and "schema" not in file.name)
    return sorted(found, key=lambda file: file.name)


def read_library(*further: Traversable) -> Library:
    """The standard vectors; or, with further files, only theirs, which may use what the standard ones share.

    Raises:
        VectorError: A file is not valid.
    """
    standard = [_load(file) for file in standard_files()]
    documents = [_load(file) for file in further]
    beginnings: dict[str, Any] = {}
    times: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for document in [*standard, *documents]:
        beginnings |= document.get("beginnings", {})
        times |= document.get("times", {})
        values |= document.get("values", {})
    vectors = [raw for document in documents or standard for raw in document.get("vectors", [])]
    return Library(
        tuple(_vector(raw, beginnings, times) for raw in vectors),
        {name: Time(float(time["seconds"]), float(time["tolerance"])) for name, time in times.items()},
        values,
    )


def _load(file: Traversable) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VectorError(f"{file.name}: {error}") from None
    if not isinstance(value, dict):
        raise VectorError(f"{file.name}: expected a JSON object with vectors in it")
    return value


def _vector(raw: Any, beginnings: Mapping[str, Any], times: Mapping[str, Any]) -> Vector:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise VectorError("expected each vector to be an object with a name")
    name = raw["name"]
    begins = raw.get("begins")
    if begins is not None and begins not in beginnings:
        raise VectorError(f"{name}: unknown beginning {begins!r}; expected one of {', '.join(beginnings)}")
    beginning = beginnings[begins] if begins is not None else {}
    clients = {**beginning.get("clients", {}), **raw.get("clients", {})}
    steps = [*beginning.get("steps", []), *raw.get("steps", [])]
    try:
        return Vector(
            name,
            tuple(raw.get("shows", ())),
            clients,
            tuple(_steps(steps, clients, times)),
            raw.get("alone", False),
            raw.get("setup", {}),
            tuple(raw.get("features", ())),
            tuple(raw.get("lacks", ())),
        )
    except VectorError as error:
        raise VectorError(f"{name}: {error}") from None


def _steps(raw: Sequence[Any], clients: Mapping[str, Any], times: Mapping[str, Any]) -> Iterable[Step]:
    for number, value in enumerate(raw, start=1):
        try:
            yield read_step(value, clients, times)
        except VectorError as error:
            raise VectorError(f"step {number}: {error}") from None


def read_step(raw: Any, clients: Mapping[str, Any], times: Mapping[str, Any]) -> Step:
    """One step of a file.

    Raises:
        VectorError: It is not valid.
    """
    acts = [act for act in ACTS if isinstance(raw, dict) and act in raw]
    if len(acts) != 1:
        raise VectorError(f"expected an object with one of {', '.join(ACTS)}")
    (act,) = acts
    who = raw.get("who")
    if act in WITHOUT_A_CLIENT and who is not None:
        raise VectorError(f"{act} belongs to no client: leave out who")
    if act not in WITHOUT_A_CLIENT and who not in clients:
        raise VectorError(f"who: expected one of {', '.join(clients)}, not {who!r}")
    value = raw[act]
    if act == "together":
        value = list(_steps(value, clients, times))
    options = {key: item for key, item in raw.items() if key not in ("who", "shows", act)}
    step = Step(act, value, who, tuple(raw.get("shows", ())), options)
    waits_for = _waits_for(step)
    if waits_for is not None and waits_for not in times:
        raise VectorError(f"unknown class of time {waits_for!r}; expected one of {', '.join(times)}")
    return step


def write_vectors(vectors: Iterable[Vector]) -> str:
    """A file of vectors, a step on each line."""
    return '{"vectors": [\n' + ",\n".join(map(_written, vectors)) + "\n]}\n"


def _written(vector: Vector) -> str:
    head: dict[str, Any] = {"name": vector.name, "shows": list(vector.shows), "clients": dict(vector.clients)}
    conditions = {
        "alone": vector.alone,
        "setup": dict(vector.setup),
        "features": list(vector.features),
        "lacks": list(vector.lacks),
    }
    head |= {key: value for key, value in conditions.items() if value}
    fields = ",\n".join(f"    {json.dumps(key)}: {_line(value)}" for key, value in head.items())
    steps = ",\n".join(f"      {_line(step.wire())}" for step in vector.steps)
    return f'  {{\n{fields},\n    "steps": [\n{steps}\n    ]\n  }}'


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
