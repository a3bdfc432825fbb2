"""A directory of the host -> a root in the store.

The walk keeps no more than the directories it is in: each is written as soon as everything below it is known. Only
those that hold hard links wait for the end (vcs.links says how).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vcs.attributes import entry_of, read_xattrs, special_content
from vcs.blobs import write_file
from vcs.errors import BadInput, Denied
from vcs.links import NO_TREE, LinkGroups, PendingTree, settle
from vcs.model import Chunked, Content, Data, Entry, RootId, Symlink, Tree
from vcs.progress import Meter, Progress
from vcs.trees import Sink, write_root

_GROWING = 512 << 10
"""A file of more bytes is asked for its size again once it is open: it is more likely to be growing."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(slots=True)
class ImportResult:
    """What an import made."""

    root: RootId
    entries: int
    size: int
    """Bytes in files, holes included."""
    vanished: list[bytes] = field(default_factory=list)
    """Paths that were deleted while we read; they are not in the root."""
    skipped: list[bytes] = field(default_factory=list)
    """Mount points of other filesystems, and what was to be left out: in the root as empty directories."""


def import_directory(
    sink: Sink,
    source: Path,
    *,
    one_file_system: bool = True,
    leave_out: frozenset[tuple[int, int]] = frozenset(),
    progress: Progress | None = None,
) -> ImportResult:
    """Write the tree at `source` into the sink. Symbolic links in it are never followed.

    `leave_out` names directories by (st_dev, st_ino) whose contents are not wanted. BadInput if `source` is not a
    directory; Denied, with the path, at the first thing that cannot be read.
    """
    top = os.path.abspath(os.fsencode(source))
    try:
        return _Walk(sink, top, one_file_system, leave_out, progress).run()
    except PermissionError as error:
        name = os.fsdecode(error.filename or top)
        raise Denied(f"{name} cannot be read: {error.strerror}", path=name) from error


@dataclass(slots=True)
class _Frame:
    """A directory on the way: its names still to be visited, and what is known of it."""

    items: Iterator[os.DirEntry[bytes]]
    tree: PendingTree


class _Walk:
    def __init__(
        self,
        sink: Sink,
        top: bytes,
        one_file_system: bool,
        leave_out: frozenset[tuple[int, int]],
        progress: Progress | None,
    ) -> None:
        self._sink = sink
        self._top = top
        self._prefix = len(top.rstrip(b"/"))
        self._one_file_system = one_file_system
        self._leave_out = leave_out
        self._meter = Meter(progress)
        self._links = LinkGroups()
        self._contents: dict[tuple[int, int], Content] = {}
        self._vanished: list[bytes] = []
        self._skipped: list[bytes] = []
        self._device = 0

    def run(self) -> ImportResult:
        try:
            status = os.stat(self._top)
            items = self._scan(self._top)
        except (FileNotFoundError, NotADirectoryError) as error:
            name = os.fsdecode(self._top)
            raise BadInput(f"{name} cannot be imported: {error.strerror}", path=name) from None
        self._device = status.st_dev
        entry = entry_of(b"", status, NO_TREE, read_xattrs(self._top))
        root = self._walk(_Frame(items, PendingTree(entry)))
        self._meter.close()
        assert isinstance(root.content, Tree)
        return ImportResult(
            write_root(self._sink, root), root.content.entries, root.content.size, self._vanished, self._skipped
        )

    def _walk(self, top: _Frame) -> Entry:
        """Visit everything below `top`, depth first; directories are written as they are left."""
        stack = [top]
        while True:
            frame = stack[-1]
            for item in frame.items:
                below = self._visit(frame.tree, item)
                if below is not None:
                    stack.append(below)
                    break
            else:
                stack.pop()
                done = frame.tree.close(self._sink)
                if not stack:
                    return done or settle(self._sink, frame.tree, self._links)
                if done:
                    stack[-1].tree.add(done)
                else:
                    stack[-1].tree.add_pending(frame.tree)

    def _visit(self, tree: PendingTree, item: os.DirEntry[bytes]) -> _Frame | None:
        """Take one name into the tree; a directory is returned, to be visited next."""
        path = item.path
        try:
            status = item.stat(follow_symlinks=False)
            xattrs = read_xattrs(path)
            if stat.S_ISDIR(status.st_mode):
                items = iter(()) if self._is_left_out(path, status) else self._scan(path)
                return _Frame(items, PendingTree(entry_of(item.name, status, NO_TREE, xattrs)))
            content = self._content(path, status)
        except (FileNotFoundError, NotADirectoryError):
            self._vanished.append(path[self._prefix :])
            return None
        entry = entry_of(item.name, status, content, xattrs)
        if status.st_nlink > 1:
            key = status.st_dev, status.st_ino
            self._links.add(key, path[self._prefix :])
            tree.add_linked(entry, key)
        else:
            tree.add(entry)
        return None

    def _content(self, path: bytes, status: os.stat_result) -> Content:
        if stat.S_ISLNK(status.st_mode):
            return Symlink(os.readlink(path))
        if not stat.S_ISREG(status.st_mode):
            return special_content(status)
        if status.st_nlink == 1:
            return self._file(path, status)
        key = status.st_dev, status.st_ino
        if key not in self._contents:
            self._contents[key] = self._file(path, status)
        return self._contents[key]

    def _file(self, path: bytes, status: os.stat_result) -> Data | Chunked:
        fd = _open(path)
        try:
            if status.st_size > _GROWING:
                status = os.fstat(fd)
            content = write_file(self._sink, fd, status)
        finally:
            os.close(fd)
        self._meter.add(1, content.size)
        return content

    def _scan(self, path: bytes) -> Iterator[os.DirEntry[bytes]]:
        with os.scandir(path) as names:
            return iter(sorted(names, key=_name))

    def _is_left_out(self, path: bytes, status: os.stat_result) -> bool:
        other = self._one_file_system and status.st_dev != self._device
        if other or (status.st_dev, status.st_ino) in self._leave_out:
            self._skipped.append(path[self._prefix :])
            return True
        return False


def _open(path: bytes) -> int:
    """Open for reading without touching the atime, where we may (only the owner and root may: open(2))."""
    try:
        return os.open(path, _FLAGS | os.O_NOATIME)
    except PermissionError:
        return os.open(path, _FLAGS)


def _name(item: os.DirEntry[bytes]) -> bytes:
    return item.name
