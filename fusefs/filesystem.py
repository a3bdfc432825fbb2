"""What a root looks like as a file system: decided here and only here, for every driver.

Below `trees/<root>` nothing ever changes, not even what is missing, and a driver may let the kernel keep it for ever
(`Node.name_endless`, `Node.missing_endless`). What is above the roots is view.py's.

Methods raise OSError with the errno that the caller should see, and vcs.errors for a damaged store.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from fusefs.datalayer import DataLayer, is_program
from fusefs.inodes import Folder, Node, Table
from fusefs.journal import Journal
from fusefs.listing import AnyListing, Listings, Run
from fusefs.numbers import Numbers
from fusefs.recent import Recent
from fusefs.rights import sees_trusted
from fusefs.scattered import SCATTERED_MOST, PlainCopies
from fusefs.view import Changing, Text, View
from vcs.errors import Missing
from vcs.model import Chunked, Data, Device, Entry, RootId, Symlink, Tree
from vcs.snapshot import BlobReader, Source

NODES_LISTED = 131_072
"""Directories of more names are listed without their nodes: the kernel would have to keep a million files of which
nobody may want to know more than the name."""
BLOCK_SIZE = 4096
NAME_MAX = 255

_NO_XATTRS: dict[bytes, bytes] = {}
_OVERLAY_NAMES = (b"trusted.overlay.", b"user.overlay.")
_TRUSTED = b"trusted."
_BILLION = 1_000_000_000
_U64 = (1 << 64) - 1
_READERS_KEPT = 65_536
"""Opened chunk lists are kept up to so many chunks in total: 8 GB of files, some 8 MB of memory."""

Attributes: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int, int]
"""st_ino, st_size, st_blocks, the seconds of atime, mtime and ctime, their nanoseconds, st_mode, st_nlink, st_uid,
st_gid, st_rdev, st_blksize. Seconds before 1970 are in 64-bit two's complement."""
Listed: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, bytes]
"""Of a name in a listing: st_ino, st_size, st_blocks, the seconds and nanoseconds of its one time, st_mode, st_nlink,
st_uid, st_gid, st_rdev, and the name. Its st_blksize is BLOCK_SIZE."""


class FileSystem:
    """One store, as files."""

    def __init__(
        self,
        source: Source,
        uid: int = 0,
        gid: int = 0,
        time: int = 0,
        journal: Journal | None = None,
        copies: PlainCopies | None = None,
        layer: DataLayer | None = None,
    ) -> None:
        """`uid` and `gid` own what lies above the roots; `time` is their mtime, in nanoseconds since 1970. `journal` is
        what several of these share that serve one mount; numbers mean the same to all of them. `copies` are the store's
        plain copies, for whoever has some; `layer` is what overlays over the mount read as plain files."""
        self._source = source
        self._listings = Listings(source)
        self._copies = copies
        self._was_alone = False
        """Whether the last range was read without what is around it."""
        self.layer = layer
        self._readers: Recent[bytes, BlobReader] = Recent(_READERS_KEPT)
        self.numbers = Numbers(journal or Journal.create(), self._listings)
        self.table = Table(source, self._listings, self.numbers)
        data = None if layer is None else layer.path
        self.view = View(source, self.table, self._root_folder, (uid, gid), time, data=data)

    # -- names

    def node(self, number: int) -> Node:
        """A node by its number. OSError ESTALE if it was never handed out."""
        node = self.table.nodes.get(number)
        if node is None:
            key = self.numbers.key_of(number)
            node = self.view.again(key) if key is not None else self.table.found_again(number)
            if node is None:
                raise OSError(errno.ESTALE, "no such node")
            self.table.add(node)
        return node

    def lookup(self, parent: Node, name: bytes) -> Node | None:
        """The node of a name, or None if there is none. OSError ENOTDIR, ENAMETOOLONG."""
        if len(name) > NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, "a name has at most 255 bytes")
        if isinstance(parent, Folder):
            listing = self._listings.open(_tree(parent))
            found = listing.find(name)
            if found is None:
                return None
            run, place = found
            return self.children(parent, listing, run, place, place + 1)[0]
        if not isinstance(parent, Changing):
            raise OSError(errno.ENOTDIR, "not a directory")
        return self.view.lookup(parent, name)

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
        """The nodes of some entries, from one place in a run to another. The kernel is told of them."""
        numbers = self.numbered(folder, listing, run, start, stop)
        self.table.add_run(folder, run, start, numbers)
        found = [self.table.nodes[number] for number in numbers]
        self.table.trim()
        return found

    def numbered(self, folder: Folder, listing: AnyListing, run: Run, start: int, stop: int) -> list[int]:
        """The numbers of some entries, from one place in a run to another."""
        while True:
            numbering = folder.numbering
            if numbering is None or numbering.generation != self.numbers.generation:
                numbering = self.numbers.numbering(folder.number, folder.path, _tree(folder), listing)
                folder.numbering = numbering
            numbers = self.numbers.of_run(numbering, listing, run, start, stop)
            if numbering.generation == self.numbers.generation:
                return numbers  # else a root was dropped that may have given some

    def told(self, folder: Folder, run: Run, start: int, numbers: Sequence[int], folders_only: bool = False) -> None:
        """The kernel is told of the entries from a place on, by these numbers: their nodes are kept."""
        self.table.add_run(folder, run, start, numbers, folders_only)
        self.table.trim()

    def names(self, directory: Changing, offset: int) -> list[tuple[int, bytes, int]]:
        """The names in a directory above the roots, from an offset on: see View.names()."""
        return self.view.names(directory, offset)

    # -- files

    def read(self, node: Node, offset: int, size: int) -> bytes | memoryview:
        """A range of a file's bytes, shorter at its end. OSError EISDIR, EINVAL."""
        parts = self.parts(node, offset, size)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def parts(self, node: Node, offset: int, size: int) -> Sequence[bytes | memoryview]:
        """The same in pieces, without a copy."""
        content = node.entry.content
        if type(content) is Data:
            if offset >= content.size:
                return [b""]
            data = self._whole(node, content)
            return [data if not offset and size >= len(data) else memoryview(data)[offset : offset + size]]
        if size > SCATTERED_MOST:
            return self._reader(node).parts(offset, size)
        return self._small_range(node, offset, size)

    def _small_range(self, node: Node, offset: int, size: int) -> Sequence[bytes | memoryview]:
        """Of a file that is not one chunk: from its plain copy, or alone from its layer, or else by its chunks."""
        content = node.entry.content
        self._was_alone = False
        if self._copies is not None and type(content) is Chunked:
            copied = self._copies.read(content, offset, size)
            if copied is not None:
                return [copied]
        reader = self._reader(node)
        alone = reader.alone(offset, size, self._source.part)
        if alone is None:
            return reader.parts(offset, size)
        self._was_alone = True
        return alone

    def was_scattered(self, node: Node, offset: int) -> bool:
        """Told that a small range somewhere in a file was read: whether what is around it should be given."""
        content = node.entry.content
        if type(content) is not Chunked:
            return True
        if self._copies is None:
            return not self._was_alone
        return self._copies.was_scattered(content, offset, self._was_alone)

    def was_begun(self, node: Node, head: bytes | memoryview) -> None:
        """Told that a file's beginning was read, which is this, by somebody who does not go from file to file."""
        if self.layer is not None and is_program(head) and self.numbers.is_lower(node.number):
            self.layer.want(node.entry.content)

    def around(self, node: Node, offset: int) -> tuple[int, Sequence[bytes | memoryview]]:
        """What is at hand around an offset: where in the file it begins, and pieces from there on; none around a hole,
        or past the end."""
        content = node.entry.content
        if type(content) is Data:
            return 0, [self._whole(node, content)]
        if self._copies is not None and type(content) is Chunked and (copied := self._copies.around(content, offset)):
            return copied[0], [copied[1]]
        return self._reader(node).around(offset, self._source.are_together)

    def _whole(self, node: Node, content: Data) -> bytes:
        return node.text if type(node) is Text else self._source.get(content.chunk)

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
        "Nested overlayfs"). Attributes that nobody could read here are not told (rights.py).
        """
        found = node.entry.xattrs
        if found and not sees_trusted():
            found = tuple(pair for pair in found if not pair[0].startswith(_TRUSTED))
        return {escaped(name): value for name, value in found} if found else _NO_XATTRS

    def asks_layer(self, node: Node, name: bytes) -> bool:
        """Whether an overlay may be asking what to do with its data layer, of a file without attributes."""
        layer = self.layer
        return layer is not None and layer.is_asked(node.entry.content, name)

    def xattr(self, node: Node, name: bytes) -> bytes | None:
        """One of its extended attributes, or what an overlay is told for its data layer's sake; None if it has no such
        attribute."""
        layer = self.layer
        if layer is not None and name in layer.names and self.numbers.is_lower(node.number):
            return layer.attribute(node.number, node.entry.content, name)
        return self.xattrs(node).get(name)

    # -- details

    def _root_folder(self, root: RootId, is_lower: bool) -> Node | None:
        """The directory of any root that the store holds, None if it holds no such root."""
        try:
            return self.table.add(self.table.root_folder(root, is_lower))
        except Missing:
            return None

    def _reader(self, node: Node) -> BlobReader:
        content = node.entry.content
        if not isinstance(content, Chunked):
            raise OSError(errno.EISDIR if isinstance(content, Tree) else errno.EINVAL, "not a regular file")
        reader = self._readers.get(content.list)
        if reader is None:
            reader = BlobReader(self._source, content, self._source.expect)
            self._readers.put(content.list, reader, len(reader.items()) + 1)
        return reader


def attributes(node: Node) -> Attributes:
    """What stat(2) says."""
    ((number, size, blocks, seconds, nanoseconds, *rest, _),) = listed((node.number,), (node.entry,))
    times = (seconds,) * 3 + (nanoseconds,) * 3
    return number, size, blocks, *times, *rest, BLOCK_SIZE  # type: ignore[return-value]


def listed(numbers: Iterable[int], entries: Iterable[Entry]) -> Iterator[Listed]:
    """What stat(2) says of many. A directory has one link, which means that its subdirectories are not counted."""
    for number, entry in zip(numbers, entries, strict=True):
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
        link = entry.link
        links = 1 if link is None else link.count
        seconds &= _U64
        yield number, size, blocks, seconds, nanoseconds, entry.mode, links, entry.uid, entry.gid, device, entry.name


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
