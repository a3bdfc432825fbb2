"""What is above the roots: decided here and only here, for every driver.

    trees/<root>/...           the file system of any root in the store: overlays' lower; those of commits are listed
    commits/<id>               -> ../trees/<root>
    branches/<name>            -> ../trees/<root>; a name with slashes lies in as many directories
    tags/<name>                the same
    containers/<name>          the same, of its base; where the source knows containers
    at/<ISO time>/<branch>     -> ../../trees/<root>, as the branch was then; no time is listed
    .treering/<path>           what there is to say of a link's commit, by its path from here (facts.py)
    .treering/README, store    how to use all this; which store it is
    .treering/lowers/<root>/   a root as overlays are to see it, and .treering/lowers/data -> where they find files of
                               it as they are (datalayer.py); where the service has such

Whatever is here may be another thing a moment later, and the kernel keeps what a node says (targets, content,
attributes). So a node never says anything else: a branch that moves is another node. What makes a node that node is its
key, bytes that say all of it:

    dir     a path that ends in a slash
    link    a path, a root, the commit's time
    facts   a path, a commit, and the edition of the words
    text    a path, and the text itself

The same key has the same number for ever (`Table.number_of`), and from a key its node can be made again, by another
process too, unless the commit is gone. Names are looked at anew each time.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from pathlib import Path

from fusefs import facts
from fusefs.inodes import LOWERS, TREES, Node, Table
from fusefs.references import Commits, Moments, Named, Place, References
from vcs.errors import NotFound
from vcs.model import Data, Entry, RootId, Symlink, Tree
from vcs.snapshot import Source

ROOT = 1
_ABOUT = b".treering/"
_LOWERS = _ABOUT + b"lowers/"
_NUMBERS = {
    b"": ROOT,
    b"trees/": TREES,
    b"commits/": 3,
    b"branches/": 4,
    b"tags/": 5,
    b"at/": 6,
    b"containers/": 7,
    _ABOUT: 8,
    **{_ABOUT + path: 9 + n for n, path in enumerate((b"commits/", b"branches/", b"tags/", b"at/", b"containers/"))},
    _LOWERS: LOWERS,
}
"""The directories that are always there, and their numbers: below inodes.FIRST_NUMBER."""
_DATA, _DATA_NUMBER = b"data", 15
_TEXTS = (b"README", b"store")
_DIRECTORY = stat.S_IFDIR | 0o555
_LINK = stat.S_IFLNK | 0o777
_FILE = stat.S_IFREG | 0o444
_EMPTY_TREE = Tree(b"", 0, 0, 0)
_BILLION = 1_000_000_000
_LISTED_SECONDS = 1.0
"""For so long a listing that was begun goes on with the names of its beginning."""


class Changing(Node):
    """A directory above the roots."""

    __slots__ = ("listed", "parent", "path", "place")

    name_endless = False
    missing_endless = False

    def __init__(self, number: int, entry: Entry, path: bytes, parent: int, place: Place | None) -> None:
        super().__init__(number, entry)
        self.path = path
        """From the top, which is empty; every other ends in a slash."""
        self.parent = parent
        self.place = place
        """What leads to commits from here, if that is what it is for."""
        self.listed: tuple[float, list[tuple[int, bytes, int]]] = -math.inf, []
        """When it was last listed, and what was in it: see View.names()."""


class Fixed(Changing):
    """One that is always there, though what is in it changes."""

    __slots__ = ()

    name_endless = True


class Shelf(Fixed):
    """One whose names are always the same: the top, and `.treering`."""

    __slots__ = ()

    missing_endless = True


class RootLink(Node):
    """A symbolic link to a root."""

    __slots__ = ()

    name_endless = False


class Text(Node):
    """A file of words."""

    __slots__ = ("text",)

    name_endless = False

    def __init__(self, number: int, entry: Entry, text: bytes) -> None:
        super().__init__(number, entry)
        self.text = text


class View:
    """The directories, links and texts above the roots of one store."""

    def __init__(
        self,
        source: Source,
        table: Table,
        root_folder: Callable[[RootId, bool], Node | None],
        owner: tuple[int, int],
        mtime: int,
        clock: Callable[[], float] = time.monotonic,
        data: Path | None = None,
    ) -> None:
        """`root_folder` makes the directory of a root, as it is or as overlays see it, or tells that there is no such
        root. `owner` (uid, gid) and `mtime` (nanoseconds since 1970) are those of what is here. `data` is where
        overlays find files as they are."""
        self._source = source
        self._table = table
        self._root_folder = root_folder
        self._owner = owner
        self._mtime = mtime
        self._clock = clock
        self._references = References(source)
        self._places: dict[bytes, Place] = {
            b"commits/": Commits(self._references),
            b"at/": Moments(source),
            **{kind.encode() + b"/": Named(names) for kind, names in source.names.items()},
        }
        self._fixed = {path: self._fixed_directory(path, number) for path, number in _NUMBERS.items()}
        if "containers" not in source.names:
            del self._fixed[b"containers/"], self._fixed[_ABOUT + b"containers/"]
        self._data: Node | None = None
        if data is None:
            del self._fixed[_LOWERS]
        else:
            link = Entry(_DATA, _LINK, *owner, mtime, Symlink(os.fsencode(data)))
            self._data = table.add(Node(_DATA_NUMBER, link))
        for node in self._fixed.values():
            table.add(node)

    def lookup(self, parent: Changing, name: bytes) -> Node | None:
        """The node of a name, None if there is none."""
        path = parent.path + name
        fixed = self._fixed.get(path + b"/")
        if fixed is not None:
            return fixed
        if parent.number == LOWERS and name == _DATA:
            return self._data
        if parent.number in (TREES, LOWERS):
            return self._root(name, parent.number == LOWERS)
        key = self._text_key(name) if parent.path == _ABOUT else self._key(parent, name, path)
        if key is None:
            return None
        node = self._table.nodes.get(self._table.number_of(key)) or self.again(key)
        return None if node is None else self._table.add(node)

    def again(self, key: bytes) -> Node | None:
        """The node of a key, made anew; None if there cannot be one any more. It is not entered into the table."""
        kind, path, *rest = key.split(b"\0", 2)
        if kind == b"dir":
            return self._directory(key, path)
        if kind == b"link":
            return self._link(key, path, *rest[0].split(b"\0"))
        if kind == b"facts":
            return self._facts(key, path, *rest[0].split(b"\0"))
        return self._text(key, path, rest[0], self._mtime)

    def names(self, directory: Changing, offset: int) -> list[tuple[int, bytes, int]]:
        """The names in a directory that follow after an offset: for each the offset to go on with after it (from 3),
        itself, and its type (S_IFDIR and its like).

        An offset follows from the name alone, so a listing that is interrupted, by changes, or by another process that
        goes on with it, neither leaves out nor repeats a name that stays.
        """
        now = self._clock()
        taken, names = directory.listed
        if offset < 3 or not taken <= now < taken + _LISTED_SECONDS:
            names = sorted((_offset(name), name, kind) for name, kind in self._listed(directory))
            directory.listed = now, names
        return names[bisect_right(names, offset, key=lambda listed: listed[0]) :]

    # -- keys

    def _key(self, parent: Changing, name: bytes, path: bytes) -> bytes | None:
        """What a name in a place of commits is now."""
        if parent.place is None:
            return None
        commit = parent.place.commit(name)
        if commit is None:
            inner = parent.place.inner(name)
            return b"dir\0%b/" % path if inner is not None and inner.exists() else None
        if path.startswith(_ABOUT):
            return b"facts\0%b\0%b\0%b" % (path, commit.encode(), facts.EDITION)
        known = self._references.commit(commit)
        return None if known is None else b"link\0%b\0%b\0%d" % (path, known.root.hex().encode(), known.time)

    def _text_key(self, name: bytes) -> bytes | None:
        if name not in _TEXTS:
            return None
        text = facts.README if name == b"README" else facts.store_text(self._source.about())
        return b"text\0%b\0%b" % (_ABOUT + name, text)

    # -- nodes

    def _root(self, name: bytes, is_lower: bool) -> Node | None:
        if len(name) != 64 or name.strip(b"0123456789abcdef"):
            return None
        return self._root_folder(RootId(bytes.fromhex(name.decode())), is_lower)

    def _directory(self, key: bytes, path: bytes) -> Node | None:
        place = self._place(path)
        if place is None:
            return None
        above, name = _split(path)
        fixed = self._fixed.get(above)
        parent = self._table.number_of(b"dir\0" + above) if fixed is None else fixed.number
        return Changing(self._table.number_of(key), self._entry(name), path, parent, place)

    def _link(self, key: bytes, path: bytes, root: bytes, seconds: bytes) -> Node:
        target = Symlink(b"../" * path.count(b"/") + b"trees/" + root)
        entry = Entry(path.rpartition(b"/")[2], _LINK, *self._owner, int(seconds) * _BILLION, target)
        return RootLink(self._table.number_of(key), entry)

    def _facts(self, key: bytes, path: bytes, commit: bytes, edition: bytes) -> Node | None:
        if edition != facts.EDITION:
            return None
        try:
            info = self._source.commit(commit.decode())
        except NotFound:
            return None
        text = facts.commit_text(path.removeprefix(_ABOUT), info)
        return self._text(key, path, text, info.time * _BILLION)

    def _text(self, key: bytes, path: bytes, text: bytes, mtime: int) -> Node:
        entry = Entry(path.rpartition(b"/")[2], _FILE, *self._owner, mtime, Data(len(text), b""))
        return Text(self._table.number_of(key), entry, text)

    def _fixed_directory(self, path: bytes, number: int) -> Fixed:
        above, name = _split(path)
        kind = Shelf if path in (b"", _ABOUT) else Fixed
        return kind(number, self._entry(name), path, _NUMBERS[above], self._place(path))

    def _entry(self, name: bytes) -> Entry:
        return Entry(name, _DIRECTORY, *self._owner, self._mtime, _EMPTY_TREE)

    def _place(self, path: bytes) -> Place | None:
        """What leads to commits from a directory."""
        first, *names = path.removeprefix(_ABOUT).split(b"/")[:-1] or [b""]
        place = self._places.get(first + b"/")
        for name in names:
            place = None if place is None else place.inner(name)
        return place

    # -- listings

    def _listed(self, directory: Changing) -> Iterable[tuple[bytes, int]]:
        if directory.number in (TREES, LOWERS):
            links = [(_DATA, stat.S_IFLNK)] if directory.number == LOWERS else []
            return links + [(root.hex().encode(), stat.S_IFDIR) for root in self._references.roots()]
        if directory.place is None:
            return self._shelf(directory.path)
        leaf = stat.S_IFREG if directory.path.startswith(_ABOUT) else stat.S_IFLNK
        return [(name, stat.S_IFDIR if inner else leaf) for name, inner in directory.place.names()]

    def _shelf(self, path: bytes) -> list[tuple[bytes, int]]:
        inner = [name for above, name in map(_split, self._fixed) if name and above == path]
        texts = _TEXTS if path == _ABOUT else ()
        return [*((name, stat.S_IFDIR) for name in inner), *((name, stat.S_IFREG) for name in texts)]


def _split(path: bytes) -> tuple[bytes, bytes]:
    """A directory's path as that of the directory above, and its name; the top is above itself, without one."""
    above, slash, name = path[:-1].rpartition(b"/")
    return above + slash, name


def _offset(name: bytes) -> int:
    """Where a listing goes on after a name: a hash, as ext4 does it, from 3 on and below 2**63."""
    return (int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) >> 2) + 3
