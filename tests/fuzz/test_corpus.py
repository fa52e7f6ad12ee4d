"""What fuzzing has kept stays right: every input goes through its target again, without a fuzzer."""

import pytest

from tests.fuzz.corpus import kept
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_the_inputs_of_the_corpus_pass(target: str) -> None:
    inputs = kept(target)
    assert inputs
    with TARGETS[target]() as check:
        for data in inputs:
            try:
                check(data)
            except Exception as error:
                error.add_note(f"the input was {data!r}")
                raise
