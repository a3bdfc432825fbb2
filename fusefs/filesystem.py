"""What a store looks like as a file system: decided here and only here, for every driver.

    trees/<root>/...       the file system of any root in the store: overlays' lower; those of commits are listed
    commits/<id>           -> ../trees/<root>
    branches/<name>        -> ../trees/<root>; a name with slashes lies in as many directories
    tags/<name>            the same

Below `trees/<root>` nothing ever changes, not even what is missing, and a driver may let the kernel keep it for ever
(`Node.name_endless`, `Node.missing_endless`). Above, names are looked at anew each time; a branch that moves is a new
link.

Methods raise OSError with the errno that the caller should see, and vcs.errors for a damaged store.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from fusefs.inodes import Folder, Node, Table
from fusefs.journal import Journal
from fusefs.listing import AnyListing, Listings, Run
from fusefs.numbers import Numbers
from fusefs.recent import Recent
from fusefs.references import References
from vcs.errors import Missing
from vcs.model import Chunked, Data, Device, Entry, RootId, Symlink, Tree
from vcs.snapshot import BlobReader, Source

ROOT = 1
NODES_LISTED = 131_072
"""Directories of more names are listed without their nodes: the kernel would have to keep a million files of which
nobody may want to know more than the name."""
BLOCK_SIZE = 4096
NAME_MAX = 255

_TREES, _COMMITS, _BRANCHES, _TAGS = 2, 3, 4, 5
_FIXED = {b"trees": _TREES, b"commits": _COMMITS, b"branches": _BRANCHES, b"tags": _TAGS}
_DIRECTORY = stat.S_IFDIR | 0o555
_LINK = stat.S_IFLNK | 0o777
_EMPTY_TREE = Tree(b"", 0, 0, 0)
_NO_XATTRS: dict[bytes, bytes] = {}
_OVERLAY_NAMES = (b"trusted.overlay.", b"user.overlay.")
_BILLION = 1_000_000_000
_U64 = (1 << 64) - 1
_READERS_KEPT = 65_536
"""Opened chunk lists are kept up to so many chunks in total: 8 GB of files, some 8 MB of memory."""

Attributes: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int, int]
"""st_ino, st_size, st_blocks, the seconds of atime, mtime and ctime, their nanoseconds, st_mode, st_nlink, st_uid,
st_gid, st_rdev, st_blksize. Seconds before 1970 are in 64-bit two's complement."""


class Changing(Node):
    """A directory above the roots, made by a slash in a branch's or tag's name."""

    __slots__ = ("listed", "parent", "prefix", "where")

    name_endless = False
    missing_endless = False

    def __init__(self, number: int, entry: Entry, where: int, prefix: str, parent: int) -> None:
        super().__init__(number, entry)
        self.where = where
        """The fixed directory that it is or lies in."""
        self.prefix = prefix
        """What the names in it begin with: empty, or ending in a slash."""
        self.parent = parent
        self.listed: list[tuple[bytes, int]] = []


class Fixed(Changing):
    """One of the four directories at the top: it stays, what is in it changes."""

    __slots__ = ()

    name_endless = True


class Top(Fixed):
    """The directory of those four."""

    __slots__ = ()

    missing_endless = True


class RootLink(Node):
    """A symbolic link to a root. A moved branch is another node: the kernel keeps what a link says (CACHE_SYMLINKS)."""

    __slots__ = ()

    name_endless = False


class FileSystem:
    """One store, as files."""

    def __init__(
        self, source: Source, uid: int = 0, gid: int = 0, time: int = 0, journal: Journal | None = None
    ) -> None:
        """`uid` and `gid` own what lies above the roots; `time` is their mtime, in nanoseconds since 1970. `journal` is
        what several of these share that serve one mount; numbers mean the same to all of them."""
        self._source = source
        self._references = References(source)
        self._listings = Listings(source)
        self._readers: Recent[bytes, BlobReader] = Recent(_READERS_KEPT)
        self._owner = uid, gid
        self._time = time
        self.numbers = Numbers(journal or Journal.create(), self._listings)
        self.table = Table(source, self._listings, self.numbers)
        self.table.add(Top(ROOT, self._synthetic(b""), ROOT, "", ROOT))
        for name, number in _FIXED.items():
            self.table.add(Fixed(number, self._synthetic(name), number, "", ROOT))

    # -- names

    def node(self, number: int) -> Node:
        """A node by its number. OSError ESTALE if it was never handed out."""
        node = self.table.nodes.get(number)
        if node is None:
            key = self.numbers.key_of(number)
            node = self.again(key) if key is not None else self.table.found_again(number, _TREES)
            if node is None:
                raise OSError(errno.ESTALE, "no such node")
            self.table.add(node)
        return node

    def lookup(self, parent: Node, name: bytes) -> Node | None:
        """The node of a name, or None if there is none. OSError ENOTDIR."""
        if isinstance(parent, Folder):
            listing = self._listings.open(_tree(parent))
            found = listing.find(name)
            if found is None:
                return None
            run, place = found
            return self.children(parent, listing, run, place, place + 1)[0]
        if not isinstance(parent, Changing):
            raise OSError(errno.ENOTDIR, "not a directory")
        return self._lookup_changing(parent, name)

    def forget(self, number: int) -> None:
        """The kernel has given a node back."""
        self.table.forget(number)

    def listing(self, folder: Folder) -> AnyListing:
        """The entries of a directory in a root."""
        return self._listings.open(_tree(folder))

    def lists_nodes(self, listing: AnyListing) -> bool:
        """Whether a listing is to hand out nodes, though nobody asked for them by name."""
        return len(listing) <= NODES_LISTED

    def children(self, folder: Folder, listing: AnyListing, run: Run, start: int, stop: int) -> list[Node]:
        """The nodes of some entries, from one place in a run to another. In bulk: a cold `find` is mostly this."""
        nodes = self.table.nodes
        first, path = folder.number, folder.path
        numbering = folder.numbering
        if numbering is None or numbering.generation != self.numbers.generation:
            numbering = folder.numbering = self.numbers.numbering(first, path, _tree(folder), listing)
        base, is_counted = numbering.base, numbering.path is None
        entries, starts = run.entries, run.starts
        found = []
        for place in range(start, stop):
            entry = entries[place]
            if type(entry.content) is Tree:
                number = first + starts[place]
                node = nodes.get(number)
                if node is None:
                    node = nodes[number] = Folder(number, entry, folder.root, b"%b/%b" % (path, entry.name), first)
            else:
                if is_counted and entry.link is None:
                    number = base + starts[place]
                else:
                    number = self.numbers.of_file(numbering, listing, run, place)
                node = nodes.get(number)
                if node is None:
                    node = nodes[number] = Node(number, entry)
            found.append(node)
        self.table.trim()
        if numbering.generation != self.numbers.generation:
            return self.children(folder, listing, run, start, stop)  # a root was dropped that may have given numbers
        return found

    def names(self, directory: Changing, again: bool = False) -> Sequence[tuple[bytes, int]]:
        """The names in a directory above the roots, with their types (S_IFDIR, S_IFLNK); `again`: those of last time,
        for a reader in the middle."""
        if not again:
            directory.listed = self._list(directory)
        return directory.listed

    # -- files

    def read(self, node: Node, offset: int, size: int) -> bytes | memoryview:
        """A range of a file's bytes, shorter at its end. OSError EISDIR, EINVAL."""
        content = node.entry.content
        if type(content) is Data:
            if offset >= content.size:
                return b""
            data = self._source.get(content.chunk)
            return data if not offset and size >= len(data) else memoryview(data)[offset : offset + size]
        return self._reader(node).read(offset, size)

    def seek(self, node: Node, offset: int, whence: int) -> int:
        """lseek(2) with SEEK_DATA or SEEK_HOLE. OSError ENXIO past the end or where no data follows, EINVAL."""
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "whence")
        content = node.entry.content
        if type(content) is not Data:
            return self._reader(node).seek(offset, whence)
        if offset >= content.size:
            raise OSError(errno.ENXIO, "past the end")
        return offset if whence == os.SEEK_DATA else content.size

    def target(self, node: Node) -> bytes:
        """Where a symbolic link points. OSError EINVAL if it is none."""
        content = node.entry.content
        if not isinstance(content, Symlink):
            raise OSError(errno.EINVAL, "not a symbolic link")
        return content.target

    def xattrs(self, node: Node) -> Mapping[bytes, bytes]:
        """A file's extended attributes.

        Overlayfs's own names get one level more, as overlayfs does when a container sets one: an overlay that takes
        this file as its lower would obey them, and with metacopy=on read another file instead (overlayfs.rst,
        "Nested overlayfs").
        """
        found = node.entry.xattrs
        return {escaped(name): value for name, value in found} if found else _NO_XATTRS

    # -- above the roots

    def _lookup_changing(self, parent: Changing, name: bytes) -> Node | None:
        if parent.where == ROOT:
            number = _FIXED.get(name)
            return self.table.nodes[number] if number else None
        if parent.where == _TREES:
            return self._root_folder(name)
        full = parent.prefix + os.fsdecode(name)
        if parent.where == _COMMITS:
            found = self._references.commit(full)
        else:
            names = self._named(parent.where)
            if any(other.startswith(full + "/") for other in names):
                return self._subdirectory(parent, full + "/")
            found = self._references.commit(names[full]) if full in names else None
        return None if found is None else self._link(parent, name, found.root, found.time)

    def _root_folder(self, name: bytes) -> Node | None:
        """The directory of any root that the store holds."""
        if len(name) != 64 or name.strip(b"0123456789abcdef"):
            return None
        try:
            return self.table.add(self.table.root_folder(RootId(bytes.fromhex(name.decode())), _TREES))
        except Missing:
            return None

    def again(self, key: bytes) -> Node | None:
        """The node of a key, made anew: what it was when it got its number."""
        kind, where, full, *rest = key.split(b"\0")
        fixed = self.table.nodes[int(where)]
        assert isinstance(fixed, Changing)  # one of the four
        above, _, name = full.rpartition(b"/")
        parent = self._subdirectory(fixed, os.fsdecode(above) + "/") if above else fixed
        if kind == b"directory":
            return self._subdirectory(parent, os.fsdecode(full) + "/")
        return self._link(parent, name, RootId(bytes.fromhex(rest[0].decode())), int(rest[1]))

    def _subdirectory(self, parent: Changing, prefix: str) -> Changing:
        full = os.fsencode(prefix[:-1])
        number = self.table.number_of(b"directory\0%d\0%b" % (parent.where, full))
        node = self.table.nodes.get(number)
        if isinstance(node, Changing):
            return node
        entry = self._synthetic(full.rpartition(b"/")[2])
        above = prefix[:-1].rpartition("/")[0]
        over = self._subdirectory(parent, above + "/").number if above else parent.where
        made = Changing(number, entry, parent.where, prefix, over)
        self.table.add(made)
        return made

    def _link(self, parent: Changing, name: bytes, root: RootId, seconds: int) -> Node:
        full = os.fsencode(parent.prefix) + name
        digest = root.hex().encode()
        number = self.table.number_of(b"link\0%d\0%b\0%b\0%d" % (parent.where, full, digest, seconds))
        node = self.table.nodes.get(number)
        if node is None:
            target = b"../" * (1 + full.count(b"/")) + b"trees/" + digest
            entry = Entry(name, _LINK, *self._owner, seconds * _BILLION, Symlink(target))
            node = self.table.add(RootLink(number, entry))
        return node

    def _list(self, directory: Changing) -> list[tuple[bytes, int]]:
        if directory.where == ROOT:
            return [(name, stat.S_IFDIR) for name in sorted(_FIXED)]
        if directory.where == _TREES:
            return [(root.hex().encode(), stat.S_IFDIR) for root in self._references.roots()]
        if directory.where == _COMMITS:
            return [(commit.encode(), stat.S_IFLNK) for commit in self._references.commits()]
        kinds: dict[bytes, int] = {}
        for full in self._named(directory.where):
            if full.startswith(directory.prefix):
                name, slash, _ = full[len(directory.prefix) :].partition("/")
                kinds[os.fsencode(name)] = stat.S_IFDIR if slash else stat.S_IFLNK
        return sorted(kinds.items())

    def _named(self, where: int) -> Mapping[str, str]:
        return self._source.branches() if where == _BRANCHES else self._source.tags()

    def _synthetic(self, name: bytes) -> Entry:
        return Entry(name, _DIRECTORY, *self._owner, self._time, _EMPTY_TREE)

    def _reader(self, node: Node) -> BlobReader:
        content = node.entry.content
        if not isinstance(content, Chunked):
            raise OSError(errno.EISDIR if isinstance(content, Tree) else errno.EINVAL, "not a regular file")
        reader = self._readers.get(content.list)
        if reader is None:
            reader = BlobReader(self._source, content)
            self._readers.put(content.list, reader, len(reader.items()) + 1)
        return reader


def attributes(node: Node) -> Attributes:
    """What stat(2) says. A directory has one link, which means that its subdirectories are not counted."""
    entry = node.entry
    content = entry.content
    kind = type(content)
    device = 0
    if kind is Data:
        size = content.size  # type: ignore[union-attr]
        blocks = (size + 4095 >> 12) << 3
    elif kind is Tree:
        size, blocks = BLOCK_SIZE, 8
    else:
        size = entry.size
        blocks = (content.allocated + 4095 >> 12) << 3 if isinstance(content, Chunked) else 0
        if isinstance(content, Device):
            device = encoded_device(content.major, content.minor)
    seconds, nanoseconds = divmod(entry.mtime, _BILLION)
    seconds &= _U64
    return (
        node.number,
        size,
        blocks,
        seconds,
        seconds,
        seconds,
        nanoseconds,
        nanoseconds,
        nanoseconds,
        entry.mode,
        1 if entry.link is None else entry.link.count,
        entry.uid,
        entry.gid,
        device,
        BLOCK_SIZE,
    )


def encoded_device(major: int, minor: int) -> int:
    """A device's number in 32 bits, as the kernel's new_encode_dev(): 12 bits of major, 20 of minor."""
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & 0xFFF00) << 12


def escaped(name: bytes) -> bytes:
    """An extended attribute's name as it is served.

    >>> escaped(b"trusted.overlay.opaque"), escaped(b"user.mime_type")
    (b'trusted.overlay.overlay.opaque', b'user.mime_type')
    """
    for prefix in _OVERLAY_NAMES:
        if name.startswith(prefix):
            return prefix + b"overlay." + name[len(prefix) :]
    return name


def _tree(folder: Folder) -> Tree:
    content = folder.entry.content
    assert isinstance(content, Tree)  # what makes a Folder
    return content
