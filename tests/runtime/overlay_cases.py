"""Real overlay mounts over plain directories, and roots described so that two can be compared."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.upper import TRUSTED, UpperResult, scan_upper
from vcs.encoding import check_tree
from vcs.importer import import_directory
from vcs.model import Chunked, Data, Tree
from vcs.snapshot import Snapshot
from vcs.testing import MemoryStore

OPTIONS = "index=off,uuid=null,redirect_dir=on,metacopy=on,xino=off"
RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_MNT_DETACH = 2

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def exchange(one: Path | bytes, other: Path | bytes) -> None:
    """Swap two names (renameat2(2), RENAME_EXCHANGE)."""
    _checked(_libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE))


class Layers:
    """A lower directory imported as the base, and an overlay that can be mounted on it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.lower, self.upper, self.work, self.merged = (top / n for n in ("lower", "upper", "work", "merged"))
        for path in (self.lower, self.upper, self.work, self.merged):
            path.mkdir()
        self.store = MemoryStore()
        self._base: Snapshot | None = None

    @property
    def base(self) -> Snapshot:
        """The lower, imported when first asked for."""
        if self._base is None:
            shutil.copystat(self.lower, self.upper)
            self._base = imported(self.store, self.lower)
        return self._base

    def reset(self) -> None:
        """An empty upper, as a fresh container has it."""
        for path in (self.upper, self.work):
            shutil.rmtree(path)
            path.mkdir()
        shutil.copystat(self.lower, self.upper)

    @contextmanager
    def mounted(self, options: str = OPTIONS) -> Iterator[Path]:
        """The merged view; unmounted afterwards."""
        assert self.base
        # volatile: without it every unmount waits until the whole disk below the upper has been synced
        data = f"lowerdir={self.lower},upperdir={self.upper},workdir={self.work},{options},volatile"
        _checked(_libc.mount(b"overlay", os.fsencode(self.merged), b"overlay", 0, data.encode()))
        try:
            yield self.merged
        finally:
            _checked(_libc.umount2(os.fsencode(self.merged), _MNT_DETACH))

    def scan(self, **options: object) -> UpperResult:
        """Scan the upper."""
        return scan_upper(self.upper, self.base, self.store, **options)  # type: ignore[arg-type]

    def scanned(self, **options: object) -> Snapshot:
        """The root that the upper makes of the base."""
        return Snapshot(self.store, self.scan(**options).root)


def imported(store: MemoryStore, directory: Path) -> Snapshot:
    return Snapshot(store, import_directory(store, directory).root)


def described(root: Snapshot) -> dict[bytes, tuple[object, ...]]:
    """Every path with all that its entry holds, trees' digests replaced by what is in them, groups by their members."""
    entries = dict(root.walk())
    members: dict[bytes, list[bytes]] = defaultdict(list)
    for path, entry in entries.items():
        if entry.link is not None:
            members[entry.link.group].append(path)
        if isinstance(entry.content, Tree):
            check_tree(root.objects.get(entry.content.tree))
    return {
        path: (
            oct(entry.mode),
            entry.uid,
            entry.gid,
            entry.mtime,
            entry.xattrs,
            _content(entry.content),
            entry.link and (entry.link.count, members[entry.link.group]),
        )
        for path, entry in entries.items()
    }


def _content(content: object) -> object:
    if isinstance(content, Tree):
        return content.entries, content.size, content.linked
    return content


def few_layers(top: Path) -> Layers:
    """With a file in the lower's root and some in two directories."""
    made = Layers(top)
    for name in ("d/sub", "e"):
        (made.lower / name).mkdir(parents=True)
    for name in ("f", "d/g", "d/sub/h", "e/i"):
        (made.lower / name).write_text(f"base {name}")
    return made


def whiteout(path: Path) -> None:
    """Make the mark that hides what the lower has there."""
    os.mknod(path, stat.S_IFCHR, 0)


def mark(path: Path, name: str, value: bytes = b"y", prefix: str = TRUSTED) -> None:
    """Set an attribute that overlayfs obeys."""
    os.setxattr(path, prefix + name, value, follow_symlinks=False)


def names(root: Snapshot) -> set[str]:
    """All paths in a root."""
    return {os.fsdecode(path) for path, _ in root.walk()} - {"/"}


def text(root: Snapshot, path: str) -> str:
    """What a file holds."""
    content = root.lookup(path.encode()).content
    assert isinstance(content, (Data, Chunked))
    return root.read(content).decode()
