"""The walk over an upper, depth first, merging each of its directories with the base's.

What is not in the upper is taken over from the base without being opened, and of a large directory only the nodes are
that hold the upper's names, so a scan costs what the upper holds. Each file is read through a descriptor that pins it
(runtime.upper.pinned); the whole is what a reader of the merged view could have seen while the scan ran, file by file,
not at one moment: freeze the container for that.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from runtime.upper import pinned
from runtime.upper.conventions import TRUSTED, Marks, is_absolute, separate
from runtime.upper.frames import NO_STUBS, Frame, Stubs, nested_stubs
from runtime.upper.owners import Owners
from vcs.attributes import (
    entry_of,
    pinned_symlink,
    read_error,
    read_pinned_xattrs,
    read_xattrs,
    special_content,
)
from vcs.blobs import LARGE, cuts_of, write_file
from vcs.errors import BadInput, Conflict
from vcs.links import NO_TREE, LinkGroups, PendingTree, Recount, holds_links, linked_entries, settle
from vcs.model import EMPTY_FILE, Chunked, Content, Data, Entry, ListItem, RootId, Tree, Xattrs
from vcs.snapshot import Snapshot
from vcs.trees import Directory, Sink, write_root

_OPEN_DIRECTORIES = 64
"""Deeper than this, the topmost directories' descriptors are given up, and had again by `..` on the way back."""
_ATTEMPTS = 3
"""How often a name is looked at again whose type changes, or a file read again that is being written."""
_REREAD_MAX = 64 << 20
"""A larger file that is being written is read once."""


class ContentCache(Protocol):
    """Remembers what files held: vcs.statcache.StatCache. Contents it returns must be in the sink's store."""

    def get(self, status: os.stat_result) -> Data | Chunked | None:
        """The content of the file with this status, if it has certainly not changed."""
        ...

    def put(self, status: os.stat_result, content: Data | Chunked, now_ns: int) -> None:
        """Remember a file's content, whose reading began at `now_ns` (time.time_ns)."""
        ...


@dataclass(frozen=True, slots=True)
class UpperResult:
    """A scanned upper."""

    root: RootId
    entry: Entry
    """The root's entry; its digest is `root`."""
    names: int
    """Names looked at in the upper."""
    deleted: int
    """Whiteouts among them."""
    files: int
    """Regular files whose content was read; not those that are empty, metacopies, or in the cache."""
    size: int
    """Bytes in these, holes included."""
    unsteady: tuple[bytes, ...]
    """Paths of files that were written to each time they were read: their content may never have been so at once."""


def scan_upper(
    upper: Path,
    base: Snapshot,
    sink: Sink,
    *,
    stubs: Collection[bytes] = (),
    prefix: str = TRUSTED,
    cache: ContentCache | None = None,
    ids: int | None = None,
) -> UpperResult:
    """The root that an overlay of `upper` on `base` shows, written to `sink`. The upper is not changed.

    `stubs`: absolute paths of mount targets that the runtime made in the upper. One that is still empty, and that the
    base does not have, is left out, and so is the time stamp that making it left on its directory.
    `prefix`: TRUSTED, or USER for an overlay mounted with userxattr.
    `ids`: the first of the container's own ids, if it has such (runtime.upper.owners).

    BadInput if the upper cannot have come from an overlay on this base; Denied if a file cannot be read; Conflict if
    directories are moved about faster than they can be read.
    """
    owners = None if ids is None else Owners(ids)
    return _Scan(base, sink, prefix, cache, owners).run(os.fsencode(upper), nested_stubs(stubs))


class _Scan:
    def __init__(
        self, base: Snapshot, sink: Sink, prefix: str, cache: ContentCache | None, owners: Owners | None = None
    ) -> None:
        self._base = base
        self._sink = sink
        self._prefix = prefix
        self._cache = cache
        self._owners = owners
        self._base_directory = lru_cache(64)(self._open_base_directory)
        self._stack: list[Frame] = []
        self._device = 0
        self._groups = LinkGroups(base.id)
        self._of_inode: dict[pinned.Identity, Entry] = {}
        self._touched: set[bytes] = set()
        self._names = self._deleted = self._files = self._size = 0
        self._unsteady: list[bytes] = []

    def run(self, upper: bytes, stubs: Stubs) -> UpperResult:
        try:
            fd = pinned.open_directory(upper)
            if fd is None:
                raise BadInput(f"{os.fsdecode(upper)!r} is not a directory", path=upper)
            self._push(b"", fd, self._base.root, stubs)
            while True:
                frame = self._stack[-1]
                if frame.directories:
                    self._enter(frame, frame.directories.pop())
                elif len(self._stack) > 1:
                    self._leave()
                else:
                    return self._finish(frame)
        except OSError as error:
            raise read_error(error, self._path() if self._stack else upper) from error
        finally:
            for frame in self._stack:
                frame.close()

    # Directories

    def _push(self, name: bytes, fd: int, lower: Entry | None, stubs: Stubs) -> None:
        """Begin a directory, open as `fd`: read its attributes, and everything in it but subdirectories.

        `lower` is the base's entry at its place.
        """
        frame = Frame(name, fd, (0, 0), PendingTree(self._base.root), stubs)
        self._stack.append(frame)
        status = os.fstat(fd)
        self._check_device(status)
        marks, xattrs = self._separate(read_xattrs(fd))
        frame.identity = pinned.identity_of(status)
        frame.tree = PendingTree(self._entry(name, status, NO_TREE, xattrs))
        base = self._base_of(name, lower, marks)
        if base is not None and isinstance(base.content, Tree):
            frame.base = self._base.directory(base)
            frame.tree.start_from(frame.base, base.content)
        if base is lower and stubs.holds_any():
            frame.tree.unless_only_time_of = lower
        if len(self._stack) > _OPEN_DIRECTORIES:
            self._stack[-1 - _OPEN_DIRECTORIES].close()
        for child in sorted(map(os.fsencode, os.listdir(fd))):
            self._take(frame, child)
        frame.directories.reverse()

    def _base_of(self, name: bytes, lower: Entry | None, marks: Marks) -> Entry | None:
        """The directory of the base that shows through one of the upper."""
        if len(self._stack) == 1:
            return lower  # an overlay's root is always merged, whatever it is marked with
        if marks.opaque:
            return None
        parent = self._stack[-2]
        if marks.redirect is not None:
            lower = self._redirected(parent, marks.redirect)
            if lower is not None:
                self._touch(lower)  # were the base's directory to show up twice, so would the names in it
        elif lower is not None and lower.is_dir:
            parent.merged.add(name)
        return lower if lower is not None and lower.is_dir else None

    def _enter(self, parent: Frame, name: bytes) -> None:
        """Begin a subdirectory, or whatever is there now."""
        for _ in range(_ATTEMPTS):
            try:
                fd = pinned.open_directory(name, parent.fd)
            except OSError as error:
                raise read_error(error, self._path(name)) from error
            if fd is not None:
                self._push(name, fd, parent.below(name), parent.stubs.below.get(name, NO_STUBS))
                return
            parent.hidden.discard(name)
            self._take(parent, name)
            if not parent.directories or parent.directories[-1] != name:
                return
            parent.directories.pop()
        path = self._path(name)
        raise Conflict(f"{os.fsdecode(path)!r} changes faster than it can be read", path=path)

    def _leave(self) -> None:
        """End the directory on top of the stack, and give it to its parent."""
        frame, parent = self._stack[-1], self._stack[-2]
        if parent.fd < 0:
            parent.fd = pinned.open_parent(frame.fd, parent.identity)
        self._take_out_of_base(frame)
        frame.close()
        self._stack.pop()
        if parent.is_stub(frame.name) and frame.tree.is_empty():
            return
        done = frame.tree.close(self._sink)
        if done is None:
            parent.tree.add_pending(frame.tree)
        else:
            parent.tree.add(done)

    def _take_out_of_base(self, frame: Frame) -> None:
        """Take what the upper hides out of the base's directory, and note the hard links in it."""
        for name in sorted(frame.hidden) if frame.base is not None else ():
            entry = frame.below(name)
            if entry is not None:
                frame.tree.remove(name)
                if name not in frame.merged:
                    self._touch(entry)

    def _finish(self, frame: Frame) -> UpperResult:
        self._take_out_of_base(frame)
        recount = Recount(self._base.objects, self._touched)
        if self._touched:
            for entry in frame.tree.base_links():
                recount.count(entry)
            self._groups.reuse(recount.vacant())
        root = settle(self._sink, frame.tree, self._groups, recount.apply if recount.changed() else None)
        return UpperResult(
            root=write_root(self._sink, root),
            entry=root,
            names=self._names,
            deleted=self._deleted,
            files=self._files,
            size=self._size,
            unsteady=tuple(self._unsteady),
        )

    # Names

    def _take(self, frame: Frame, name: bytes) -> None:
        """Read one name of a directory; a subdirectory is noted for later."""
        fd = pinned.pin(frame.fd, name)
        if fd is None:
            return  # as if we had come a moment later: the name is not in the upper
        try:
            status = os.fstat(fd)
            self._check_device(status)
            self._names += 1
            frame.hidden.add(name)
            if stat.S_ISDIR(status.st_mode):
                frame.directories.append(name)
            elif _is_whiteout(status):  # before any thought of hard links: whiteouts share one inode
                self._deleted += 1
            else:
                self._take_file(frame, name, fd, status)
        except OSError as error:
            raise read_error(error, self._path(name)) from error
        finally:
            os.close(fd)

    def _take_file(self, frame: Frame, name: bytes, fd: int, status: os.stat_result) -> None:
        if status.st_nlink == 1:
            entry = self._read(frame, name, fd, status)
            if entry is not None and not (entry.content == EMPTY_FILE and frame.is_stub(name)):
                frame.tree.add(entry)
            return
        key = pinned.identity_of(status)
        known = self._of_inode.get(key)
        entry = self._read(frame, name, fd, status) if known is None else replace(known, name=name)
        if entry is not None:
            self._of_inode[key] = entry
            below = frame.below(name)
            self._groups.add(key, self._path(name), below.link if below is not None else None)
            frame.tree.add_linked(entry, key)

    def _read(self, frame: Frame, name: bytes, fd: int, status: os.stat_result) -> Entry | None:
        """The entry of a pinned file that is not a directory; None if it is an attribute whiteout."""
        marks, xattrs = self._separate(read_pinned_xattrs(fd), name)
        content: Content
        if stat.S_ISLNK(status.st_mode):
            content = pinned_symlink(fd)
        elif not stat.S_ISREG(status.st_mode):
            content = special_content(status)
        elif marks.whiteout and not status.st_size:
            self._deleted += 1
            return None
        elif marks.metacopy:
            content = self._base_content(frame, name, marks, status)
        else:
            content, status = self._content(frame, name, fd, status)
        return self._entry(name, status, content, xattrs)

    def _entry(self, name: bytes, status: os.stat_result, content: Content, xattrs: Xattrs) -> Entry:
        entry = entry_of(name, status, content, xattrs)
        return entry if self._owners is None else self._owners.seen_from_inside(entry)

    def _base_content(self, frame: Frame, name: bytes, marks: Marks, status: os.stat_result) -> Data | Chunked:
        """The content of a metacopy file, whose data is the base's."""
        lower = frame.below(name) if marks.redirect is None else self._redirected(frame, marks.redirect)
        content = lower.content if lower is not None else None
        if not isinstance(content, (Data, Chunked)) or content.size != status.st_size:
            path = self._path(name)
            raise BadInput(f"{os.fsdecode(path)!r} has its data in a file that the base does not have", path=path)
        return content

    def _content(
        self, frame: Frame, name: bytes, fd: int, status: os.stat_result
    ) -> tuple[Data | Chunked, os.stat_result]:
        """The content of a pinned regular file, and its status when it was so."""
        if not status.st_size:
            return EMPTY_FILE, status
        known = self._cache.get(status) if self._cache is not None else None
        if known is not None:
            return known, status
        lower = frame.below(name) if status.st_size >= LARGE else None
        before = cuts_of(self._base.objects, lower.content) if lower is not None else None
        for _ in range(_ATTEMPTS if status.st_size <= _REREAD_MAX else 1):
            now = time.time_ns()
            content, after = self._read_file(fd, status, before)
            if pinned.same_state(status, after):
                if self._cache is not None:
                    self._cache.put(status, content, now)
                return content, status
            status = after
        self._unsteady.append(self._path(name))
        return content, status

    def _read_file(
        self, fd: int, status: os.stat_result, before: Mapping[int, ListItem] | None
    ) -> tuple[Data | Chunked, os.stat_result]:
        opened = pinned.open_file(fd)
        try:
            content = write_file(self._sink, opened, status, before)
            after = os.fstat(opened)
        finally:
            os.close(opened)
        self._files += 1
        self._size += content.size
        return content, after

    # The base

    def _redirected(self, parent: Frame, redirect: bytes) -> Entry | None:
        """The base's entry that a redirect names, found on a file or directory in `parent`."""
        if not is_absolute(redirect):
            return parent.below(redirect)
        directory, _, name = redirect.rpartition(b"/")
        found = self._base_directory(directory)
        return found.lookup(name) if found is not None else None

    def _open_base_directory(self, path: bytes) -> Directory | None:
        entry = self._base.find(path)
        return self._base.directory(entry) if entry is not None and entry.is_dir else None

    def _touch(self, entry: Entry) -> None:
        """Note the groups of hard links at and below an entry of the base, to be counted again."""
        if holds_links(entry):
            found = linked_entries(self._base.objects, entry)
            self._touched.update(item.link.group for item in found if item.link is not None)

    # The rest

    def _separate(self, xattrs: Xattrs, name: bytes = b"") -> tuple[Marks, Xattrs]:
        try:
            return separate(xattrs, self._prefix)
        except BadInput as error:
            path = self._path(name)
            raise BadInput(f"{os.fsdecode(path)!r}: {error}", path=path, **error.facts) from error

    def _check_device(self, status: os.stat_result) -> None:
        if not self._device:
            self._device = status.st_dev
        elif status.st_dev != self._device:
            raise BadInput("another file system is mounted inside the upper", path=self._path())

    def _path(self, name: bytes = b"") -> bytes:
        """The path, in the new root, of a name in the directory being read; of the directory itself by default."""
        names = [frame.name for frame in self._stack[1:]]
        return b"/" + b"/".join([*names, name] if name else names)


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
