"""A directory of the host -> a root in the store.

The walk keeps no more than the directories it is in: each is written as soon as everything below it is known. Only
those that hold hard links wait for the end (vcs.links says how).

With a cache (vcs.importcache), a directory whose names and records are as they were is not read: what the last root has
there stays, unless something further down has changed. A directory with changes begins as the last root's, and only
the names that differ are read. So the cost is a stat(2) for each name, and what has changed.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from vcs import livedir
from vcs.attributes import entry_of, read_xattrs
from vcs.blobs import LARGE, cuts_of
from vcs.errors import BadInput, Denied
from vcs.ignore import FILE_NAME, NO_PATTERNS, Ignore
from vcs.importcache import UNKNOWN, ImportCache, Place, are_as_recorded, device_and_inode, record_of
from vcs.importframe import Before, Frame
from vcs.importlinks import ImportLinks, NewLinksError
from vcs.importresult import ImportResult
from vcs.links import NO_TREE, PendingTree, rewrite_links, settle
from vcs.livedir import Identity
from vcs.model import Entry, ListItem, RootId, Tree
from vcs.progress import Meter, Progress
from vcs.reading import UnreadableError, is_whiteout, read_directory_name, read_name
from vcs.trees import Sink, write_root, write_tree

_NOBODY = 65534
_OPEN_DIRECTORIES = 64
"""Deeper than this, the topmost directories' descriptors are given up, and had again by `..` on the way back."""


def import_directory(
    sink: Sink,
    source: Path,
    *,
    one_file_system: bool = True,
    leave_out: frozenset[Identity] = frozenset(),
    ignore: Ignore = NO_PATTERNS,
    cache: ImportCache | None = None,
    progress: Progress | None = None,
) -> ImportResult:
    """Write the tree at `source` into the sink. Symbolic links in it are never followed.

    `leave_out` names directories by (st_dev, st_ino) whose contents are not wanted, `ignore` the patterns of names that
    are not. With a `cache` the result is the same, sooner. BadInput if `source` is not a directory or a pattern file in
    it is broken; Denied, with the path, at the first thing that cannot be read.
    """
    top = os.path.abspath(os.fsencode(source))
    while True:
        try:
            return _Walk(sink, top, one_file_system, leave_out, cache, progress).run(ignore)
        except NewLinksError:
            assert cache is not None
            cache.forget()


class _Walk:
    def __init__(
        self,
        sink: Sink,
        top: bytes,
        one_file_system: bool,
        leave_out: frozenset[Identity],
        cache: ImportCache | None,
        progress: Progress | None,
    ) -> None:
        self._sink = sink
        self._top = top
        self._one_file_system = one_file_system
        self._device = 0
        self._leave_out = leave_out
        self._cache = cache
        self._previous = cache.previous if cache else None
        self._meter = Meter(progress)
        self._links = ImportLinks()
        self._result = ImportResult(RootId(b""), 0, 0)

    def run(self, ignore: Ignore) -> ImportResult:
        top, status = self._open_top(ignore)
        root = self._walk(top)
        result = self._result
        if root is not None:
            result.root = write_root(self._sink, root)
            if self._cache is not None and top.place is not None:
                self._cache.finish(top.lasting(status, record_of(status)), top.place)
        else:
            assert self._previous is not None
            root, result.root = self._previous.snapshot.root, self._previous.root
        self._meter.close()
        assert isinstance(root.content, Tree)
        result.entries, result.size = root.content.entries, root.content.size
        return result

    # -- from directory to directory

    def _open_top(self, ignore: Ignore) -> tuple[Frame, os.stat_result]:
        fd = -1
        try:
            fd = livedir.open_top(self._top)
            status = os.fstat(fd)
            self._device = status.st_dev
            top = Frame(b"", fd, (status.st_dev, status.st_ino), ignore, livedir.keeps_ctimes(fd), self._position)
            if self._previous is not None:
                top.base, top.at = self._previous.snapshot.root, self._previous.top
                top.row = self._previous.row(top.at)
            if self._previous is None or self._previous.record != record_of(status):
                top.entry = entry_of(b"", status, NO_TREE, read_xattrs(fd))
            self._look(top)
        except OSError as error:
            _close(fd)
            name = os.fsdecode(self._top)
            kind = Denied if isinstance(error, PermissionError) else BadInput
            raise kind(f"{name} cannot be read: {error.strerror}", path=name) from error
        return top, status

    def _walk(self, top: Frame) -> Entry | None:
        """Visit everything below `top`, depth first. The root's entry; None if it is as it was."""
        stack = [top]
        try:
            while True:
                frame = stack[-1]
                below = next(frame.steps, None)
                if below is not None:
                    stack.append(below)
                    if len(stack) > _OPEN_DIRECTORIES:
                        stack[-1 - _OPEN_DIRECTORIES].close()
                    continue
                parent = frame.parent
                if parent is None:
                    return self._finished(frame)
                if parent.fd < 0:
                    parent.fd = livedir.open_parent(frame.fd, parent.identity)
                frame.close()
                stack.pop()
                self._leave(frame, parent)
        finally:
            for frame in stack:
                frame.close()

    def _enter(
        self, parent: Frame, number: int, identity: Identity, status: os.stat_result | None, at: int | None
    ) -> Frame | None:
        """Open a subdirectory. Its row was at `at`; `status` is None if its own attributes are as they were."""
        name = parent.names[number]
        path = parent.path + b"/" + name
        if identity in self._leave_out or (self._one_file_system and identity[0] != self._device):
            self._result.skipped.append(path)
            self._pass_by(parent, number)
            return None
        fd = -1
        try:
            fd = livedir.open_directory(name, parent.fd)
            trusted = parent.trusted if identity[0] == parent.identity[0] else livedir.keeps_ctimes(fd)
            frame = Frame(path, fd, identity, parent.ignore, trusted, self._position, parent, number)
            if at is not None and self._previous is not None:
                frame.at, frame.row = at, self._previous.row(at)
            if status is not None:
                frame.entry = entry_of(name, status, NO_TREE, read_xattrs(fd))
            self._look(frame)
        except (OSError, BadInput) as error:
            _close(fd)
            if isinstance(error, BadInput):
                raise
            self._failed(parent, number, error)
            return None
        return frame

    def _look(self, frame: Frame) -> None:
        """List a directory, and see whether it needs more than that."""
        names = livedir.list_names(frame.fd)
        if frame.ignore.files:
            position = bisect_left(names, FILE_NAME)
            if position < len(names) and names[position] == FILE_NAME:
                frame.ignore = frame.ignore.with_file(frame.fd, frame.path)
        if not frame.ignore.is_empty():
            directories = livedir.list_directories(frame.fd)
            leaves_out, prefix, before = frame.ignore.leaves_out, frame.path + b"/", len(names)
            names = [name for name in names if not leaves_out(prefix + name, name in directories)]
            self._result.left_out += before - len(names)
        frame.names = names
        row = frame.row
        if row is not None and row.names == b"\0".join(names) and are_as_recorded(frame.fd, names, row.records):
            self._meter.add(len(names) - len(row.below), row.size)
            frame.is_same = True
            frame.steps = self._pass(frame)
        else:
            frame.steps = self._read(frame)

    def _leave(self, frame: Frame, parent: Frame) -> None:
        """Everything below a directory is known: take it into the one above, unless it is as it was."""
        if frame.tree is None and frame.entry is None:
            assert frame.row is not None
            parent.below.append((frame.number, Place(frame.at, kept=True)))
            parent.links += frame.row.links
            return
        tree = self._tree(frame)
        parent.below.append((frame.number, self._recorded(frame)))
        parent.links += frame.links + len(frame.linked)
        above = self._tree(parent)
        done = tree.close(self._sink)
        if done:
            above.add(done)
        else:
            above.add_pending(tree)

    def _finished(self, top: Frame) -> Entry | None:
        """The root's entry, once everything is known."""
        if top.tree is None and top.entry is None:
            return None
        tree = self._tree(top)
        top.place = self._recorded(top)
        done = tree.close(self._sink)
        if done:
            return done
        changed = self._links.changed(self._previous) if self._previous else {}
        if not changed or self._previous is None:
            return settle(self._sink, tree, self._links.groups)
        objects = self._previous.snapshot.objects
        return settle(
            self._sink, tree, self._links.groups, lambda sink, entry: rewrite_links(objects, sink, entry, changed)
        )

    # -- one directory

    def _pass(self, frame: Frame) -> Iterator[Frame]:
        """Go through a directory that is as it was, but for what may have changed further down."""
        row = frame.row
        assert row is not None
        for number, distance in row.below:
            below = self._enter(frame, number, device_and_inode(row.record(number)), None, frame.at - distance)
            if below:
                yield below

    def _read(self, frame: Frame) -> Iterator[Frame]:
        """Go through a directory that has changed, or was not there."""
        tree = self._tree(frame)
        before = Before(frame.row) if frame.row else None
        for number, name in enumerate(frame.names):
            try:
                status = os.stat(name, dir_fd=frame.fd, follow_symlinks=False)
            except OSError as error:
                frame.records += UNKNOWN if self._cache else b""
                self._failed(frame, number, error)
                continue
            record = record_of(status) if self._cache else b""
            old = before.find(name) if before else None
            same = before is not None and old is not None and before.record(old) == record
            self._result.nobody += not same and _NOBODY in (status.st_uid, status.st_gid)
            if record:
                frame.records += frame.lasting(status, record)
            if stat.S_ISDIR(status.st_mode):
                distance = before.distance(old) if before and old is not None else None
                own = None if same and distance is not None else status
                at = None if distance is None else frame.at - distance
                below = self._enter(frame, number, (status.st_dev, status.st_ino), own, at)
                if below:
                    yield below
                continue
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            frame.size += size
            if not same:
                self._take(frame, tree, number, status)
                continue
            self._meter.add(1, size)
            if status.st_nlink > 1:
                frame.linked.append(number)
                self._links.stays(record, frame.path + b"/" + name)
        for name in before.gone() if before else ():
            tree.remove(name)

    def _take(self, frame: Frame, tree: PendingTree, number: int, status: os.stat_result) -> None:
        """Take a name that is no directory into the tree."""
        if status.st_nlink == 1:
            entry = self._entry(frame, number, status)
            if entry:
                tree.add(entry)
            return
        name = frame.names[number]
        identity = status.st_dev, status.st_ino
        known = self._links.read.get(identity)
        if known is None:
            entry = self._entry(frame, number, status)
            if not entry:
                return
            known = self._links.read[identity] = frame.record(number) or identity, entry
        elif isinstance(known[0], bytes):
            frame.set_record(number, known[0])  # it may have changed since its first name was read
        frame.linked.append(number)
        self._links.groups.add(known[0], frame.path + b"/" + name)
        tree.add_linked(replace(known[1], name=name), known[0])

    def _entry(self, frame: Frame, number: int, status: os.stat_result) -> Entry | None:
        """Read a name that is no directory; None if it has gone."""
        try:
            before = self._cuts_before(frame, frame.names[number]) if status.st_size >= LARGE else None
            entry = read_name(self._sink, frame.fd, frame.names[number], status, self._meter, before)
        except UnreadableError as unreadable:
            self._failed(frame, number, unreadable.error)
            return None
        if is_whiteout(status.st_mode, entry.content):
            self._result.whiteouts.append(frame.path + b"/" + entry.name)
            frame.spoil(number)
        return entry

    def _cuts_before(self, frame: Frame, name: bytes) -> Mapping[int, ListItem] | None:
        """Where the file of this name was cut in the last root."""
        entry = frame.directory.lookup(name) if frame.directory is not None else None
        if entry is None or self._previous is None:
            return None
        return cuts_of(self._previous.snapshot.objects, entry.content)

    def _pass_by(self, frame: Frame, number: int) -> None:
        """Take a directory into the tree without what is in it."""
        try:
            entry = read_directory_name(frame.fd, frame.names[number])
        except UnreadableError as unreadable:
            self._failed(frame, number, unreadable.error)
            return
        tree = self._tree(frame)
        frame.spoil(number)
        tree.add(replace(entry, content=write_tree(self._sink, [])))

    def _failed(self, frame: Frame, number: int, error: OSError) -> None:
        """A name could not be read: note that it has gone, or raise what the error means."""
        path = frame.path + b"/" + frame.names[number]
        if error.errno not in livedir.GONE:
            full = os.fsdecode(self._top.rstrip(b"/") + path)
            kind = Denied if isinstance(error, PermissionError) else BadInput
            raise kind(f"{full} cannot be read: {error.strerror}", path=full) from error
        self._result.vanished.append(path)
        if frame.row is not None:
            self._tree(frame).remove(frame.names[number])
        frame.spoil(number)

    # -- what the last import knew

    @property
    def _position(self) -> int:
        return self._cache.recorder.position if self._cache else 0

    def _tree(self, frame: Frame) -> PendingTree:
        """What becomes of a directory, now that something about it has changed."""
        if frame.tree is not None:
            return frame.tree
        if frame.row is None:
            assert frame.entry is not None
            frame.tree = PendingTree(frame.entry, ordered=self._sink)
            return frame.tree
        assert self._previous is not None
        base, directory = frame.opened_base(self._previous.snapshot)
        assert isinstance(base.content, Tree)
        frame.tree = PendingTree(frame.entry or base)
        frame.tree.start_from(directory, base.content)
        if frame.is_same:
            frame.take_over(frame.row)
            self._links.row_stays(frame.at, frame.path, below=False)
        return frame.tree

    def _recorded(self, frame: Frame) -> Place:
        """Write the row of a directory that has changed."""
        for number, place in frame.below:
            if place.kept:
                self._links.row_stays(place.at, frame.path + b"/" + frame.names[number], below=True)
        if self._cache is None:
            return Place(0)
        return self._cache.recorder.add(frame.start, frame.as_row(), frame.below)


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
