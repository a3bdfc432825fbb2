"""The same things done by chance to a container's root and to a plain overlay, or ext4: some seeds of what
`python -m tests.posix` does for as long as one likes. It is seen to notice variants that read an upper wrongly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.posix.rounds import Plan, run, shrink
from tests.posix.step import Step

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: containers")


@pytest.mark.parametrize(("like", "seed"), [("overlay", 1), ("ext4", 2)])
def test_a_container_s_root_is_what_it_is_compared_with(tmp_path: Path, like: str, seed: int) -> None:
    told = run(Plan(seed, steps=120, rounds=2, like=like), tmp_path)
    assert told.wrong == [], "\n".join([*told.wrong, *map(str, told.steps)])
    assert told.commits >= 4
    assert len(told.steps) - told.refused > 150, "most steps do something"


@pytest.mark.parametrize(("broken", "seed"), [("opaque", 1), ("links", 1), ("mtime", 1)])
def test_a_fault_of_the_program_is_found(tmp_path: Path, broken: str, seed: int) -> None:
    told = run(Plan(seed, steps=80, rounds=2, broken=broken), tmp_path)
    assert any("and in its commit" in line for line in told.wrong), told.wrong


def test_steps_are_made_fewer() -> None:
    steps = [Step(str(number)) for number in range(40)]
    assert shrink(steps, lambda some: {steps[3], steps[17], steps[39]} <= {*some}) == [steps[3], steps[17], steps[39]]


def test_steps_can_be_kept() -> None:
    step = Step("rename", (b"/n\xff\n", b"/a"), (2, 1 << 36))
    assert Step.of_json(step.as_json()) == step
