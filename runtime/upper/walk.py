"""The walk over an upper, depth first, merging each of its directories with the base's.

What is not in the upper is taken over from the base without being opened, and of a large directory only the nodes are
that hold the upper's names, so a scan costs what the upper holds. Each file is read through a descriptor that pins it
(runtime.upper.pinned); the whole is what a reader of the merged view could have seen while the scan ran, file by file,
not at one moment: freeze the container for that.

Where an earlier scan is known (runtime.upper.seen), the new root is the earlier one with the names that changed since
(runtime.upper.look) read again: only directories on the way to these are entered, and in them only these names are
opened. Their frames are `known`: what the earlier root holds stands for all other names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache

from msgspec.structs import replace

from runtime.upper import pinned
from runtime.upper.content import Reader
from runtime.upper.conventions import Marks, is_absolute, separate
from runtime.upper.frames import NO_STUBS, Frame, Stubs
from runtime.upper.look import Known
from runtime.upper.owners import Owners
from runtime.upper.result import NotPlain, UpperResult
from runtime.upper.seen import Seen, SeenDirectory, Sighting, joined, reachable
from vcs.attributes import (
    entry_of,
    pinned_symlink,
    read_error,
    read_pinned_xattrs,
    read_xattrs,
    special_content,
)
from vcs.errors import BadInput, Conflict
from vcs.ignore import Ignore
from vcs.links import NO_TREE, LinkGroups, PendingTree, Recount, holds_links, linked_entries, settle
from vcs.model import EMPTY_FILE, Chunked, Content, Data, Entry, Tree, Xattrs
from vcs.snapshot import Snapshot
from vcs.trees import Directory, Sink, write_root

_OPEN_DIRECTORIES = 64
"""Deeper than this, the topmost directories' descriptors are given up, and had again by `..` on the way back."""
_ATTEMPTS = 3
"""How often a name is looked at again whose type changes."""


class _Waiting(LinkGroups):
    """What entries wait for: their links, and contents that are read late."""

    contents: Mapping[bytes, Data | Chunked] = {}

    def finished(self, entry: Entry, key: Hashable) -> Entry:
        entry = super().finished(entry, key)
        content = self.contents.get(key) if isinstance(key, bytes) else None
        return entry if content is None else replace(entry, content=content)


class Walk:
    """One scan. Use once: run()."""

    def __init__(
        self,
        base: Snapshot,
        sink: Sink,
        prefix: str,
        owners: Owners | None,
        reader: Reader,
        was_read: Callable[[], None],
        known: Known | None = None,
        leave_out: Ignore | None = None,
    ) -> None:
        self._base = base
        self._sink = sink
        self._prefix = prefix
        self._owners = owners
        self._reader = reader
        self._was_read = was_read
        self._known = known
        self._leave_out = leave_out
        self._left_out: list[bytes] = []
        self._seen: dict[bytes, SeenDirectory] = dict(known.seen.directories) if known is not None else {}
        self._base_directory = lru_cache(64)(self._open_base_directory)
        self._stack: list[Frame] = []
        self._device = 0
        self._groups = _Waiting(base.id)
        self._of_inode: dict[pinned.Identity, Entry] = {}
        self._touched: set[bytes] = set()
        self._names = self._deleted = 0

    def run(self, upper: bytes, stubs: Stubs) -> UpperResult:
        try:
            fd = pinned.open_directory(upper)
            if fd is None:
                raise BadInput(f"{os.fsdecode(upper)!r} is not a directory", path=upper)
            self._push(b"", fd, self._base.root, stubs, self._known.root.root if self._known is not None else None)
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

    def _push(self, name: bytes, fd: int, lower: Entry | None, stubs: Stubs, earlier: Entry | None = None) -> None:
        """Begin a directory, open as `fd`: read its attributes, and everything in it but subdirectories.

        `lower` is the base's entry at its place, `earlier` that of the earlier root if it is to be gone by.
        """
        path = joined(self._stack[-1].path, name) if self._stack else name
        frame = Frame(name, path, fd, (0, 0), PendingTree(self._base.root), stubs, Sighting(0, 0, (False, None)))
        self._stack.append(frame)
        status = os.fstat(fd)
        self._check_device(status)
        marks, xattrs = self._separate(read_xattrs(fd))
        frame.identity = pinned.identity_of(status)
        frame.tree = PendingTree(self._entry(name, status, NO_TREE, xattrs))
        frame.seen = Sighting(status.st_ino, self._reader.stamp(status), (marks.opaque, marks.redirect))
        frame.place = self._reader.place(status)
        base = self._base_of(name, lower, marks)
        if base is not None and isinstance(base.content, Tree):
            frame.base = self._base.directory(base)
        if base is lower and stubs.holds_any():
            frame.tree.unless_only_time_of = lower
        if len(self._stack) > _OPEN_DIRECTORIES:
            self._stack[-1 - _OPEN_DIRECTORIES].close()
        if not self._go_by(frame, earlier, status):
            if frame.base is not None and base is not None and isinstance(base.content, Tree):
                frame.tree.start_from(frame.base, base.content)
            for child in sorted(map(os.fsencode, os.listdir(fd))):
                self._take(frame, child)
        if base is lower and frame.has_left_out:
            frame.tree.unless_only_time_of = lower
        frame.directories.reverse()

    def _go_by(self, frame: Frame, earlier: Entry | None, status: os.stat_result) -> bool:
        """Begin a directory with what the earlier root holds, if it is the one that was seen, and read what changed."""
        known = self._known
        if known is None or earlier is None or not isinstance(earlier.content, Tree):
            return False
        seen = known.seen.directories[frame.path]
        if (seen.inode, seen.marking) != (frame.seen.inode, frame.seen.marking):
            return False
        frame.earlier = known.root.directory(earlier)
        frame.tree.start_from(frame.earlier, earlier.content)
        change = known.changes.get(frame.path)
        names = change.names if change is not None else set()
        stamp = frame.seen.ctime if change is not None and change.ctime in (None, status.st_ctime_ns) else 0
        frame.seen.take(seen, names)
        frame.seen.ctime = stamp if change is not None else seen.ctime
        frame.read = names
        below = [name for name in known.below(frame.path) if name not in names]
        frame.hidden.update(below)
        for child in sorted(names):
            self._take(frame, child)
        frame.known.update(below)
        frame.directories = sorted([*frame.directories, *below])
        return True

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
                earlier = parent.earlier.lookup(name) if parent.earlier is not None and name in parent.known else None
                if name not in parent.known:
                    parent.seen.directories.append(name)
                self._push(name, fd, parent.below(name), parent.stubs.below.get(name, NO_STUBS), earlier)
                return
            parent.hidden.discard(name)
            if name in parent.known:
                parent.known.discard(name)
                parent.seen.directories.remove(name)
                parent.read = {*parent.read, name}
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
        self._seen[frame.path] = frame.seen.done()
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
        """Take what the upper hides out of what the directory began with, and note the hard links in it."""
        if frame.earlier is not None:
            self._take_out_of_earlier(frame, frame.earlier)
            return
        for name in sorted(frame.hidden) if frame.base is not None else ():
            entry = frame.below(name)
            if entry is not None:
                frame.tree.remove(name)
                if name not in frame.merged:
                    self._touch(entry)

    def _take_out_of_earlier(self, frame: Frame, earlier: Directory) -> None:
        """The same for a known directory: of what the upper has no more, the base shows again."""
        for name in sorted({*frame.hidden, *frame.read}):
            below = frame.below(name)
            if below is not None and name not in frame.merged:
                self._touch(below)
            if name not in frame.hidden and below is not None:
                frame.tree.add(below)
            elif earlier.lookup(name) is not None:
                frame.tree.remove(name)

    def _finish(self, frame: Frame) -> UpperResult:
        self._take_out_of_base(frame)
        self._seen[b""] = frame.seen.done()
        plain = not self._of_inode and not self._touched and self._leave_out is None
        if self._known is not None and not plain:
            raise NotPlain
        self._was_read()
        self._groups.contents = self._reader.later()
        recount = Recount(self._base.objects, self._touched)
        if self._touched:
            for entry in frame.tree.base_links():
                recount.count(entry)
            self._groups.reuse(recount.vacant())
        root = settle(self._sink, frame.tree, self._groups, recount.apply if recount.changed() else None)
        digest = write_root(self._sink, root)
        return UpperResult(
            root=digest,
            entry=root,
            names=self._names,
            deleted=self._deleted,
            files=self._reader.files,
            size=self._reader.size,
            unsteady=tuple(b"/" + path for path in self._reader.unsteady),
            seen=Seen(self._base.id, digest, plain, reachable(self._seen)),
            left_out=tuple(self._left_out),
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
            if self._leave_out and self._leave_out.leaves_out(self._path(name), stat.S_ISDIR(status.st_mode)):
                frame.has_left_out = True
                self._left_out.append(self._path(name))
                return
            self._names += 1
            frame.hidden.add(name)
            if stat.S_ISDIR(status.st_mode):
                frame.directories.append(name)
                return
            if _is_whiteout(status):  # before any thought of hard links: whiteouts share one inode
                self._deleted += 1
            else:
                self._take_file(frame, name, fd, status)
            frame.seen.rows[name] = status.st_ino, self._reader.stamp_of_file(frame, name, status)
        except OSError as error:
            raise read_error(error, self._path(name)) from error
        finally:
            os.close(fd)

    def _take_file(self, frame: Frame, name: bytes, fd: int, status: os.stat_result) -> None:
        if status.st_nlink == 1:
            entry = self._read(frame, name, fd, status)
            if entry is None or (entry.content == EMPTY_FILE and frame.is_stub(name)):
                return
            waiting = self._reader.waiting(entry.content)
            if waiting is None:
                frame.tree.add(entry)
            else:
                frame.tree.add_linked(entry, waiting)
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
            content, status = self._reader.read(frame, name, fd, status)
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
