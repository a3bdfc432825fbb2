"""The cgroups of a machine, looked for while others come and go."""

from __future__ import annotations

import glob
from pathlib import Path

_TOP = Path("/sys/fs/cgroup")


def of_container(identity: str) -> list[Path]:
    """Those that a container has now, in every hierarchy."""
    places = [_TOP, *_TOP.iterdir()]
    return [path for place in places if (path := place / f"treering-{identity}").is_dir()]


def named(name: str) -> list[Path]:
    """Those of a name, wherever they are. Not Path.glob: what goes away while it looks is an error to it."""
    return [Path(found) for found in glob.glob(f"{_TOP}/**/{name}", recursive=True)]
