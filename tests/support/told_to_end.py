"""A long run that is told to end, by a signal, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.flood import processes
from tests.flood.verdict import mounts
from tests.support.containers import eventually

_PROJECT = Path(__file__).parents[2]


def leaves_nothing(
    module: str, arguments: Sequence[str], directory: Path, number: signal.Signals, made: Callable[[], list[Path]]
) -> None:
    """Run a module that works below `directory`, send it the signal once it has `made` something (the cgroups of a
    container), and assert that it ends by it, silently, with no file, cgroup, process or mount left."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments, "--directory", str(directory)],
        cwd=_PROJECT, env={**os.environ, "PYTHONPATH": str(_PROJECT)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        groups = eventually(made)
        process.send_signal(number)
        told = process.communicate(timeout=120)[1]
        assert (process.returncode, told, list(directory.iterdir())) == (128 + number, b"", [])
        assert not [path for path in groups if path.exists()]
        assert not [*processes.of(directory), *mounts(directory)]
    finally:
        process.kill()
        process.wait()
