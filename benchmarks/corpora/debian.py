"""A Debian root filesystem out of Debian's packages: with Python, a compiler and git, as the demo's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SUITE = "bookworm"
_PACKAGES = "ca-certificates,python3,build-essential,git"


def mirror() -> str:
    """Where this machine has its Debian packages from."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages", f"Codename: {SUITE}"]
    found = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    main = [uri.rstrip("/") for uri in found if uri.rstrip("/").endswith("/debian")]
    if not main:
        raise SystemExit(f"apt knows no mirror of Debian's {SUITE}: add one to its sources")
    return main[0]


def debian(place: Path, *sources: str) -> None:
    """Make the root. `sources` are lines of sources.list(5) that replace mmdebstrap's own."""
    if shutil.which("mmdebstrap") is None:
        raise SystemExit("mmdebstrap is missing; install it, or give a root filesystem with --root")
    command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={_PACKAGES}", SUITE, str(place), *sources]
    subprocess.run(command, check=True)
