"""The story of three branches, run for real on a Debian root with Debian's own packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.console import DOCS, follow, steps

STORY = DOCS / "story.md"
_PREPARATION = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def prepare(directory: Path) -> None:
    """What the document says to do before."""
    (script,) = _PREPARATION.findall(STORY.read_text())
    script = script.replace("\npip ", f"\n{sys.executable} -m pip ")
    done = subprocess.run(
        ["bash", "-ec", script], cwd=directory, text=True, check=False, timeout=600,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert not done.returncode, done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_story_tells_the_truth(tmp_path: Path) -> None:
    prepare(tmp_path)
    follow(STORY, tmp_path)


def test_there_is_something_to_run() -> None:
    assert len(list(steps(STORY))) > 30
