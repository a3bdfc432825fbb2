"""The values of a root filesystem: entries and what they hold. Frozen, and without I/O.

A directory is a sequence of entries sorted by the raw bytes of their names. An entry is one name with its attributes
and its content; the content says which type of file it is:

    Data       a regular file that is one chunk
    Chunked    a regular file that is a list of chunks and holes
    Symlink    its target
    Device     a character or block device's number
    Special    a FIFO or a socket
    Tree       a directory: the digest of its entries

The values are msgspec structs in array form: their field order IS the canonical encoding (docs/format.md), so a field
may only be added together with a new format version.
"""

from __future__ import annotations

import stat
from typing import Annotated, NewType, TypeAlias

import msgspec

RootId = NewType("RootId", bytes)
"""BLAKE3 digest of a root entry's encoding: names a whole filesystem."""
LayerId = NewType("LayerId", bytes)
"""BLAKE3 digest of a layer file's bytes."""
CommitId = NewType("CommitId", str)
"""A git commit's id, 40 hexadecimal digits."""
ObjectId: TypeAlias = bytes
"""The digest of any object: chunk, tree, chunk list or root."""

DIGEST_SIZE = 32

SIZE_MAX = (1 << 63) - 1
"""The largest file that the kernel can have (loff_t)."""
Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=SIZE_MAX)]
"""Bytes of a file, or how many of something. Whatever is none of that does not decode."""

Xattrs: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Extended attributes, sorted by name. Overlayfs's own never occur here; POSIX ACLs and capabilities do."""


class Data(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=0):
    """A regular file of one chunk. An empty file has size 0 and an empty digest."""

    size: Size
    chunk: bytes


class Chunked(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A regular file that is a chunk list. `allocated` is its size less its holes, in bytes."""

    size: Size
    list: bytes
    allocated: Size


class Symlink(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """A symbolic link; `target` as readlink(2) gives it."""

    target: bytes


class Device(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """A character or block device (the entry's mode tells which)."""

    major: int
    minor: int


class Special(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """A FIFO or a socket (the entry's mode tells which)."""


class Tree(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5):
    """A directory. The sums count everything below it, itself not included."""

    tree: bytes
    entries: Size
    """Names below, at any depth."""
    size: Size
    """Bytes in regular files below, holes included; a hard-linked file counts once a name."""
    linked: Size
    """Entries below that have a hard link."""


Content: TypeAlias = Data | Chunked | Symlink | Device | Special | Tree

EMPTY_FILE = Data(0, b"")


class Link(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Membership of a group of hard links: the entries of one root with the same `group` are one file."""

    group: bytes
    """16 bytes, unique within the root."""
    count: int
    """How many names the group has in this root (st_nlink), at least 2."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One name in a directory. A root is an entry with an empty name."""

    name: bytes
    mode: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
    """st_mode, the type bits included."""
    uid: int
    gid: int
    mtime: int
    """Nanoseconds since 1970, may be negative."""
    content: Content
    xattrs: Xattrs = ()
    link: Link | None = None

    @property
    def is_dir(self) -> bool:
        return type(self.content) is Tree

    @property
    def is_file(self) -> bool:
        return type(self.content) in (Data, Chunked)

    @property
    def size(self) -> int:
        """st_size: bytes of a file, length of a link's target, 0 for the rest."""
        content = self.content
        if isinstance(content, (Data, Chunked)):
            return content.size
        return len(content.target) if isinstance(content, Symlink) else 0


class ListItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run of a large file: a chunk, a hole (empty digest) or, above level 0, a further list."""

    length: Size
    digest: bytes


class TreeItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of a large directory: the node that holds the names from `first` on."""

    first: bytes
    digest: bytes
    count: Size


TYPE_NAMES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def type_name(entry: Entry) -> str:
    """What kind of file an entry is, in a user's words."""
    return TYPE_NAMES[stat.S_IFMT(entry.mode)]
