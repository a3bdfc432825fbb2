"""Merges of random trees: what either side did to the base is in the result, or listed as a conflict.

A file system is a few paths with files, links and directories in it; a side is the base with some operations done.
Lines are never the same twice, so that it can be told of each whose it is.
"""

from __future__ import annotations

import stat
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations

from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.values import directory
from vcs.blobs import put_data
from vcs.links import holds_links
from vcs.merging import Beside, Favour, Labels, Merge, lay_beside, merge_roots
from vcs.model import Data, Device, Entry, Link, Symlink, Tree
from vcs.snapshot import Snapshot
from vcs.testing import MemoryStore
from vcs.trees import write_root

FILES = ("a", "b", "d/a", "d/b", "d/e/a", "d/e/b", "f/a")
PATHS = (*FILES, "d", "d/e", "f")

Operation = tuple[str, str, str, int]


@dataclass
class Inode:
    kind: str
    content: list[str]
    mode: int = 0o644
    uid: int = 0
    mtime: int = 0
    xattrs: dict[str, str] = field(default_factory=dict)
    number: int = 0


@dataclass
class Model:
    """A file system that is changed in place."""

    side: str
    files: dict[str, Inode] = field(default_factory=dict)
    directories: dict[str, Inode] = field(default_factory=dict)
    made: int = 0

    def copy(self, side: str) -> Model:
        known: dict[int, Inode] = {}

        def copied(inode: Inode) -> Inode:
            if id(inode) not in known:
                known[id(inode)] = Inode(**{**vars(inode), "content": [*inode.content], "xattrs": {**inode.xattrs}})
            return known[id(inode)]

        files, directories = (
            {path: copied(inode) for path, inode in old.items()} for old in (self.files, self.directories)
        )
        return Model(side, files, directories)

    def inode(self, kind: str, content: list[str]) -> Inode:
        self.made += 1
        number = blake3(f"{self.side} {self.made}".encode()).digest(8)
        return Inode(kind, content, number=int.from_bytes(number, "big"))

    def room(self, path: str) -> None:
        """Make what is above a path directories, and nothing of the path."""
        self.delete(path)
        parts = path.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            self.files.pop(above, None)
            self.directories.setdefault(above, self.inode("directory", []))

    def delete(self, path: str) -> None:
        for known in (self.files, self.directories):
            for name in [name for name in known if name == path or name.startswith(path + "/")]:
                del known[name]

    def do(self, operation: str, path: str, other: str, number: int) -> None:
        """Change something, if it can be."""
        inode = self.files.get(path) or self.directories.get(path)
        if operation == "create":
            self.room(path)
            lines = [f"{self.side}{number} line {line}" for line in range(3)] if number % 3 else ["the same"]
            self.files[path] = self.inode("file", lines)
        elif operation == "symlink":
            self.room(path)
            self.files[path] = self.inode("symlink", [f"{self.side}{number}"])
        elif operation == "device":
            self.room(path)
            self.files[path] = self.inode("device", [])
        elif operation == "mkdir" and path not in self.directories:
            self.room(path)
            self.directories[path] = self.inode("directory", [])
        elif operation == "delete":
            self.delete(path)
        elif operation == "link" and path in self.files and other != path and not path.startswith(other + "/"):
            target = self.files[path]
            self.room(other)
            if path in self.files:
                self.files[other] = target
        elif inode is not None:
            self.change(inode, operation, number)

    def change(self, inode: Inode, operation: str, number: int) -> None:
        if operation == "write" and inode.kind == "file":
            line = f"{self.side}{number} new"
            if number % 2 and inode.content:
                inode.content[number % len(inode.content)] = line
            else:
                inode.content.insert(number % (len(inode.content) + 1), line)
        elif operation == "chmod":
            inode.mode = 0o600 + number % 8
        elif operation == "chown":
            inode.uid = number
        elif operation == "touch":
            inode.mtime = number
        elif operation == "xattr" and inode.kind != "symlink":
            inode.xattrs[f"user.{number % 2}"] = str(number)

    def snapshot(self, store: MemoryStore) -> Snapshot:
        names: dict[int, int] = defaultdict(int)
        for inode in self.files.values():
            names[inode.number] += 1

        def entry(inode: Inode) -> Entry:
            attributes = {
                "uid": inode.uid,
                "mtime": inode.mtime,
                "xattrs": tuple(sorted((name.encode(), value.encode()) for name, value in inode.xattrs.items())),
            }
            if names[inode.number] > 1:
                attributes["link"] = Link(inode.number.to_bytes(16, "big"), names[inode.number])
            content: Data | Device | Symlink
            if inode.kind == "symlink":
                content, kind = Symlink(inode.content[0].encode()), stat.S_IFLNK
            elif inode.kind == "device":
                content, kind = Device(1, inode.mode), stat.S_IFCHR
            else:
                content, kind = put_data(store, "".join(f"{line}\n" for line in inode.content).encode()), stat.S_IFREG
            return replace(Entry(b"", kind | inode.mode, 0, 0, 0, content), **attributes)

        def built(prefix: str) -> dict[str, Entry]:
            found = {}
            for path, inode in self.files.items():
                if path.rpartition("/")[0] == prefix:
                    found[path.rpartition("/")[2]] = entry(inode)
            for path, inode in self.directories.items():
                if path.rpartition("/")[0] == prefix:
                    fields = {"mode": stat.S_IFDIR | inode.mode, "uid": inode.uid, "mtime": inode.mtime}
                    found[path.rpartition("/")[2]] = directory(store, built(path), **fields)
            return found

        return Snapshot(store, write_root(store, directory(store, built(""))))


_OPERATIONS = ["create", "write", "chmod", "chown", "touch", "xattr", "delete", "link", "symlink", "mkdir"]
_OPERATIONS += ["write", "link"]  # oftener
operations = st.lists(
    st.tuples(st.sampled_from(_OPERATIONS), st.sampled_from(PATHS), st.sampled_from(FILES), st.integers(0, 9)),
    max_size=8,
)
bases = st.lists(
    st.tuples(
        st.sampled_from(["create", "create", "link", "chmod", "mkdir"]),
        st.sampled_from(FILES),
        st.sampled_from(FILES),
        st.integers(0, 9),
    ),
    max_size=12,
)


class Case:
    """A base and two sides."""

    def __init__(self, base: list[Operation], ours: list[Operation], theirs: list[Operation]) -> None:
        self.store = MemoryStore()
        model = Model("base")
        for operation in base:
            model.do(*operation)
        sides = []
        for name, done in (("ours", ours), ("theirs", theirs)):
            side = model.copy(name)
            for operation in done:
                side.do(*operation)
            sides.append(side.snapshot(self.store))
        self.base, (self.ours, self.theirs) = model.snapshot(self.store), sides

    def merge(self, favour: Favour = None, *, swapped: bool = False) -> tuple[Merge, Snapshot]:
        sides = (self.theirs, self.ours) if swapped else (self.ours, self.theirs)
        merge = merge_roots(self.base, *sides, favour)
        return merge, Snapshot(self.store, merge.write(self.store))


cases = st.builds(Case, bases, operations, operations)


def view(snapshot: Snapshot) -> dict[bytes, Entry]:
    return dict(snapshot.walk())


def groups(entries: dict[bytes, Entry]) -> dict[bytes, list[bytes]]:
    found = defaultdict(list)
    for path, entry in entries.items():
        if entry.link:
            found[entry.link.group].append(path)
    return found


def linked(entries: dict[bytes, Entry]) -> set[tuple[bytes, bytes]]:
    return {pair for paths in groups(entries).values() for pair in combinations(sorted(paths), 2)}


def plain(entries: dict[bytes, Entry]) -> tuple[object, object]:
    """What there is, whatever the groups are called."""
    bare = {
        path: replace(entry, link=None, content=None if entry.is_dir else entry.content)
        for path, entry in entries.items()
    }
    return bare, linked(entries)


def check_links(snapshot: Snapshot) -> None:
    """All names of a file hold the same, and are counted."""
    entries = view(snapshot)
    for paths in groups(entries).values():
        members = [entries[path] for path in paths]
        assert len({replace(entry, name=b"") for entry in members}) == 1
        assert members[0].link is not None
        assert members[0].link.count == len(paths) > 1
    for entry in entries.values():
        if isinstance(entry.content, Tree):
            children = list(snapshot.directory(entry))
            assert entry.content.linked == sum(
                child.content.linked if isinstance(child.content, Tree) else child.link is not None
                for child in children
            )


class Check:
    """That one side's changes are in a result."""

    def __init__(self, case: Case, merge: Merge, result: Snapshot, side: Snapshot, other: Snapshot) -> None:
        self.case, self.result = case, view(result)
        self.base, self.side, self.other = view(case.base), view(side), view(other)
        self.told = {conflict.path for conflict in merge.conflicts}
        for entries in (self.base, self.side, self.other, self.result):
            for paths in groups(entries).values():
                if not self.told.isdisjoint(paths):
                    self.told.update(paths)  # a conflict of a file, told at one of its names

    def is_told(self, path: bytes) -> bool:
        while path != b"/":
            if path in self.told:
                return True
            path = path.rpartition(b"/")[0] or b"/"
        return b"/" in self.told

    def run(self) -> None:
        for path in {*self.base, *self.side}:
            if not self.is_told(path):
                self.path(path, self.base.get(path), self.side.get(path), self.other.get(path), self.result.get(path))
        for left, right in linked(self.side) - linked(self.base):
            if {left, right} <= self.result.keys() and not self.is_told(left) and not self.is_told(right):
                is_there = (left, right) in linked(self.result)
                assert is_there or self.is_separated(left) or self.is_separated(right), "a link that was made is gone"

    def path(
        self, path: bytes, base: Entry | None, side: Entry | None, other: Entry | None, result: Entry | None
    ) -> None:
        if side is None:
            assert result is None, "what was deleted is there"
            return
        if self.is_joined(base, side):
            assert result is not None or other is None
            return
        if base is None or stat.S_IFMT(base.mode) != stat.S_IFMT(side.mode):
            if result is None:
                assert other is None, "what was added is missing"
                return
            assert stat.S_IFMT(result.mode) == stat.S_IFMT(side.mode)
            base = None
        if result is None:
            assert other is None, "what was changed is missing"
            assert base is not None
            assert replace(side, link=None, mtime=0) == replace(base, link=None, mtime=0), "a change was deleted"
            return
        for name in ("mode", "uid", "xattrs"):
            if base is None or getattr(side, name) != getattr(base, name):
                if name == "xattrs":
                    was = dict(base.xattrs) if base else {}
                    assert {*side.xattrs} - {*was.items()} <= {*result.xattrs}
                else:
                    assert getattr(result, name) == getattr(side, name), f"{name} of {path!r} was dropped"
        if base is None or side.mtime != base.mtime:
            assert result.mtime >= side.mtime
        if not side.is_dir:
            self.content(base, side, other, result)

    def is_joined(self, base: Entry | None, side: Entry) -> bool:
        """Whether the side made it a name of a file that the other side changed at another: then it is as that is."""
        if side.link is None or (base is not None and base.link and base.link.group == side.link.group):
            return False
        paths = groups(self.side)[side.link.group]
        return any(self.base.get(path) != self.other.get(path) for path in paths)

    def is_separated(self, path: bytes) -> bool:
        """Whether the other side made a name of a file one of its own."""
        base, other = self.base.get(path), self.other.get(path)
        if base is None or base.link is None:
            return False
        return other is None or other.link is None or other.link.group != base.link.group

    def content(self, base: Entry | None, side: Entry, other: Entry | None, result: Entry) -> None:
        if not isinstance(side.content, Data) or base is None or other is None or not isinstance(other.content, Data):
            if base is None or side.content != base.content:
                assert result.content == side.content
            return
        was, now, merged = (self.lines(entry) for entry in (base, side, result))
        assert now - was <= merged, "a line that was added is missing"
        assert not (was - now) & merged, "a line that was removed is there"

    def lines(self, entry: Entry) -> set[bytes]:
        assert isinstance(entry.content, Data)
        return set(self.case.ours.read(entry.content).splitlines())


@settings(max_examples=400, deadline=None)
@given(cases)
def test_nothing_that_a_side_did_is_dropped_silently(case: Case) -> None:
    merge, result = case.merge()
    check_links(result)
    Check(case, merge, result, case.ours, case.theirs).run()
    Check(case, merge, result, case.theirs, case.ours).run()


@settings(max_examples=200, deadline=None)
@given(cases)
def test_with_itself_and_with_its_base_a_side_is_what_it_was(case: Case) -> None:
    for side in (case.ours, case.theirs):
        for ours, theirs in ((side, side), (side, case.base), (case.base, side)):
            merge = merge_roots(case.base, ours, theirs)
            assert not merge.conflicts
            assert merge.write(case.store) == side.id


@settings(max_examples=200, deadline=None)
@given(cases)
def test_it_does_not_matter_who_is_ours(case: Case) -> None:
    merge, result = case.merge()
    mirrored, other = case.merge(swapped=True)
    ours = [(c.kind, c.path, c.ours, c.theirs) for c in merge.conflicts]
    theirs = [(c.kind, c.path, c.theirs, c.ours) for c in mirrored.conflicts]
    # Which names of a file agree depends on what stands where there is a conflict of another kind.
    kinds = {kind for kind, *_ in ours + theirs if kind != "links"}
    assert [row for row in ours if not kinds or row[0] in kinds] == [
        row for row in theirs if not kinds or row[0] in kinds
    ]
    if not merge.conflicts:
        assert plain(view(result)) == plain(view(other))


@settings(max_examples=200, deadline=None)
@given(cases, st.sampled_from(["ours", "theirs"]))
def test_a_favoured_side_decides_conflicts_and_nothing_else(case: Case, favour: Favour) -> None:
    plainly, _ = case.merge()
    merge, result = case.merge(favour)
    check_links(result)
    # Once one side's version of a file has been taken, its names may agree.
    told = [[(c.kind, c.path) for c in found.conflicts if c.kind != "links"] for found in (merge, plainly)]
    assert told[0] == told[1]
    side = case.theirs if favour == "theirs" else case.ours
    for conflict in merge.conflicts:
        if conflict.kind != "links":
            entry, found = side.find(conflict.path), result.find(conflict.path)
            assert (entry and stat.S_IFMT(entry.mode)) == (found and stat.S_IFMT(found.mode))
    assert holds_links(result.root) == bool(linked(view(result)))


class BesideCheck:
    """That a merge whose conflicts were laid beside each other has both sides of each, and the rest as it was."""

    def __init__(self, case: Case) -> None:
        self.case = case
        _, plainly = case.merge()
        self.plainly = view(plainly)
        self.merge, _ = case.merge()
        self.beside = lay_beside(self.merge, Labels("ours", "base", "theirs"))
        self.result = Snapshot(case.store, self.merge.write(case.store))
        self.view = view(self.result)

    def run(self) -> None:
        assert [one.conflict for one in self.beside] == self.merge.conflicts
        check_links(self.result)
        files = {file for one in self.beside for file in one.files}
        marked = {one.conflict.path for one in self.beside if one.is_marked}
        for one in self.beside:
            self.versions(one)
        rest = {path: entry for path, entry in self.view.items() if not any(is_below(path, file) for file in files)}
        assert rest.keys() == self.plainly.keys(), "something else came or went"
        assert {path for path in rest if bare(rest[path]) != bare(self.plainly[path])} == marked
        assert linked(rest) == linked(self.plainly)
        for path in marked:
            self.marked(path)

    def versions(self, one: Beside) -> None:
        path = one.conflict.path
        sides = [snapshot.find(path) for snapshot in (self.case.ours, self.case.theirs, self.case.base)]
        is_shared = all(entry is not None and entry.is_dir for entry in sides[:2])
        suffixes = [suffix for suffix, entry in zip((b".ours", b".theirs", b".base"), sides, strict=True) if entry]
        assert [file.removeprefix(path)[: len(suffix)] for file, suffix in zip(one.files, suffixes, strict=True)] == (
            suffixes
        )
        snapshots = (self.case.ours, self.case.theirs, self.case.base)
        there = [snapshot for snapshot, entry in zip(snapshots, sides, strict=True) if entry]
        for file, snapshot in zip(one.files, there, strict=True):
            wanted = below_of(snapshot, path)
            if is_shared:
                wanted = {b"": wanted[b""]}
            found = below_of(self.result, file)
            assert {inner: bare(entry) for inner, entry in found.items()} == {
                inner: bare(entry) for inner, entry in wanted.items()
            }
            assert linked(found) == linked(wanted)

    def marked(self, path: bytes) -> None:
        base, ours, theirs, found = (self.lines(side, path) for side in (*self.sides, self.result))
        assert {b"<<<<<<< ours", b"||||||| base", b"=======", b">>>>>>> theirs"} <= found
        for side in (ours, theirs):
            assert side - base <= found, "a line that was added is missing"

    @property
    def sides(self) -> tuple[Snapshot, ...]:
        return self.case.base, self.case.ours, self.case.theirs

    def lines(self, side: Snapshot, path: bytes) -> set[bytes]:
        entry = side.find(path)
        return set(side.read(entry.content).splitlines()) if entry and isinstance(entry.content, Data) else set()


def is_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top + b"/")


def below_of(snapshot: Snapshot, top: bytes) -> dict[bytes, Entry]:
    return {path.removeprefix(top): entry for path, entry in snapshot.walk(top)}


def bare(entry: Entry) -> Entry:
    return replace(entry, name=b"", link=None, content=None if entry.is_dir else entry.content)


@settings(max_examples=600, deadline=None)
@given(cases)
def test_both_sides_of_each_conflict_stand_beside_each_other(case: Case) -> None:
    BesideCheck(case).run()
