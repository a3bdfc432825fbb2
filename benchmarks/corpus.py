"""The root filesystems that are worked on: a real Debian, and one ten times as large made out of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGES = "ca-certificates,python3,build-essential,git"
SUITE = "bookworm"


@dataclass(frozen=True, slots=True)
class Setting:
    """What every section is given."""

    root: Path
    """The root filesystem; only read."""
    work: Path
    """A directory on the disk to be measured. Everything in it goes when the run is over."""
    rounds: int

    def place(self, name: str) -> Path:
        """A path in the work directory that nobody has used."""
        return self.work / name


def debian(cache: Path) -> Path:
    """A Debian root with Python, a compiler and git, made once with mmdebstrap and kept in `cache`."""
    root = cache / SUITE
    if not root.exists():
        if shutil.which("mmdebstrap") is None:
            raise SystemExit("mmdebstrap is missing; install it, or give a root filesystem with --root")
        fresh = cache / f".{SUITE}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", f"--include={PACKAGES}", SUITE, fresh], check=True)
        fresh.rename(root)
    return root


def count(root: Path) -> tuple[int, int]:
    """Entries below a root, and the bytes in its files (a hard-linked file counts once a name)."""
    entries = size = 0
    stack = [os.fspath(root)]
    while stack:
        with os.scandir(stack.pop()) as found:
            for item in found:
                entries += 1
                if item.is_dir(follow_symlinks=False):
                    stack.append(item.path)
                elif item.is_file(follow_symlinks=False):
                    size += item.stat(follow_symlinks=False).st_size
    return entries, size
