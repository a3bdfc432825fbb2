"""What the kernel is answered, encoded: bodies, which follow the 16 bytes of a reply's header.

Attributes are a tuple in the order of struct fuse_attr (`Attributes`): packed straight from the tuple, one directory
of 180 names costs a third of a millisecond; through a dataclass it costs three times that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import TypeAlias

from fusefs.wire.protocol import KERNEL_MINOR_VERSION, KERNEL_VERSION, Notify

HEADER = Struct("<IiQ")
"""struct fuse_out_header: len, error (0 or a negative errno), unique."""
HEADER_SIZE = HEADER.size

ENDLESS = (1 << 64) - 1
"""A lifetime in seconds; the kernel takes the most that it can count."""

Attributes: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int, int]
"""struct fuse_attr: ino, size, blocks, atime, mtime, ctime (seconds, as unsigned 64-bit two's complement), their
nanoseconds in the same order, mode, nlink, uid, gid, rdev, blksize."""

Listed: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, bytes]
"""Of one name of many: ino, size, blocks, the seconds and the nanoseconds of all three times, mode, nlink, uid, gid,
rdev, and the name."""

_ATTR = "QQQQQQIIIIIIIIII"
_ENTRY_OUT = Struct("<QQQQII" + _ATTR)
_ATTR_OUT = Struct("<QII" + _ATTR)
_DIRENT = Struct("<QQII")
_INIT_OUT = Struct("<IIIIHHIIHHI28x")
_KSTATFS = Struct("<QQQQQIIII24x")
_INVAL_INODE_OUT = Struct("<Qqq")
_NOTIFY_STORE_OUT = Struct("<QQII")
_OPEN_OUT = Struct("<QII")
_U32_PAIR = Struct("<II")
_U64 = Struct("<Q")

_ENDLESS_NAME = Struct("<QQQII").pack(0, ENDLESS, ENDLESS, 0, 0)
_ENDLESS_DIRENT_PLUS = [Struct(f"<Q{len(_ENDLESS_NAME)}s{_ATTR}QQII{room}s").pack for room in range(0, 257, 8)]
"""By the eighth of a name's length: packing the name with its padding, and numbers that never change as bytes, takes
two thirds of the time."""

_DIRENT_HEAD = _DIRENT.size
_DIRENT_PLUS_HEAD = _ENTRY_OUT.size + _DIRENT.size
_NO_ATTRIBUTES = (0,) * 16
_NO_NODE = bytes(_ENTRY_OUT.size)
_PADDING = (b"", b"\0" * 7, b"\0" * 6, b"\0" * 5, b"\0" * 4, b"\0" * 3, b"\0" * 2, b"\0")

header = HEADER.pack


def error(unique: int, errno: int) -> bytes:
    """A whole reply that says no."""
    return header(HEADER_SIZE, -errno, unique)


def drop_pages(nodeid: int) -> bytes:
    """NOTIFY_INVAL_INODE, a whole message: the kernel is to drop all that it keeps of a node."""
    return header(HEADER_SIZE + _INVAL_INODE_OUT.size, Notify.INVAL_INODE, 0) + _INVAL_INODE_OUT.pack(nodeid, 0, 0)


def still_known(nodeid: int) -> bytes:
    """NOTIFY_INVAL_INODE, a whole message: the kernel is to ask for a node's attributes once more, and to keep the
    rest. It refuses (ENOENT) if it does not know the node."""
    return header(HEADER_SIZE + _INVAL_INODE_OUT.size, Notify.INVAL_INODE, 0) + _INVAL_INODE_OUT.pack(nodeid, -1, 0)


def resend() -> bytes:
    """NOTIFY_RESEND, a whole message: the kernel is to send again what it has sent and was not answered."""
    return header(HEADER_SIZE, Notify.RESEND, 0)


def store(nodeid: int, length: int, offset: int = 0) -> bytes:
    """NOTIFY_STORE: what precedes `length` bytes of a file, from `offset` on, for the kernel to keep."""
    head = _NOTIFY_STORE_OUT.pack(nodeid, offset, length, 0)
    return header(HEADER_SIZE + len(head) + length, Notify.STORE, 0) + head


def init(
    flags: int,
    max_readahead: int,
    max_background: int,
    max_write: int,
    max_pages: int,
    minor: int = KERNEL_MINOR_VERSION,
) -> bytes:
    """FUSE_INIT: what is agreed on. `flags` has both words; sizes are bytes."""
    low, high = flags & 0xFFFFFFFF, flags >> 32
    threshold = max_background * 3 // 4
    return _INIT_OUT.pack(
        KERNEL_VERSION, minor, max_readahead, low, max_background, threshold, max_write, 1, max_pages, 0, high
    )


def init_other_version() -> bytes:
    """FUSE_INIT to a kernel of a later major version: it will ask again in ours."""
    return init(0, 0, 0, 0, 0)


def entry(values: Attributes, name_lifetime: int, lifetime: int) -> bytes:
    """LOOKUP: a node, whose number is its `ino`, and how many seconds its name and its attributes hold."""
    return _ENTRY_OUT.pack(values[0], 0, name_lifetime, lifetime, 0, 0, *values, 0)


def no_entry(lifetime: int) -> bytes:
    """LOOKUP: there is no such name, and will not be for so many seconds."""
    return _ENTRY_OUT.pack(0, 0, lifetime, 0, 0, 0, *_NO_ATTRIBUTES)


def attributes(lifetime: int, values: Attributes) -> bytes:
    """GETATTR."""
    return _ATTR_OUT.pack(lifetime, 0, 0, *values, 0)


def dirent_size(name: bytes) -> int:
    """Bytes of a name in a READDIR reply."""
    return (_DIRENT_HEAD + len(name) + 7) & ~7


def dirent(ino: int, offset: int, kind: int, name: bytes) -> bytes:
    """A name in a READDIR reply. `offset` is where to go on after it, `kind` the type bits of its mode, moved down
    by 12 (DT_DIR and its like)."""
    return _DIRENT.pack(ino, offset, len(name), kind) + name + _PADDING[len(name) & 7]


def dirent_plus_size(name: bytes) -> int:
    """Bytes of a name in a READDIRPLUS reply."""
    return (_DIRENT_PLUS_HEAD + len(name) + 7) & ~7


def dirents_plus(listed: Iterable[Listed], block_size: int, offset: int) -> list[bytes]:
    """Names in a READDIRPLUS reply, each with its node and attributes, all of it for ever. `offset` is where to go on
    after the first of them; those of the others follow."""
    parts = []
    for number, size, blocks, seconds, nanoseconds, mode, links, uid, gid, device, name in listed:
        length = len(name)
        encoded = _ENDLESS_DIRENT_PLUS[length + 7 >> 3](
            number, _ENDLESS_NAME, number, size, blocks, seconds, seconds, seconds,
            nanoseconds, nanoseconds, nanoseconds, mode, links, uid, gid, device, block_size, 0,
            number, offset, length, mode >> 12, name,
        )  # fmt: skip
        parts.append(encoded)
        offset += 1
    return parts


def dirent_plus_bare(ino: int, offset: int, kind: int, name: bytes) -> bytes:
    """A name in a READDIRPLUS reply without its node: the kernel looks it up when somebody wants it."""
    return _NO_NODE + dirent(ino, offset, kind, name)


def opened(flags: int) -> bytes:
    """OPEN, OPENDIR."""
    return _OPEN_OUT.pack(0, flags, 0)


def size(count: int) -> bytes:
    """GETXATTR, LISTXATTR with an empty buffer: how many bytes it takes."""
    return _U32_PAIR.pack(count, 0)


def position(offset: int) -> bytes:
    """LSEEK."""
    return _U64.pack(offset)


def statfs(block_size: int, name_max: int) -> bytes:
    """STATFS of a file system that nothing can be added to: no blocks, no inodes, none free."""
    return _KSTATFS.pack(0, 0, 0, 0, 0, block_size, name_max, block_size, 0)


def names(values: Sequence[bytes]) -> bytes:
    """LISTXATTR: each name ended by a zero byte."""
    return b"".join([value + b"\0" for value in values])
