"""The tutorial, run for real."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.docs.console import DOCS, follow, pattern, steps
from tests.support.service_root import make_service_root

TUTORIAL = DOCS / "tutorial.md"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_tutorial_tells_the_truth(tmp_path: Path) -> None:
    redis = [Path("/usr/bin", name) for name in ("redis-server", "redis-cli")]
    make_service_root(tmp_path / "debian", [*redis, *(program.resolve() for program in redis)])
    follow(TUTORIAL, tmp_path)


def test_there_is_something_to_run() -> None:
    assert len(list(steps(TUTORIAL))) > 20
    assert pattern("a ... c\n...\nend\n").fullmatch("a b c\n1\n2\nend\n")
    assert shutil.which("bash")
