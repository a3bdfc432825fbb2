"""What the kernel sends, parsed. Each function takes a message's body: what follows the 40 bytes of its header.

Malformed is raised for bytes that no kernel sends; anything else, however odd, is a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

HEADER = Struct("<IIQQIIIHH")
"""struct fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""
HEADER_SIZE = HEADER.size

_U32_PAIR = Struct("<II")
_U64 = Struct("<Q")
_INIT_IN = Struct("<IIIII")
_INIT_IN_SHORT = Struct("<IIII")
_READ_IN = Struct("<QQII")
_LSEEK_IN = Struct("<QQII")
_FORGET_ONE = Struct("<QQ")


class Malformed(ValueError):
    """Bytes that are not a request of this protocol."""


@dataclass(frozen=True, slots=True)
class Header:
    """The beginning of every request."""

    length: int
    """Bytes of the whole message, header included."""
    opcode: int
    unique: int
    """Names the request; its reply carries the same number."""
    nodeid: int
    uid: int
    gid: int
    pid: int


@dataclass(frozen=True, slots=True)
class InitRequest:
    """FUSE_INIT: what the kernel speaks and could do."""

    major: int
    minor: int
    max_readahead: int
    """Bytes."""
    flags: int
    """Both words of flags, the second in the upper half."""


def header(message: bytes | memoryview) -> Header:
    """The header of a message, whose length must be the one that it says."""
    if len(message) < HEADER_SIZE:
        raise Malformed(f"a request of {len(message)} bytes")
    length, opcode, unique, nodeid, uid, gid, pid, _, _ = HEADER.unpack_from(message)
    if length != len(message):
        raise Malformed(f"a request of {len(message)} bytes says that it has {length}")
    return Header(length, opcode, unique, nodeid, uid, gid, pid)


def init(body: bytes) -> InitRequest:
    """FUSE_INIT. Kernels before 5.17 send no second word of flags."""
    if len(body) >= _INIT_IN.size:
        major, minor, readahead, flags, flags2 = _INIT_IN.unpack_from(body)
    elif len(body) >= _INIT_IN_SHORT.size:
        major, minor, readahead, flags = _INIT_IN_SHORT.unpack_from(body)
        flags2 = 0
    else:
        raise Malformed("INIT too short")
    return InitRequest(major, minor, readahead, flags | flags2 << 32)


def name(body: bytes) -> bytes:
    """LOOKUP and whatever else is one name, ended by a zero byte."""
    end = body.find(b"\0")
    if end < 1:
        raise Malformed("a name that does not end, or is empty")
    return body[:end]


def read(body: bytes) -> tuple[int, int]:
    """READ, READDIR, READDIRPLUS: offset and size."""
    if len(body) < _READ_IN.size:
        raise Malformed("READ too short")
    _, offset, size, _ = _READ_IN.unpack_from(body)
    return offset, size


def getxattr(body: bytes) -> tuple[int, bytes]:
    """GETXATTR: the size of the caller's buffer (0: how much would it be?), and the attribute's name."""
    return listxattr(body), name(body[_U32_PAIR.size :])


def listxattr(body: bytes) -> int:
    """LISTXATTR: the size of the caller's buffer (0: how much would it be?)."""
    if len(body) < _U32_PAIR.size:
        raise Malformed("LISTXATTR too short")
    size, _ = _U32_PAIR.unpack_from(body)
    return int(size)


def lseek(body: bytes) -> tuple[int, int]:
    """LSEEK: offset and whence, which is SEEK_DATA or SEEK_HOLE (the kernel answers the others itself)."""
    if len(body) < _LSEEK_IN.size:
        raise Malformed("LSEEK too short")
    _, offset, whence, _ = _LSEEK_IN.unpack_from(body)
    return offset, whence


def forget(body: bytes) -> int:
    """FORGET: how many references to give up."""
    if len(body) < _U64.size:
        raise Malformed("FORGET too short")
    return int(_U64.unpack_from(body)[0])


def batch_forget(body: bytes) -> list[tuple[int, int]]:
    """BATCH_FORGET: pairs of a node and how many references to give up."""
    if len(body) < _U32_PAIR.size:
        raise Malformed("BATCH_FORGET too short")
    count, _ = _U32_PAIR.unpack_from(body)
    end = _U32_PAIR.size + count * _FORGET_ONE.size
    if len(body) < end:
        raise Malformed(f"BATCH_FORGET of {count} nodes in {len(body)} bytes")
    return list(_FORGET_ONE.iter_unpack(body[_U32_PAIR.size : end]))


def interrupt(body: bytes) -> int:
    """INTERRUPT: the `unique` of the request that nobody waits for any more."""
    return forget(body)
