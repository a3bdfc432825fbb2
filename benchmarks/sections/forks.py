"""A hundred containers from one that runs: made, on the disk, started, removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from benchmarks.measure import FailedError, Run, median, run, settle, size_of
from benchmarks.peers.images import IMPORT
from benchmarks.peers.treering import treering
from benchmarks.report import Section
from benchmarks.setting import OURS, Setting
from fusefs.client import Service

_FORKS = 100
_COMMAND = ("sleep", "1000000")
_SOURCE = ("sh", "-c", f"echo 1 > /one; exec {' '.join(_COMMAND)}")
_MADE_LIMIT, _STARTED_LIMIT, _DISK_LIMIT = 2.0, 10.0, 100e3


class Forker(ABC):
    """A tool that makes many containers of one that runs. Whatever is made is on the disk when a Run ends."""

    name: str
    note: str

    def __init__(self, place: Path) -> None:
        self.place = place

    @abstractmethod
    def absent(self) -> str:
        """Why it cannot be had here; empty if it can."""

    @abstractmethod
    def prepare(self, source: Path) -> None:
        """Have a container run on this root, that has written a file."""

    @abstractmethod
    def make(self, count: int) -> Run:
        """Make others from its state now."""

    @abstractmethod
    def used(self) -> int:
        """Bytes of disk that all of it takes now."""

    def make_and_start(self, count: int) -> Run | None:
        """Make others, and start them; None where nothing can be started."""
        return None

    @abstractmethod
    def remove(self) -> Run:
        """Remove those that were made, with what runs in them."""

    @abstractmethod
    def finish(self) -> None:
        """Leave nothing mounted or running."""


class Ours(Forker):
    name = OURS
    note = "treering: `fork --count`, `fork --count --start`, `rm --force` of all."

    def absent(self) -> str:
        return ""

    def prepare(self, source: Path) -> None:
        treering(self.place, "init")
        treering(self.place, "import", source, "--branch", "main", "-m", "base")
        treering(self.place, "run", "--detach", "--name", "web", "main", "--", *_SOURCE)

    def make(self, count: int) -> Run:
        return treering(self.place, "fork", "web", "--count", str(count), "--name", "made")

    def used(self) -> int:
        return sum(size_of(self.place / part).allocated for part in ("containers", "history.git"))

    def make_and_start(self, count: int) -> Run:
        return treering(self.place, "fork", "web", "--count", str(count), "--name", "made", "--start")

    def remove(self) -> Run:
        return treering(self.place, "rm", "--force", *self._made())

    def finish(self) -> None:
        treering(self.place, "rm", "--force", "--all")
        Service.stop(self.place, force=True)

    def _made(self) -> list[str]:
        names = treering(self.place, "ps", "--all", "--quiet").output.decode().split()
        return [name for name in names if name != "web"]


class Podman(Forker):
    name = "podman"
    note = (
        "podman: `commit` of the running container, `create` for each, `start` of all at once, `rm --force --time 0` "
        "of all. With runc, and without a network, as here."
    )

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._runroot = Path(tempfile.mkdtemp(prefix="podman-"))

    def absent(self) -> str:
        return next((f"{name} is not installed" for name in ("podman", "runc") if not shutil.which(name)), "")

    def prepare(self, source: Path) -> None:
        self.place.mkdir()
        run(["sh", "-ec", IMPORT, "sh", source, "tree:base", *self._options()])
        self._create("tree:base", *_SOURCE, name="web")
        self._podman("start", "web")

    def make(self, count: int) -> Run:
        done = self._podman("commit", "--quiet", "web", "tree:fork")
        for number in range(count):
            done += self._create("tree:fork", *_COMMAND, name=f"made-{number}")
        return done + run(["sync", "-f", self.place])

    def used(self) -> int:
        return size_of(self.place).allocated + size_of(self._runroot).allocated

    def make_and_start(self, count: int) -> Run:
        return self.make(count) + self._podman("start", *self._made())

    def remove(self) -> Run:
        return self._podman("rm", "--force", "--time", "0", *self._made()) + run(["sync", "-f", self.place])

    def finish(self) -> None:
        self._podman("rm", "--all", "--force", "--time", "0")
        if os.path.ismount(self.place / "root/overlay"):
            run(["umount", self.place / "root/overlay"])
        shutil.rmtree(self._runroot, ignore_errors=True)

    def _create(self, image: str, *command: str, name: str) -> Run:
        # By itself it asks for more than a machine without CAP_SYS_RESOURCE has to give.
        options = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
        return self._podman("create", "--network", "none", "--name", name, *options, image, *command)

    def _made(self) -> list[str]:
        names = self._podman("ps", "--all", "--format", "{{.Names}}").output.decode().split()
        return [name for name in names if name != "web"]

    def _podman(self, *words: str) -> Run:
        return run([*self._options(), *words])

    def _options(self) -> list[str | Path]:
        storage: list[str | Path] = [
            "--root",
            self.place / "root",
            "--runroot",
            self._runroot,
            "--storage-driver",
            "overlay",
        ]
        return ["podman", *storage, "--runtime", "runc", "--cgroup-manager", "cgroupfs"]


class Snapshots(Forker):
    name = "btrfs"
    note = "btrfs: a writable snapshot for each, on a loop file: roots only, no containers. The floor."

    def absent(self) -> str:
        if "btrfs" not in Path("/proc/filesystems").read_text().split():
            return "this kernel has no btrfs"
        return "" if shutil.which("mkfs.btrfs") else "mkfs.btrfs is not installed"

    def prepare(self, source: Path) -> None:
        self.place.mkdir()
        disk = self.place / "disk"
        disk.touch()
        os.truncate(disk, 8 << 30)
        self._mnt.mkdir()
        run(["mkfs.btrfs", "--quiet", disk])
        run(["mount", "-o", "loop", disk, self._mnt])
        run(["btrfs", "subvolume", "create", self._mnt / "web"])
        run(["cp", "-a", f"{source}/.", self._mnt / "web"])

    def make(self, count: int) -> Run:
        script = (
            'cd "$1"; for i in $(seq "$2"); do btrfs subvolume snapshot web "made-$i"; done; btrfs filesystem sync .'
        )
        return run(["sh", "-ec", script, "sh", self._mnt, str(count)])

    def used(self) -> int:
        run(["btrfs", "filesystem", "sync", self._mnt])
        status = os.statvfs(self._mnt)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def remove(self) -> Run:
        script = 'cd "$1"; btrfs subvolume delete made-*; btrfs filesystem sync .'
        return run(["sh", "-ec", script, "sh", self._mnt])

    def finish(self) -> None:
        if os.path.ismount(self._mnt):
            run(["umount", self._mnt])

    @property
    def _mnt(self) -> Path:
        return self.place / "mnt"


def forks(setting: Setting) -> list[Section]:
    """One table."""
    count = _FORKS // 20 if setting.quick else _FORKS
    section = Section(f"{count} containers from one that runs")
    kinds: tuple[type[Forker], ...] = (Ours, Podman, Snapshots)
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(setting.rounds):
        for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
            if setting.only and kind.name not in setting.only:
                continue
            forker = kind(setting.place(f"forks-{kind.name}-{number}"))
            if why := forker.absent():
                section.note(f"{kind.name} is left out: {why}.")
                continue
            section.note(kind.note)
            try:
                for column, value in _measured(forker, setting.debian(), count).items():
                    found.setdefault(kind.name, {}).setdefault(column, []).append(value)
            except FailedError as error:
                section.note(f"{kind.name} is left out: {' '.join(str(error).split())[:300]}")
    units = {"disk each": "B", "disk each, started": "B"}
    for name in (kind.name for kind in kinds if kind.name in found):
        for column, values in found[name].items():
            section.put(name, column, median(values), units.get(column, "s"))
    _claim(section, count)
    return [section]


def _measured(forker: Forker, source: Path, count: int) -> dict[str, float]:
    """One round of one tool, which leaves nothing running."""
    values: dict[str, float] = {}
    try:
        forker.prepare(source)
        settle()
        before = forker.used()
        values["made"] = forker.make(count).seconds
        values["disk each"] = (forker.used() - before) / count
        removed = forker.remove()
        before = forker.used()
        started = forker.make_and_start(count)
        if started is not None:
            values["made and started"] = started.seconds
            values["disk each, started"] = (forker.used() - before) / count
            removed = forker.remove()
        values["removed"] = removed.seconds
    finally:
        forker.finish()
    return values


def _claim(section: Section, count: int) -> None:
    ours = {column: figure.value for column, figure in section.rows.get(OURS, {}).items()}
    if not ours:
        return
    section.claim("12", f"{count} forks of a running container made", ours["made"], _MADE_LIMIT, "s")
    section.claim("12", "disk of each", ours["disk each"], _DISK_LIMIT, "B")
    section.claim("12", f"{count} forks made and started", ours["made and started"], _STARTED_LIMIT, "s")
    section.claim("12", "disk of each when it runs", ours["disk each, started"], _DISK_LIMIT, "B")
    theirs = {column: figure.value for column, figure in section.rows.get("podman", {}).items()}
    for column in ("made", "disk each", "made and started", "disk each, started", "removed"):
        if column in theirs:
            section.claim("12", f"{column}, to podman's", ours[column] / theirs[column], 1.0)
