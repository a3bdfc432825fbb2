"""Each target for a moment: what is kept of the long runs, and inputs by chance. The long run is `make fuzz`."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.catalogue import TARGETS
from tests.fuzz.one import SECONDS_FOR_ONE, deadline
from tests.fuzz.target import CORPUS, Target, mutated
from vcs.errors import BadInput

_TOP = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_kept(name: str) -> None:
    target = TARGETS[name]
    assert target.seeds(), "nothing to begin with"
    for data in target.corpus():
        with deadline(SECONDS_FOR_ONE):
            target(data)
    assert any(map(target, target.seeds())), "no seed is understood: the target has come to test nothing"


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_by_chance(name: str, data: st.DataObject) -> None:
    """Bytes, and kept inputs with some edits; a few of each example, since drawing takes longer than trying."""
    target = TARGETS[name]
    seeds = target.seeds()
    chance = random.Random(data.draw(st.integers(0, 1 << 64)))
    target(data.draw(st.binary(max_size=64)))
    for _ in range(4):
        with deadline(SECONDS_FOR_ONE):
            target(mutated(chance.choice(seeds), seeds, target.words, chance))


def test_every_kept_input_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= TARGETS.keys()


def test_a_target_refuses_by_a_treering_error_and_nothing_else() -> None:
    def parse(data: bytes) -> None:
        if data == b"bad":
            raise BadInput("bad")
        if data == b"broken":
            raise KeyError("a finding")

    target = Target("made up", parse, lambda: [b"good"])
    assert target(b"good")
    assert not target(b"bad")
    with pytest.raises(KeyError):
        target(b"broken")


def test_the_long_run_counts_what_it_tries(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.fuzz", "pax", "acl-text", "--runs", "50", "--plain", "--directory", tmp_path],
        cwd=_TOP, env={"PYTHONPATH": str(_TOP), "PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "2 targets, 100 runs, 0 findings"
