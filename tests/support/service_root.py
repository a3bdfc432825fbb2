"""A root filesystem with servers of Debian's packages, as they are installed on this machine, and what they load."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.busybox_root import make_busybox_root

_LIBRARY = re.compile(r"(/\S+) \(0x")


def make_service_root(path: Path, programs: Sequence[Path]) -> Path:
    """Make a busybox root at `path` with these programs under their own names, and their libraries."""
    make_busybox_root(path)
    for program in programs:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True, timeout=30).stdout
        for file in [program, *map(Path, _LIBRARY.findall(listed))]:
            target = path / file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
    return path
