"""A Debian root filesystem out of Debian's packages: with Python, a compiler and git, as the demo's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
_PACKAGES = "ca-certificates,python3,build-essential,git"


def debian(place: Path, *sources: str) -> None:
    """Make the root. `sources` are lines of sources.list(5) that replace mmdebstrap's own."""
    if shutil.which("mmdebstrap") is None:
        raise SystemExit("mmdebstrap is missing; install it, or give a root filesystem with --root")
    command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={_PACKAGES}", SUITE, str(place), *sources]
    subprocess.run(command, check=True)
