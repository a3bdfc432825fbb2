"""What a section asks of a tool."""

from __future__ import annotations

import contextlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Run, Size, run, size_of


class Peer(ABC):
    """A tool that keeps states of a directory tree. Each repository has a directory of its own, `place`.

    What takes a `Run` is timed, and its data is on the disk when it ends: where a tool does not see to that itself
    (`syncs`), the time of `sync -f` is part of it. None stands for "it has no such thing".
    """

    name: str
    program: str
    """What must be in PATH."""
    syncs: bool = False
    """Whether it makes its data durable before it returns."""
    in_a_container: bool = False
    """Whether later states are made from a container on the first one, not from the directory."""
    note: str = ""
    """What a reader of the tables must know: above all, what of a tree the tool does not keep."""

    def absent(self) -> str:
        """Why it cannot be had here; empty if it can."""
        return "" if shutil.which(self.program) else f"{self.program} is not installed"

    @abstractmethod
    def prepare(self, place: Path) -> None:
        """Make an empty repository in `place`, which is not there yet. Not timed."""

    @abstractmethod
    def save(self, place: Path, source: Path, label: str) -> Run:
        """Keep the state that `source` has now."""

    def reads(self, place: Path, source: Path) -> Path:
        """What save() is going to read: the source, or what a container has written."""
        return source

    @contextlib.contextmanager
    def opened(self, place: Path, source: Path, label: str) -> Iterator[Path]:
        """Where changes are made that the next save() keeps: the source, or a container's root on the state `label`."""
        yield source

    def diff(self, place: Path, old: str, new: str) -> Run | None:
        """Say what differs between two states, by path."""
        return None

    def branch(self, place: Path, label: str, name: str) -> Run | None:
        """Make a second line of states that begins at one."""
        return None

    def rollback(self, place: Path, label: str, target: Path) -> Run | None:
        """Have an older state as files again. `target` is a directory that is not there, for who must write them."""
        return None

    def repack(self, place: Path) -> Run | None:
        """Compress what is there once more, as well as the tool can."""
        return None

    def size(self, place: Path) -> Size:
        """What the repository takes; caches that can be made again do not count."""
        return size_of(place)

    def finish(self, place: Path) -> None:  # noqa: B027 (most tools have nothing to do here)
        """Leave nothing mounted or running; `place` is deleted after it."""

    def durable(self, place: Path, done: Run) -> Run:
        """A finished run, with its data on the disk."""
        return done if self.syncs else done + run(["sync", "-f", place])
