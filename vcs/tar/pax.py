"""Extended headers: records of the form "<length> <keyword>=<value>\\n", and what the keywords mean."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from vcs.errors import BadInput
from vcs.tar.block import ID_MAX, SIZE_MAX

HEADER_MAX = 1 << 20
"""The longest extended header that is read, in bytes."""
XATTR_NAME_MAX = 255
XATTR_VALUE_MAX = 64 << 10
"""The kernel's own limits, XATTR_NAME_MAX and XATTR_SIZE_MAX of linux/limits.h."""

NANOSECONDS = 10**9
_TIME_LIMIT = 1 << 63

Records = list[tuple[bytes, bytes]]
"""Keywords and values in the order of the archive; the same keyword may come twice."""

SCHILY_XATTR = b"SCHILY.xattr."
LIBARCHIVE_XATTR = b"LIBARCHIVE.xattr."
ACCESS_ACL = b"system.posix_acl_access"
ACL_XATTRS = {
    b"SCHILY.acl.access": ACCESS_ACL,
    b"SCHILY.acl.default": b"system.posix_acl_default",
}
"""ACLs as text, and the extended attribute that the kernel keeps each in."""

_CHARSETS = (b"BINARY", b"ISO-IR 10646 2000 UTF-8")
"""The only two that POSIX names. Names are bytes to us, so they mean the same."""


def parse_records(data: bytes) -> Records:
    """The records of an extended header. BadInput unless every byte belongs to a well-formed one.

    >>> parse_records(b"12 uid=1000\\n")
    [(b'uid', b'1000')]
    """
    records = []
    position = 0
    while position < len(data):
        if not data[position]:
            if data[position:].strip(b"\0"):
                raise BadInput(f"its extended header is malformed at byte {position}")
            break  # old versions of star padded with NULs
        space = data.find(b" ", position, position + 20)
        end = position + decimal(data[position:space], "record length") if space > position else -1
        equals = data.find(b"=", space + 1, end) if space < end <= len(data) else -1
        if not (space + 1 < equals < end and data[end - 1] == 0x0A):
            raise BadInput(f"its extended header is malformed at byte {position}")
        records.append((data[space + 1 : equals], data[equals + 1 : end - 1]))
        position = end
    return records


def build_records(records: Records) -> bytes:
    """The bytes of an extended header.

    >>> build_records([(b"uid", b"1000")])
    b'12 uid=1000\\n'
    """
    return b"".join(_record(b" " + key + b"=" + value + b"\n") for key, value in records)


def _record(body: bytes) -> bytes:
    # The length counts its own digits.
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return str(length).encode() + body


def decimal(value: bytes, what: str, limit: int = SIZE_MAX) -> int:
    """A decimal number from 0 to `limit`: digits and nothing else."""
    if not value.isdigit() or len(value) > 20 or int(value) > limit:
        raise BadInput(f"its {what} is not a number in range: {value[:40]!r}")
    return int(value)


def identity(value: bytes, what: str) -> int:
    """A uid, a gid or half of a device number."""
    return decimal(value, what, ID_MAX)


def text(value: bytes, what: str) -> bytes:
    """A value that cannot hold NULs, such as a path."""
    if b"\0" in value:
        raise BadInput(f"its {what} contains a NUL")
    return value


def parse_time(value: bytes) -> int:
    """A time in nanoseconds, from decimal seconds with an optional sign and fraction. Finer digits round down.

    >>> parse_time(b"-1.5"), parse_time(b"12")
    (-1500000000, 12000000000)
    """
    seconds, point, fraction = value.removeprefix(b"-").partition(b".")
    if not seconds.isdigit() or (point and not fraction.isdigit()) or len(seconds) > 20:
        raise BadInput(f"its time is not a number of seconds: {value[:40]!r}")
    time = int(seconds) * NANOSECONDS + int(fraction[:9].ljust(9, b"0"))
    if value.startswith(b"-"):
        time = -time - bool(fraction[9:].strip(b"0"))
    return in_range(time)


def in_range(time: int) -> int:
    """The time itself, in nanoseconds. BadInput if 64 bits cannot hold it (before 1677 or after 2262)."""
    if not -_TIME_LIMIT <= time < _TIME_LIMIT:
        raise BadInput("its time is out of range")
    return time


def format_time(time: int) -> bytes:
    """Nanoseconds as decimal seconds, without needless digits; `parse_time`'s inverse."""
    seconds, fraction = divmod(abs(time), NANOSECONDS)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{'-' if time < 0 else ''}{seconds}{digits}".encode()


def check_charset(value: bytes) -> None:
    """BadInput if the header's names are in a character set that POSIX does not know."""
    if value and value not in _CHARSETS:
        raise BadInput(f"the character set {value[:40]!r} of its extended header is not supported")


def xattr_of(keyword: bytes, value: bytes) -> tuple[bytes, bytes] | None:
    """The extended attribute that a record holds, or None if it holds none."""
    if keyword.startswith(SCHILY_XATTR):
        # GNU tar escapes the two characters that a keyword could not hold or tell apart.
        name = keyword[len(SCHILY_XATTR) :].replace(b"%3D", b"=").replace(b"%25", b"%")
    elif keyword.startswith(LIBARCHIVE_XATTR):
        name = unquote_to_bytes(keyword[len(LIBARCHIVE_XATTR) :])
        value = _unbase64(value)
    else:
        return None
    if not 0 < len(name) <= XATTR_NAME_MAX or b"\0" in name:
        raise BadInput(f"{name[:XATTR_NAME_MAX]!r} cannot be the name of an extended attribute")
    if len(value) > XATTR_VALUE_MAX:
        raise BadInput(f"its extended attribute {name!r} is longer than {XATTR_VALUE_MAX} bytes")
    return name, value


def xattr_record(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """The record for an extended attribute, as GNU tar and bsdtar read it."""
    return SCHILY_XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D"), value


def _unbase64(value: bytes) -> bytes:
    try:
        # libarchive leaves the padding out.
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("the value of an extended attribute is not base64") from None
