"""Fuzzes one target with atheris: `python -m tests.fuzz.run codec --minutes 15`, or `frames`, or `server`.

It begins with the kept inputs and goes on in `.fuzz/TARGET/` from run to run. An input that a target fails with is
written to `.fuzz/` and named; when the fault is mended, add it to `corpus/TARGET.txt`. `--keep` adds to it what
was found since and takes a new way through the server.

It wants `pip install -e '.[test,fuzz]'`; atheris has an extra of its own because there are wheels for Linux alone.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from hashlib import sha1
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import atheris  # type: ignore[import-untyped]

HERE = Path(__file__).parent

with atheris.instrument_imports(include=["curhat_trio", "websockets", "h11", "wsproto", "jsonschema", "cattrs"]):
    from tests.fuzz.corpus import keep, kept
    from tests.fuzz.json_mutation import mutate_message
    from tests.fuzz.targets import TARGETS

TraceFunction = Callable[[FrameType, str, Any], Any]
WORK = HERE.parents[1] / ".fuzz"
_INPUT_BYTES = 2000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("target", choices=TARGETS)
    arguments.add_argument("--minutes", type=float, default=15.0, help="default: %(default)s")
    arguments.add_argument("--keep", action="store_true", help="look for nothing; write what is worth keeping")
    choice = arguments.parse_args()
    found = WORK / choice.target
    found.mkdir(parents=True, exist_ok=True)
    for data in kept(choice.target):
        (found / sha1(data).hexdigest()).write_bytes(data)
    if choice.keep:
        keep_the_best(choice.target, found)
    else:
        fuzz(choice.target, f"-max_total_time={round(60 * choice.minutes)}", str(found))


def fuzz(target: str, *options: str) -> None:
    """Does not return: at the end the process ends."""
    command = [
        sys.argv[0],
        f"-max_len={_INPUT_BYTES}",
        "-timeout=60",
        f"-artifact_prefix={WORK}/{target}-",
        *options,
    ]
    with TARGETS[target]() as check:
        atheris.Setup(command, check, **({"custom_mutator": mutate} if target == "codec" else {}))
        atheris.Fuzz()


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    return mutate_message(data, Random(seed), lambda data: atheris.Mutate(data, max_size))[:max_size]


def escaped(word: bytes) -> str:
    """As libFuzzer reads it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def worth_keeping(check: Callable[[bytes], None], inputs: Iterable[bytes]) -> list[bytes]:
    """Those that lead from one line of the server to another as none before them did."""
    ways: set[tuple[object, ...]] = set()

    def trace(frame: FrameType, event: str, _argument: object) -> TraceFunction | None:
        file = frame.f_code.co_filename
        if "/curhat_trio/" not in file and "cattrs generated" not in file:
            return None
        before = None

        def step(frame: FrameType, event: str, _argument: object) -> TraceFunction:
            nonlocal before
            taken.add((file, frame.f_code.co_name, before, frame.f_lineno))
            before = frame.f_lineno
            return step

        return step(frame, event, None)

    best = []
    for data in inputs:
        taken: set[tuple[object, ...]] = set()
        sys.settrace(trace)
        try:
            check(data)
        finally:
            sys.settrace(None)
        if taken - ways:
            ways |= taken
            best.append(data)
    return best


def keep_the_best(target: str, found: Path) -> None:
    """What is kept already stays; of what was found since, what goes new ways, the shortest first."""
    others = sorted((file.read_bytes() for file in found.iterdir()), key=lambda data: (len(data), data))
    before = kept(target)
    with TARGETS[target]() as check:
        keep(target, {*before, *worth_keeping(check, [*before, *others])})


if __name__ == "__main__":
    main()
