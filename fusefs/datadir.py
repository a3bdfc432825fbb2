"""STORE/run/data/<name>/: where the overlays over one mount find programs as they are. The holder makes it.

    <number>.<digest>   a plain copy's bytes (vcs.plain), linked here by a worker: of the file with this node number, in
                        hexadecimal; the digest says of which content
    lock                flocked, shared, by a worker that links, and by the holder, alone, while it looks what may go

An overlay looks for a file's bytes when it is opened first, which may be long after it was told where they are. So a
link stays for as long as the kernel knows the node: it does while any overlay has seen the file. The copy's own name in
the caches may go meanwhile.

The directory itself is flocked by holder and workers for as long as one of them lives. One that nobody holds is what
killed processes have left, and the next service removes it, or gc.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from vcs.existing import names_in

DIRECTORY = "data"
LOCK = "lock"


class DataDirectory:
    """One, held."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        """Holds it, in whatever process has it too."""

    @classmethod
    def make(cls, run: Path) -> DataDirectory:
        """A new one below STORE/run; those that nobody holds are removed. OSError."""
        above = run / DIRECTORY
        above.mkdir(mode=0o700, exist_ok=True)
        remove_stale(run)
        path = above / f"{os.getpid()}-{time.time_ns():x}"
        path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            (path / LOCK).touch(mode=0o600)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def count(self) -> int:
        """How many files overlays may look for here. OSError."""
        return sum(number_of(name) is not None for name in names_in(self.path))

    def prune(self, knows: Callable[[int], bool]) -> None:
        """Remove the links of files that the kernel knows no more. OSError, BlockingIOError if a worker links just
        now: the holder waits for nobody, and a worker that finds the lock taken does without its link."""
        with open(self.path / LOCK, "rb") as lock:
            # A worker links while the kernel waits for its answer about this very node, which it knows then.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in names_in(self.path):
                number = number_of(name)
                if number is not None and not knows(number):
                    (self.path / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """The mount is gone everywhere."""
        with contextlib.suppress(OSError):
            _remove(self.path)
        os.close(self.descriptor)


def name_of(number: int, digest: bytes) -> str:
    """A link's name.

    >>> name_of(300, bytes.fromhex("00ff"))
    '12c.00ff'
    """
    return f"{number:x}.{digest.hex()}"


def number_of(name: str) -> int | None:
    """The node's number in a link's name; None if it is none.

    >>> number_of("12c.00ff"), number_of("lock")
    (300, None)
    """
    number, dot, _ = name.partition(".")
    try:
        return int(number, 16) if dot else None
    except ValueError:
        return None


def remove_stale(run: Path) -> None:
    """Remove those below STORE/run that nobody holds, as far as that can be done."""
    names = []
    with contextlib.suppress(OSError):
        names = names_in(run / DIRECTORY)
    for name in names:
        path = run / DIRECTORY / name
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    """A directory of links. OSError."""
    for name in names_in(path):
        (path / name).unlink(missing_ok=True)
    path.rmdir()
