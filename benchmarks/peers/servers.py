"""Tools that show a tree through a mount: Treering's service and others', each a process that is started and ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.inside import Root, abort, connection_of
from benchmarks.measure import FailedError, run
from benchmarks.peers.treering import treering
from fusefs.client import Service
from fusefs.mounting import mount_at
from vcs.store import Store

_HERE = Path(__file__).parent
_DEBIANS_PYTHON = "/usr/bin/python3"
_READY_SECONDS = 60.0
_END_SECONDS = 20.0


class Server(ABC):
    """A way of showing a tree."""

    name: str
    note: str = ""
    """What a reader of the tables must know."""

    def absent(self) -> str:
        """Why it cannot be had here; empty if it can."""
        return ""

    @abstractmethod
    def prepare(self, place: Path, source: Path) -> None:
        """Take in the tree at `source` where it has to be; `place` is a directory of its own."""

    @abstractmethod
    def serving(self, place: Path, source: Path) -> contextlib.AbstractContextManager[Root]:
        """The tree as a root, while a process that was started for it serves it. FailedError."""


class Plain(Server):
    """The directory itself, on the disk's file system: what all others are to be seen next to."""

    name = "ext4"

    def prepare(self, place: Path, source: Path) -> None: ...

    @contextlib.contextmanager
    def serving(self, place: Path, source: Path) -> Iterator[Root]:
        yield Root(source)


class Ours(Server):
    """A store's service."""

    name = "treering"

    def prepare(self, place: Path, source: Path) -> None:
        treering(place / "store", "init")
        treering(place / "store", "import", source, "--branch", "main", "-m", "tree")

    @contextlib.contextmanager
    def serving(self, place: Path, source: Path) -> Iterator[Root]:
        store = place / "store"
        with Store.open(store) as opened:
            root = opened.commit(opened.branches()["main"]).root
        try:
            with Service.ensure(store) as lease:
                yield Root(lease.mountpoint / "trees" / root.hex(), connection_of(lease.mountpoint))
        finally:
            Service.stop(store, force=True)


class Mounted(Server):
    """A program that stays in the foreground while it serves a mount."""

    program: str
    environment: Mapping[str, str] = {}

    def absent(self) -> str:
        return "" if shutil.which(self.program) else f"{self.program} is not installed"

    def prepare(self, place: Path, source: Path) -> None:
        """Most show the directory as it is."""

    @abstractmethod
    def command(self, place: Path, source: Path, mountpoint: Path) -> Sequence[str | Path]:
        """What serves it at `mountpoint`."""

    def top(self, mountpoint: Path, source: Path) -> Path:
        """Where in the mount the tree is."""
        return mountpoint

    def variables(self, place: Path) -> Mapping[str, str]:
        return {}

    @contextlib.contextmanager
    def serving(self, place: Path, source: Path) -> Iterator[Root]:
        mountpoint = place / "mnt"
        mountpoint.mkdir(exist_ok=True)
        connection = 0
        with open(place / "log", "wb") as log:
            process = subprocess.Popen(
                [*map(str, self.command(place, source, mountpoint))], env={**os.environ, **self.variables(place)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait(process, place, mountpoint)
            connection = connection_of(mountpoint)
            top = self.top(mountpoint, source)
            with Root(top, connection).deadline(_READY_SECONDS):
                os.listdir(top)  # some mount first and read what they have afterwards
            yield Root(top, connection)
        finally:
            _end(process, mountpoint, connection)

    def _wait(self, process: subprocess.Popen[bytes], place: Path, mountpoint: Path) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while mount_at(mountpoint) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                words = (place / "log").read_text(errors="replace").strip()[-300:]
                raise FailedError(f"{self.name} mounts nothing: {words}")
            time.sleep(0.02)


def _end(process: subprocess.Popen[bytes], mountpoint: Path, connection: int) -> None:
    """Unmount, which lets the process end by itself; if it does not, end it. Nothing here waits for what it serves."""
    if mount_at(mountpoint) is not None:
        subprocess.run(["umount", "--lazy", mountpoint], check=False, timeout=_END_SECONDS)
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number:
            process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS / 4)
            return
        abort(connection)


class FuseOverlayfs(Mounted):
    name = "fuse-overlayfs"
    program = "fuse-overlayfs"
    note = "fuse-overlayfs shows the directory on ext4, below an upper that is empty; it keeps names for 10^9 s."

    def command(self, place: Path, source: Path, mountpoint: Path) -> Sequence[str | Path]:
        for name in ("upper", "work"):
            (place / name).mkdir(exist_ok=True)
        layers = f"lowerdir={source},upperdir={place}/upper,workdir={place}/work"
        return [self.program, "-f", "-o", layers, mountpoint]


class Borg(Mounted):
    name = "borg mount"
    program = "borg"
    note = "borg mounts an archive made with `--encryption=none` and lz4; it is ready when it has read the metadata."

    def absent(self) -> str:
        if why := super().absent():
            return why
        for module in ("llfuse", "pyfuse3"):
            if not subprocess.run([_DEBIANS_PYTHON, "-c", f"import {module}"], capture_output=True).returncode:
                return ""
        return "borg mounts through python3-llfuse or python3-pyfuse3, and neither is installed"

    def variables(self, place: Path) -> Mapping[str, str]:
        return {"BORG_BASE_DIR": str(place / "base"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def prepare(self, place: Path, source: Path) -> None:
        run(["borg", "init", "--encryption=none", place / "repo"], self.variables(place))
        run(["borg", "create", f"{place}/repo::tree", "."], self.variables(place), source)

    def command(self, place: Path, source: Path, mountpoint: Path) -> Sequence[str | Path]:
        return ["borg", "mount", "--foreground", f"{place}/repo::tree", mountpoint]


class Restic(Mounted):
    name = "restic mount"
    program = "restic"
    note = "restic encrypts what it keeps; it cannot be told not to."

    def variables(self, place: Path) -> Mapping[str, str]:
        return {"RESTIC_PASSWORD": "benchmark", "RESTIC_CACHE_DIR": str(place / "cache")}

    def prepare(self, place: Path, source: Path) -> None:
        for words in (["init", "--repository-version", "2"], ["backup", str(source)]):
            run(["restic", "--repo", place / "repo", *words], self.variables(place))

    def command(self, place: Path, source: Path, mountpoint: Path) -> Sequence[str | Path]:
        return ["restic", "--repo", place / "repo", "mount", mountpoint]

    def top(self, mountpoint: Path, source: Path) -> Path:
        return mountpoint / "snapshots/latest" / source.relative_to("/")


class Pyfuse3(Mounted):
    name = "pyfuse3"
    program = _DEBIANS_PYTHON
    note = "pyfuse3: peers/serve_pyfuse3.py shows the directory on ext4; the kernel keeps names, attributes and pages."

    def absent(self) -> str:
        found = subprocess.run([self.program, "-c", "import pyfuse3"], capture_output=True, check=False)
        return "python3-pyfuse3 is not installed" if found.returncode else ""

    def command(self, place: Path, source: Path, mountpoint: Path) -> Sequence[str | Path]:
        return [self.program, _HERE / "serve_pyfuse3.py", source, mountpoint]


class Fusepy(Mounted):
    name = "fusepy"
    program = sys.executable
    note = "fusepy: peers/serve_fusepy.py shows the directory on ext4; the kernel keeps names, attributes and pages."

    def absent(self) -> str:
        found = subprocess.run([self.program, "-c", "import fuse"], capture_output=True, check=False)
        return "fusepy or libfuse2 is not installed" if found.returncode else ""

    def command(self, place: Path, source: Path, mountpoint: Path) -> Sequence[str | Path]:
        return [self.program, _HERE / "serve_fusepy.py", source, mountpoint]


def servers() -> list[Server]:
    """Ours first, and the disk's file system last."""
    return [Ours(), FuseOverlayfs(), Borg(), Restic(), Pyfuse3(), Fusepy(), Plain()]
