#!/usr/bin/env python3
"""See that mutated traces are refused: `python spec/model/mutated_traces.py [--sample N] [--only NAME]`.

Takes the good traces of tests/trace_scenarios.py, applies every mutation of tests/trace_mutations.py, one at
a time, and expects check-trace and TLC to refuse every one. With --sample it takes N mutations of each trace,
spread evenly. Needs what traces.py needs, and a Python that has curhat_trio and its tests' libraries. The exit
status is 1 if a mutated trace was accepted, or a good one refused.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from run import find_jar
from traces import Checker, Trace, is_well_formed

from curhat_trio.trace.checker import Refused, check_trace
from tests.trace_mutations import Mutation, mutations
from tests.trace_scenarios import SCENARIOS, trace_of

FORKS_PER_RUN = 4000
"""A longer module takes TLC too much memory to read."""


def is_accepted(mutation: Mutation) -> bool:
    """Whether check-trace accepts a mutated trace."""
    try:
        check_trace("".join(f"{json.dumps(line)}\n" for line in mutation.lines).encode())
    except Refused:
        return False
    return True


def accepted_by_tlc(checker: Checker, base: Trace, mutants: Sequence[Mutation]) -> list[str]:
    """What TLC accepts; first of all it must accept the good trace."""
    found = []
    for begin in range(0, len(mutants), FORKS_PER_RUN):
        some = mutants[begin : begin + FORKS_PER_RUN]
        forks = [Trace(mutation.what, mutation.lines) for mutation in some]
        found += [some[place].what for place in sorted(checker.accepted_forks(base, forks))]
    return found


def main() -> int:
    """Check the mutations that the command line chooses; 1 if one was accepted, or a good trace refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutations of each trace; by default all")
    parser.add_argument("--only", default="", metavar="NAME", help="only scenarios with this in their name")
    parser.add_argument("--tools", type=Path, default=Path(tempfile.gettempdir()) / "curhat-tlc", help="for TLC")
    options = parser.parse_args()

    checker = Checker(find_jar(options.tools), invariants=False)
    accepted = 0
    print(f"{'trace':28} {'lines':>5} {'mutants':>7}  check-trace accepts, s   TLC accepts, of the well-formed, s")
    for name in SCENARIOS:
        lines = trace_of(name)
        if options.only not in name or any(line["what"] == "bug" for line in lines):
            continue
        mutants = list(mutations(lines))
        if options.sample:
            mutants = mutants[:: max(1, len(mutants) // options.sample)]
        began = time.monotonic()
        by_table = [mutation.what for mutation in mutants if is_accepted(mutation)]
        between = time.monotonic()
        by_model = accepted_by_tlc(checker, Trace(name, lines), mutants)
        readable = sum(all(map(is_well_formed, mutation.lines)) for mutation in mutants)
        accepted += len(by_table) + len(by_model)
        print(
            f"{name:28} {len(lines):>5} {len(mutants):>7}  {len(by_table):>10} {between - began:>9.1f}   "
            f"{len(by_model):>11} {readable:>13} {time.monotonic() - between:>10.1f}",
            flush=True,
        )
        for who, what in [("check-trace", what) for what in by_table] + [("TLC", what) for what in by_model]:
            print(f"    {who} accepts {what}")
    return 1 if accepted else 0


if __name__ == "__main__":
    sys.exit(main())
