"""The 512-byte header block of a tar member: bytes <-> values."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vcs.errors import BadInput

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)

SIZE_MAX = (1 << 63) - 1
"""The largest file the kernel can have (loff_t)."""
ID_MAX = (1 << 32) - 1

# Type flags: POSIX's, Sun's and GNU's.
REGULAR = ord("0")
REGULAR_V7 = ord("\0")
HARD_LINK = ord("1")
SYMLINK = ord("2")
CHARACTER = ord("3")
BLOCK_DEVICE = ord("4")
DIRECTORY = ord("5")
FIFO = ord("6")
CONTIGUOUS = ord("7")
PAX = ord("x")
PAX_GLOBAL = ord("g")
PAX_SUN = ord("X")
GNU_LONG_NAME = ord("L")
GNU_LONG_LINK = ord("K")
GNU_SPARSE = ord("S")
GNU_DUMP_DIRECTORY = ord("D")
GNU_VOLUME = ord("V")

_FIELDS = struct.Struct("100s8s8s8s12s12s8sB100s8s32s32s8s8s155s12s")
_CHECKSUM = slice(148, 156)
_GNU_MAGIC = b"ustar  \0"
_STAR_PREFIX = 131
"""Star keeps access and change times in the last 24 bytes of the prefix, and says so at the block's end."""


@dataclass(slots=True)
class Header:
    """A member as its own header block has it; extended headers may override any of it."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    """Seconds since 1970."""
    type: int
    link: bytes
    major: int
    minor: int


def number(field: bytes, what: str, *, signed: bool = False) -> int:
    """A numeric field: octal digits between spaces and NULs, or GNU's base-256. An empty field is 0."""
    if field[0] & 0x80:
        return _base256(field, what, signed)
    digits = field[:-1] if field[-1] == 0 else field
    if not digits.isdigit():  # spaces and NULs are for old writers, and cost twice as much to look for
        digits = digits.split(b"\0", 1)[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise BadInput(f"its {what} is not an octal number: {field!r}")
    return int(digits, 8) if digits else 0


def _base256(field: bytes, what: str, signed: bool) -> int:
    value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
    if field[0] & 0x40:
        value -= 1 << (8 * len(field) - 1)
    if not signed and value < 0:
        raise BadInput(f"its {what} is negative")
    return value


def checksum(block: bytes) -> int:
    """The sum of the bytes, the checksum's own counted as spaces."""
    return sum(block) - sum(block[_CHECKSUM]) + 256


def is_header(block: bytes) -> bool:
    """Whether the block's checksum is right."""
    try:
        expected = number(block[_CHECKSUM], "checksum")
    except BadInput:
        return False
    if checksum(block) == expected:
        return True
    # Some historic systems added the bytes up as signed characters.
    high = sum(1 for byte in block if byte & 0x80) - sum(1 for byte in block[_CHECKSUM] if byte & 0x80)
    return checksum(block) - 256 * high == expected


def is_gnu(block: bytes) -> bool:
    """Whether GNU tar's own format wrote the header, which keeps other things behind the device numbers."""
    return block[257:265] == _GNU_MAGIC


def parse_header(block: bytes) -> Header:
    """A header block's values. BadInput if the checksum or a number is wrong, or the name is empty."""
    if not is_header(block):
        raise BadInput("not a tar header: its checksum is wrong")
    name, mode, uid, gid, size, mtime, _, kind, link, magic, _, _, major, minor, prefix, tail = _FIELDS.unpack(block)
    name = name.split(b"\0", 1)[0]
    if is_gnu(block) or not magic.startswith(b"ustar"):
        prefix = b""
    elif tail.endswith(b"tar\0"):
        prefix = prefix[:_STAR_PREFIX]
    prefix = prefix.split(b"\0", 1)[0]
    if prefix:
        name = prefix + b"/" + name
    is_device = kind in (CHARACTER, BLOCK_DEVICE)
    return Header(
        name=name,
        mode=number(mode, "mode") & 0o7777,
        uid=_identity(uid, "owner"),
        gid=_identity(gid, "group"),
        size=_size(size),
        mtime=number(mtime, "time", signed=True),
        type=kind,
        link=link.split(b"\0", 1)[0],
        major=_identity(major, "device number") if is_device else 0,
        minor=_identity(minor, "device number") if is_device else 0,
    )


def _identity(field: bytes, what: str) -> int:
    value = number(field, what)
    if value > ID_MAX:
        raise BadInput(f"its {what} is out of range")
    return value


def _size(field: bytes) -> int:
    value = number(field, "size")
    if value > SIZE_MAX:
        raise BadInput("its size is out of range")
    return value


def build_header(header: Header) -> bytes:
    """A POSIX header block. A number that does not fit its field is written as 0, a name as its beginning: the
    caller says them in an extended header.
    """
    fields = [
        header.name[:100],
        _octal(header.mode, 8),
        _octal(header.uid, 8),
        _octal(header.gid, 8),
        _octal(header.size, 12),
        _octal(header.mtime, 12),
        b" " * 8,
        header.type,
        header.link[:100],
        b"ustar\x0000",
        b"",
        b"",
        _octal(header.major, 8),
        _octal(header.minor, 8),
        b"",
        b"",
    ]
    block = _FIELDS.pack(*fields)
    return block[: _CHECKSUM.start] + b"%06o\0 " % sum(block) + block[_CHECKSUM.stop :]


def fits(value: int, width: int) -> bool:
    """Whether a number can be written as octal digits in a field of `width` bytes."""
    return 0 <= value < 1 << 3 * (width - 1)


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value if fits(value, width) else 0)


def padding(size: int) -> int:
    """How many bytes follow `size` bytes of data up to the next block."""
    return -size % BLOCK
