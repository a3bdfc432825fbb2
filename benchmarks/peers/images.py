"""Container tools: podman."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import FailedError, Run, run
from benchmarks.peers.peer import Peer

IMPORT = """source=$1; name=$2; shift 2
tar --xattrs --xattrs-include="*" -C "$source" -c . | "$@" import --quiet - "$name"
"""
"""A script: a directory, the image's name, and podman with its options."""


class Podman(Peer):
    """As root, on overlay. The first state is an imported image; later ones are commits of a container on it."""

    name = "podman"
    program = "podman"
    in_a_container = True
    note = (
        "podman imports through a pipe from tar; its layers are not compressed, and files have times of whole seconds."
    )

    def __init__(self) -> None:
        self._running: dict[Path, Path] = {}
        """What podman keeps of running containers, by repository: it insists on a short path for that."""

    def absent(self) -> str:
        if why := super().absent():
            return why
        try:
            run(["podman", "--version"])
        except FailedError as error:
            return str(error)
        return ""

    def prepare(self, place: Path) -> None:
        place.mkdir()
        self._running[place] = Path(tempfile.mkdtemp(prefix="podman-"))

    def save(self, place: Path, source: Path, label: str) -> Run:
        if self._has_container(place):
            return self.durable(place, self.command(place, "commit", "--quiet", "container", f"tree:{label}"))
        return self.durable(place, run(["sh", "-ec", IMPORT, "sh", source, f"tree:{label}", *self._options(place)]))

    @contextlib.contextmanager
    def opened(self, place: Path, source: Path, label: str) -> Iterator[Path]:
        if not self._has_container(place):
            self.command(place, "create", "--name", "container", f"tree:{label}", "/bin/true")
        mounted = self.command(place, "mount", "container").output
        yield Path(os.fsdecode(mounted.strip()))
        self.command(place, "umount", "container")

    def diff(self, place: Path, old: str, new: str) -> Run:
        return self.command(place, "diff", f"tree:{new}", f"tree:{old}")

    def branch(self, place: Path, label: str, name: str) -> Run:
        return self.durable(place, self.command(place, "tag", f"tree:{label}", f"tree:{name}"))

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        """A container has no way back: another one is made on the older image."""
        done = self.command(place, "rm", "--force", "container")
        done += self.command(place, "create", "--name", "container", f"tree:{label}", "/bin/true")
        return self.durable(place, done)

    def finish(self, place: Path) -> None:
        with contextlib.suppress(FailedError):
            self.command(place, "umount", "--all", "--force")
            self.command(place, "rm", "--all", "--force")
        if os.path.ismount(place / "root/overlay"):
            run(["umount", place / "root/overlay"])
        shutil.rmtree(self._running.pop(place), ignore_errors=True)

    def _has_container(self, place: Path) -> bool:
        try:
            self.command(place, "container", "exists", "container")
        except FailedError:
            return False
        return True

    def command(self, place: Path, *words: str | Path) -> Run:
        """A command of podman's on its repository."""
        return run([*self._options(place), *words])

    def _options(self, place: Path) -> list[str | Path]:
        running = self._running[place]
        return ["podman", "--root", place / "root", "--runroot", running, "--storage-driver", "overlay"]
