"""A container's cgroup, on whatever version the machine has. None of its directories need exist, and any may vanish at
any moment: then there is less to tell, and no error.

    group = Cgroup.of(container_id)          by its name, which is enough wherever treering made it
    group = Cgroup.find(container_id, init)  also where something else, such as systemd, put it elsewhere
    group.usage().cpu_seconds
    group.freeze(); ...; group.thaw()
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from runtime.cgroups import freezing, limits, parsing
from runtime.cgroups.parsing import Usage
from runtime.cgroups.places import CONTROLLERS, Hierarchies, Tree
from runtime.settings import Limits
from runtime.state import CGROUP_PREFIX
from vcs.errors import EngineError
from vcs.existing import is_there

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENODEV)
"""What a cgroup that is removed answers: by its name, and to those who have a file of it open."""
PATIENCE = 10.0
"""Seconds that freezing may take."""


class NoCgroup(EngineError):
    """A container is in no cgroup, or in none any more."""


class Cgroup:
    """The directories of one cgroup: one for each v1 controller, one for v2."""

    def __init__(self, v1: Mapping[str, str | Path], v2: str | Path | None) -> None:
        # As text: of a thousand containers, thousands of files are read at each look.
        self._v1 = {controller: os.fspath(directory) for controller, directory in v1.items()}
        self._v2 = None if v2 is None else os.fspath(v2)

    @classmethod
    def of(cls, container_id: str, hierarchies: Hierarchies | None = None) -> Cgroup:
        """The cgroup that engines are told to make for a container. `hierarchies`, if they have been looked up."""
        name = f"{CGROUP_PREFIX}{container_id}"
        found = hierarchies or Hierarchies.here()
        v1 = {
            controller: f"{found.v1[controller].point}/{name}" for controller in CONTROLLERS if controller in found.v1
        }
        return cls(v1, f"{found.v2.point}/{name}" if found.v2 else None)

    @classmethod
    def of_process(cls, pid: int, hierarchies: Hierarchies | None = None) -> Cgroup:
        """The cgroup that a process is in, wherever that is; an empty one if the process is gone."""
        found = hierarchies or Hierarchies.here()
        paths = parsing.memberships(_read(f"/proc/{pid}/cgroup") or b"")

        def place(tree: Tree | None, controller: str) -> Path | None:
            return tree.directory(paths[controller]) if tree and controller in paths else None

        v1 = {controller: path for controller in CONTROLLERS if (path := place(found.v1.get(controller), controller))}
        return cls(v1, place(found.v2, ""))

    @classmethod
    def find(cls, container_id: str, init: int | None, hierarchies: Hierarchies | None = None) -> Cgroup:
        """A container's cgroup by its name; or, if that is not there, by its first process, if that is in one which is
        named after the container: `system.slice/NAME-ID.scope`. (An ordinary user's is in the cgroup of who began it.)
        """
        named = cls.of(container_id, hierarchies)
        if init is None or named.exists:
            return named
        found = cls.of_process(init, hierarchies)
        v1 = {controller: path for controller, path in found._v1.items() if container_id in os.path.basename(path)}
        v2 = found._v2 if found._v2 and container_id in os.path.basename(found._v2) else None
        return cls(v1, v2) if v1 or v2 else named

    @property
    def exists(self) -> bool:
        """Whether the kernel keeps it in any hierarchy: also when all of its processes have ended. OSError if that
        cannot be told."""
        return any(_is_there(directory) for directory in self._directories())

    def processes(self) -> list[int]:
        """The processes in it and below it, by pid as this process sees them. OSError if that cannot be told: who goes
        by what they do must not pass one over."""
        for directory in self._directories():
            if _is_there(directory):
                found: set[int] = set()
                for path in _with_those_below(directory):
                    found.update(_members(path))
                return sorted(found - {0})  # 0: one outside of our pid namespace
        return []

    # -- what it uses

    def usage(self) -> Usage:
        """What it uses now and has used since it was made. Reads ten or so small files: 0.1 ms."""
        usage: dict[str, int | float | None] = {
            **self._cpu(),
            **self._memory(),
            "pids": parsing.number(self._file("pids", "pids.current")),
            "pids_limit": parsing.number(self._file("pids", "pids.max")),
        }
        if transfers := self._transfers():
            usage |= transfers._asdict()
        known = any(value is not None for value in usage.values())
        return Usage(**usage, source="cgroup" if known else "nothing")  # type: ignore[arg-type]

    def _cpu(self) -> dict[str, float | None]:
        if "cpuacct" in self._v1:
            total = parsing.number(self._file("cpuacct", "cpuacct.usage"))
            ticks = parsing.keyed(self._file("cpuacct", "cpuacct.stat"))
            names, parts, scale = (b"user", b"system"), ticks, parsing.TICKS
            seconds = None if total is None else total / 1e9
        else:
            names, scale = (b"user_usec", b"system_usec"), 1_000_000
            parts = parsing.keyed(self._file("cpu", "cpu.stat"))
            seconds = parts[b"usage_usec"] / scale if b"usage_usec" in parts else None
        user, system = (parts[name] / scale if name in parts else None for name in names)
        return {"cpu_seconds": seconds, "user_seconds": user, "system_seconds": system}

    def _memory(self) -> dict[str, int | None]:
        if "memory" in self._v1:
            now, limit, peak, cache, kills, killed = (
                "memory.usage_in_bytes", "memory.limit_in_bytes", "memory.max_usage_in_bytes",
                b"total_inactive_file", "memory.oom_control", b"oom_kill",
            )  # fmt: skip
        else:
            now, limit, peak, cache, kills, killed = (
                "memory.current", "memory.max", "memory.peak", b"inactive_file", "memory.events", b"oom_kill",
            )  # fmt: skip
        used = parsing.number(self._file("memory", now))
        if used is not None:
            used = max(0, used - parsing.keyed(self._file("memory", "memory.stat")).get(cache, 0))
        return {
            "memory_bytes": used,
            "memory_limit": parsing.number(self._file("memory", limit)),
            "memory_peak": parsing.number(self._file("memory", peak)),
            "oom_kills": parsing.keyed(self._file("memory", kills)).get(killed),
        }

    def _transfers(self) -> parsing.Transfers | None:
        if "blkio" not in self._v1:
            return parsing.io_stat(self._file("blkio", "io.stat"))
        sizes, counts = (
            parsing.blkio(self._file("blkio", f"blkio.throttle.{name}_recursive"))
            or parsing.blkio(self._file("blkio", f"blkio.throttle.{name}"))
            for name in ("io_service_bytes", "io_serviced")
        )
        return parsing.Transfers(*sizes, *counts) if sizes and counts else None

    # -- what it may use

    def update(self, wanted: Limits) -> None:
        """Let it use so much from now on; None: as much as there is.

        Conflict if it uses more memory than that already; EngineError if the machine lacks a controller. Nothing that
        is as wanted already is written.
        """
        now = self.limits()
        if wanted.memory != now.memory:
            (limits.memory_v1 if "memory" in self._v1 else limits.memory_v2)(self._place("memory"), wanted.memory)
        if wanted.cpus != now.cpus:
            (limits.cpus_v1 if "cpu" in self._v1 else limits.cpus_v2)(self._place("cpu"), wanted.cpus)
        if wanted.pids != now.pids:
            limits.pids(self._place("pids"), wanted.pids)

    def limits(self) -> Limits:
        """What it may use now."""
        if "cpu" in self._v1:
            quota = parsing.number(self._file("cpu", "cpu.cfs_quota_us"))  # -1 for none
            period = parsing.number(self._file("cpu", "cpu.cfs_period_us")) or 1
        else:
            quota, period = parsing.cpu_max(self._file("cpu", "cpu.max"))
        memory = "memory.limit_in_bytes" if "memory" in self._v1 else "memory.max"
        return Limits(
            memory=parsing.number(self._file("memory", memory)),
            cpus=None if quota is None else quota / period,
            pids=parsing.number(self._file("pids", "pids.max")),
        )

    def _place(self, controller: str) -> Path:
        directory = self._v1.get(controller, self._v2)
        if directory is None or not is_there(directory):
            raise EngineError(
                "the container is in no cgroup, so nothing can be limited", controller=controller,
                advice="an ordinary user's containers have none: run it as root",
            )  # fmt: skip
        on = (_read(f"{directory}/cgroup.controllers") or b"").split()
        if controller not in self._v1 and controller.encode() not in on:
            raise EngineError(
                f"this machine does not let containers be limited in {controller}: its cgroup controller is off",
                controller=controller,
                advice=f"as root: echo +{controller} > {os.path.dirname(directory)}/cgroup.subtree_control",
            )
        return Path(directory)

    # -- whether it stands still

    @property
    def frozen(self) -> bool:
        """Whether all of it stands still; not so if it is gone. OSError if that cannot be told."""
        try:
            if "freezer" in self._v1:
                return freezing.is_frozen_v1(Path(self._v1["freezer"]))
            return self._v2 is not None and freezing.is_frozen_v2(Path(self._v2))
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise

    def freeze(self, seconds: float = PATIENCE) -> None:
        """Stop all processes where they are, and return when they all stand.

        EngineError if they do not within `seconds`, or cannot be looked at, and then they go on. NoCgroup.
        """
        self._turn(freezing.freeze_v1, freezing.freeze_v2, seconds)

    def thaw(self, seconds: float = PATIENCE) -> None:
        """Let all processes go on, whoever froze them. Fine if they do; NoCgroup if they have ended."""
        self._turn(freezing.thaw_v1, freezing.thaw_v2, seconds)

    def _turn(self, v1: freezing.Turn, v2: freezing.Turn, seconds: float) -> None:
        try:
            if "freezer" in self._v1:
                v1(Path(self._v1["freezer"]), seconds)
                return
            if self._v2 is not None:
                v2(Path(self._v2), seconds)
                return
        except OSError as error:
            if error.errno not in _GONE:
                raise EngineError(f"the container's freezer cannot be used: {error}") from error
        raise NoCgroup(
            "the container is in no cgroup, so it cannot be frozen",
            advice="an ordinary user's containers have none: run it as root",
        )

    # -- details

    def _directories(self) -> list[str]:
        return list(dict.fromkeys([*self._v1.values(), *([self._v2] if self._v2 else [])]))

    def _file(self, controller: str, name: str) -> bytes | None:
        """A file of a controller's, None if there is none (any more)."""
        directory = self._v1.get(controller, self._v2)
        return None if directory is None else _read(f"{directory}/{name}")


def _is_there(directory: str) -> bool:
    try:
        os.stat(directory)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _with_those_below(directory: str) -> Iterator[str]:
    """A cgroup and all below it. One has two links, and one more for each below: most need not be listed."""
    yield directory
    with suppress(FileNotFoundError):
        if os.stat(directory).st_nlink != 2:
            for entry in os.scandir(directory):
                if entry.is_dir(follow_symlinks=False):
                    yield from _with_those_below(entry.path)


def _members(directory: str) -> list[int]:
    """The processes in one cgroup; none if it is gone, or of threads: then one above it has them (cgroups(7))."""
    try:
        with open(f"{directory}/cgroup.procs", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError as error:
        if error.errno in (*_GONE, errno.EOPNOTSUPP):
            return []
        raise


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = b""
        while more := os.read(fd, 1 << 16):  # the kernel hands a page over at a time, or less
            found += more
        return found
    except OSError:  # its cgroup is gone
        return None
    finally:
        os.close(fd)
