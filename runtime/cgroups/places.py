"""Where cgroups lie on this machine, from /proc/self/mountinfo.

    v1       each controller has a tree of its own, perhaps together with others (`cpu,cpuacct`)
    v2       one tree for all, usually at /sys/fs/cgroup
    hybrid   both: v1 has the controllers, v2 (at /sys/fs/cgroup/unified) only keeps track of processes and freezes

A controller is v1's where v1 has it: the kernel lets it be in one tree only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "blkio", "freezer")
"""Those of v1 that are used here. On v2, cpuacct is a part of every cgroup, blkio is called io, freezing needs none."""


class Tree(NamedTuple):
    """One mounted cgroup file system."""

    point: str
    """Where it is mounted."""
    root: str
    """Which cgroup is seen there: not `/` where a container shows its own alone."""

    def directory(self, cgroup: str) -> Path | None:
        """Where a cgroup of this path (of /proc/PID/cgroup) is; None if it lies outside of what is mounted."""
        if ".." in cgroup.split("/"):
            return None
        try:
            return Path(self.point, PurePosixPath(cgroup).relative_to(self.root))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """All cgroup file systems that this process sees."""

    v1: Mapping[str, Tree]
    """By controller; systemd's own, which has none, as `name=systemd`."""
    v2: Tree | None

    @classmethod
    def here(cls) -> Hierarchies:
        """Those of the caller's mount namespace. OSError without /proc."""
        fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return parse(file.read())


def parse(mountinfo: bytes) -> Hierarchies:
    """What /proc/self/mountinfo says. A mount hides what was mounted at its place, or below it, before: so engines are
    shown another layout than the machine has (runtime.engine)."""
    seen: dict[str, tuple[str, Tree, list[str]]] = {}
    for line in mountinfo.decode("utf-8", "surrogateescape").split("\n"):
        words = line.split(" ")
        if "-" not in words[6:]:
            continue
        dash = words.index("-", 6)
        if len(words) < dash + 4:
            continue
        root, point, kind = _plain(words[3]), _plain(words[4]), words[dash + 1]
        below = point.rstrip("/") + "/"
        if kind.startswith("cgroup") or any(known == point or known.startswith(below) for known in seen):
            seen = {known: tree for known, tree in seen.items() if known != point and not known.startswith(below)}
        if kind in ("cgroup", "cgroup2"):
            seen[point] = kind, Tree(point, root), words[dash + 3].split(",")
    v1: dict[str, Tree] = {}
    v2 = None
    for kind, tree, options in seen.values():
        if kind == "cgroup2":
            v2 = v2 or tree
        else:
            for option in options:
                if option in CONTROLLERS or option.startswith("name="):
                    v1.setdefault(option, tree)
    return Hierarchies(v1, v2)


def _plain(path: str) -> str:
    """A path as it is: spaces and the like are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)
