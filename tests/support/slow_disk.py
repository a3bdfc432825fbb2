"""A file system that takes its time: whoever reads its one file waits, and nothing wakes him before."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fuse

from fusefs import mounting
from tests.support.containers import environment, eventually

PROJECT = Path(__file__).parents[2]
NAME = "file"


@contextmanager
def slow_disk(point: Path, seconds: float) -> Iterator[Path]:
    """Mounted at a new directory, and served by a process. Yields the file, each read of which takes `seconds`."""
    point.mkdir()
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(point), str(seconds)],
        cwd=PROJECT, env=environment(), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: os.path.ismount(point))
        yield point / NAME
    finally:
        mounting.detach(point)
        server.terminate()
        server.wait(30)


class _Slow(fuse.Operations):
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": 1}

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        time.sleep(self._seconds)
        return b"x"


if __name__ == "__main__":
    fuse.FUSE(_Slow(float(sys.argv[2])), sys.argv[1], foreground=True, direct_io=True)
