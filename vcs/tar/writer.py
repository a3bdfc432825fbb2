"""Members and their data -> a PAX archive. The same members give the same bytes.

What fits the plain header stands there; the rest goes into an extended header: times finer than a second or negative,
long names, large numbers, extended attributes (SCHILY.xattr.*), ACLs (SCHILY.acl.*, which GNU tar and bsdtar need as
text), sparse maps (GNU.sparse 1.0). GNU tar, bsdtar and Python's tarfile read it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from vcs.tar import block as tar
from vcs.tar.acl import acl_to_text
from vcs.tar.block import BLOCK, Header, build_header, fits, padding
from vcs.tar.pax import ACL_XATTRS, NANOSECONDS, Records, build_records, format_time, xattr_record
from vcs.tar.sparse import build_map

_RECORD = 20 * BLOCK
"""Archives are padded to whole records of so many bytes, as tar always has."""

_TYPES = {
    stat.S_IFREG: tar.REGULAR,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFIFO: tar.FIFO,
}
_ACL_KEYWORDS = {name: keyword for keyword, name in ACL_XATTRS.items()}


class Writable(Protocol):
    """A binary stream that takes all it is given."""

    def write(self, data: bytes, /) -> object: ...


class TarWriter:
    """Writes to `out`, never seeking. OSError as `out` raises it."""

    def __init__(self, out: Writable, *, acls_as_text: bool = True) -> None:
        """Without `acls_as_text` they are extended attributes like others: what reads image layers knows no other."""
        self._out = out
        self._acls = _ACL_KEYWORDS if acls_as_text else {}
        self._written = 0

    def add(
        self,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        *,
        size: int = 0,
        target: bytes = b"",
        device: tuple[int, int] = (0, 0),
        xattrs: Iterable[tuple[bytes, bytes]] = (),
        extents: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Begin a member. `mode` is an st_mode, whose type must be one that tar has; `mtime` is in nanoseconds.

        A regular file of `size` bytes is followed by `feed` with all of them. With `extents`, pairs of offset and
        length in order, the file is sparse and `feed` gets only what lies in them.
        """
        header = Header(name, mode & 0o7777, uid, gid, size, 0, _TYPES[stat.S_IFMT(mode)], target, *device)
        records = _attributes(xattrs, self._acls)
        sparse_map = b""
        if extents is not None:
            extents = [*extents, (size, 0)]  # GNU tar ends its maps so, and then knows of a hole at the end
            sparse_map = build_map(extents)
            records += _sparse_records(name, size)
            header.name = _sparse_name(name)
            header.size = len(sparse_map) + sum(length for _, length in extents)
        self._start(header, mtime, records, name if extents is None else b"")
        self._write(sparse_map)

    def add_link(self, name: bytes, target: bytes, mode: int, uid: int, gid: int, mtime: int) -> None:
        """Another name of the member `target`, which came before. The attributes are the same file's."""
        header = Header(name, mode & 0o7777, uid, gid, 0, 0, tar.HARD_LINK, target, 0, 0)
        self._start(header, mtime, [], name)

    def feed(self, data: bytes) -> None:
        """Data of the current member."""
        self._write(data)

    def end(self) -> None:
        """Pad the current member's data to a whole block."""
        self._write(bytes(padding(self._written)))

    def close(self) -> None:
        """Write the archive's end."""
        self._write(bytes(2 * BLOCK))
        self._write(bytes(-self._written % _RECORD))

    def _start(self, header: Header, mtime: int, records: Records, path: bytes) -> None:
        records = [*_overrides(header, mtime, path), *records]
        if records:
            data = build_records(records)
            extended = Header(_extended_name(header.name), 0o644, 0, 0, len(data), 0, tar.PAX, b"", 0, 0)
            self._write(build_header(extended) + data + bytes(padding(len(data))))
        self._write(build_header(header))

    def _write(self, data: bytes) -> None:
        if data:
            self._out.write(data)
            self._written += len(data)


def _overrides(header: Header, mtime: int, path: bytes) -> Records:
    """Records for what the plain header cannot say; also fills in its time."""
    seconds, fraction = divmod(mtime, NANOSECONDS)
    records = []
    if len(path) > 100:
        records.append((b"path", path))
    if len(header.link) > 100:
        records.append((b"linkpath", header.link))
    if not all(_is_utf8(value) for _, value in records):
        records.insert(0, (b"hdrcharset", b"BINARY"))
    numbers = [(b"size", header.size, 12), (b"uid", header.uid, 8), (b"gid", header.gid, 8)]
    numbers += [(b"SCHILY.devmajor", header.major, 8), (b"SCHILY.devminor", header.minor, 8)]
    records += [(keyword, b"%d" % value) for keyword, value, width in numbers if not fits(value, width)]
    if fraction or not fits(seconds, 12):
        records.append((b"mtime", format_time(mtime)))
    header.mtime = max(0, seconds)
    return records


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _attributes(xattrs: Iterable[tuple[bytes, bytes]], acls: Mapping[bytes, bytes]) -> Records:
    records = []
    for name, value in xattrs:
        text = acl_to_text(value) if name in acls else None
        records.append(xattr_record(name, value) if text is None else (acls[name], text))
    return records


def _sparse_records(name: bytes, size: int) -> Records:
    version = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")]
    charset = [] if _is_utf8(name) else [(b"hdrcharset", b"BINARY")]
    return [*charset, *version, (b"GNU.sparse.name", name), (b"GNU.sparse.realsize", b"%d" % size)]


def _sparse_name(name: bytes) -> bytes:
    """Where a reader without sparse files puts the map and the data."""
    directory, _, last = name.rpartition(b"/")
    return (directory + b"/GNUSparseFile.0/" + last)[:100]


def _extended_name(name: bytes) -> bytes:
    """Where a reader without extended headers puts one."""
    directory, _, last = name.rstrip(b"/").rpartition(b"/")
    return (directory + b"/PaxHeaders/" + last)[:100]
