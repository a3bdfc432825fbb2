"""An archive -> its members in order, and the data of each. Reads forward only, so that a pipe will do.

Formats: v7, ustar, PAX, GNU (long names, base-256 numbers, all four kinds of sparse files) and what star and libarchive
add for extended attributes and ACLs. Strict: a number that is no number, a checksum that is wrong, a size without its
data or an archive without an end is BadInput, which names the member and the byte.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass

from vcs.errors import BadInput
from vcs.tar import block as tar
from vcs.tar.block import BLOCK, ZERO_BLOCK, Header, is_header, padding, parse_header
from vcs.tar.pax import (
    ACL_XATTRS,
    HEADER_MAX,
    LIBARCHIVE_XATTR,
    NANOSECONDS,
    SCHILY_XATTR,
    Records,
    check_charset,
    decimal,
    identity,
    in_range,
    parse_records,
    parse_time,
    text,
    xattr_of,
)
from vcs.tar.sparse import SparseMap, old_gnu_map, pax_map, read_map
from vcs.tar.stream import Readable, Stream

NAME_MAX = 4096
"""The longest path, in bytes (PATH_MAX of linux/limits.h)."""

_FILE_TYPES = {
    tar.REGULAR: stat.S_IFREG,
    tar.REGULAR_V7: stat.S_IFREG,
    tar.CONTIGUOUS: stat.S_IFREG,
    tar.GNU_SPARSE: stat.S_IFREG,
    tar.HARD_LINK: 0,
    tar.SYMLINK: stat.S_IFLNK,
    tar.CHARACTER: stat.S_IFCHR,
    tar.BLOCK_DEVICE: stat.S_IFBLK,
    tar.DIRECTORY: stat.S_IFDIR,
    tar.GNU_DUMP_DIRECTORY: stat.S_IFDIR,
    tar.FIFO: stat.S_IFIFO,
}
_WITH_DATA = (tar.REGULAR, tar.REGULAR_V7, tar.CONTIGUOUS, tar.GNU_SPARSE, tar.GNU_DUMP_DIRECTORY, tar.HARD_LINK)
"""The types whose size counts data that follows. Others may say a size, a symbolic link often its target's."""

_GLOBAL_KEYWORDS = (b"uid", b"gid", b"mtime", b"hdrcharset")
"""What a global header may say of every member that follows."""
_SINGLE_KEYWORDS = (b"path", b"linkpath", b"size")
_SINGLE_PREFIXES = (b"GNU.sparse.", b"SCHILY.xattr.", b"LIBARCHIVE.xattr.", b"SCHILY.acl.")
"""What only a header for one member can say."""


@dataclass(slots=True)
class Member:
    """What the archive says of one name, every extended header applied."""

    name: bytes
    """As it stands there: it may be absolute, or hold `..`."""
    type: int
    """S_IFREG, S_IFDIR and so on; 0 for a hard link."""
    mode: int
    """The permission bits, 0 to 0o7777."""
    uid: int
    gid: int
    mtime: int
    """Nanoseconds since 1970."""
    size: int
    """Bytes of a regular file, holes included; 0 for the rest."""
    is_sparse: bool
    target: bytes
    """Where a symbolic link points, or the name that a hard link joins."""
    major: int
    minor: int
    xattrs: dict[bytes, bytes]
    acls: dict[bytes, bytes]
    """ACLs that came as text, by the extended attribute that each belongs in (see vcs.tar.acl)."""
    offset: int
    """Where the member begins, its extended headers included."""


class TarReader:
    """Iterate over it for the members; `pieces` or `read` gives the data of the one that came last."""

    def __init__(self, source: Readable, *, needs_end: bool = True) -> None:
        """Unless the archive `needs_end`, it may end right after any member's data, as those of umoci and others do:
        for archives of which something else says that they are whole."""
        self._stream = Stream(source)
        self._needs_end = needs_end
        self._globals: dict[bytes, bytes] = {}
        self._offset = 0
        self._name = b""
        self._left = 0
        """Bytes of the current member's data not yet taken."""
        self._padding = 0
        self._sparse: SparseMap | None = None

    @property
    def offset(self) -> int:
        """How many bytes of the archive have been read."""
        return self._stream.offset

    def __iter__(self) -> Iterator[Member]:
        while (member := self._guarded_next()) is not None:
            yield member

    def read(self) -> bytes:
        """All data of the current member, which must not be sparse, at once: for small ones."""
        try:
            data = self._stream.take(self._left)
        except BadInput as error:
            raise self.error(error) from error
        self._left = 0
        return data

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """The current member's data in order: pairs of a hole's length (0 for none) and bytes (empty for a hole)."""
        if self._sparse is None:
            yield from self._data(self._left)
            return
        position = 0
        for offset, length in self._sparse:
            if offset > position:
                yield offset - position, b""
            yield from self._data(length)
            position = offset + length
        if self._sparse.size > position:
            yield self._sparse.size - position, b""

    @property
    def place(self) -> tuple[bytes, int]:
        """The current member's name, and the byte at which it begins."""
        return self._name, self._offset

    def error(self, problem: BadInput) -> BadInput:
        """The same problem, saying in which member it is and where."""
        if "member" in problem.facts:
            return problem
        return located(problem, self.place)

    def _data(self, size: int) -> Iterator[tuple[int, bytes]]:
        pieces = self._stream.pieces(size)
        while True:
            try:
                piece = next(pieces, b"")
            except BadInput as error:
                raise self.error(error) from error
            if not piece:
                return
            self._left -= len(piece)
            yield 0, piece

    def _guarded_next(self) -> Member | None:
        try:
            self._stream.skip(self._left)
            if self._needs_end:
                self._stream.skip(self._padding)
            else:
                self._stream.skip(len(self._stream.peek(self._padding)))
            self._left = self._padding = 0
            self._sparse = None
            self._name = b""
            self._offset = self._stream.offset
            return self._next()
        except BadInput as error:
            raise self.error(error) from error

    def _next(self) -> Member | None:
        """The next member, after the headers that extend it; None at the end of the archive."""
        extended: dict[int, bytes] = {}
        while True:
            if not (self._needs_end or extended or self._stream.peek(1)):
                return None
            block = self._stream.take(BLOCK)
            if block == ZERO_BLOCK:
                if extended:
                    raise BadInput("an extended header is the last thing in the archive")
                self._end()
                return None
            header = parse_header(block)
            if header.type == tar.GNU_VOLUME:
                self._stream.skip(header.size + padding(header.size))
            elif header.type in (tar.PAX_GLOBAL, tar.PAX, tar.PAX_SUN, tar.GNU_LONG_NAME, tar.GNU_LONG_LINK):
                self._extend(header, extended)
            else:
                return self._member(block, header, extended)

    def _extend(self, header: Header, extended: dict[int, bytes]) -> None:
        """Read a header that says more of those that follow."""
        kind = tar.PAX if header.type == tar.PAX_SUN else header.type
        limit = HEADER_MAX if kind in (tar.PAX, tar.PAX_GLOBAL) else NAME_MAX + 1
        if header.size > limit:
            raise BadInput(f"an extended header of {header.size} bytes is longer than {limit}")
        data = self._stream.take(header.size)
        self._stream.skip(padding(header.size))
        if kind == tar.PAX_GLOBAL:
            self._set_globals(parse_records(data))
        elif kind in extended:
            raise BadInput("two extended headers of the same kind for one member")
        else:
            extended[kind] = data

    def _set_globals(self, records: Records) -> None:
        for keyword, value in records:
            if keyword in _SINGLE_KEYWORDS or keyword.startswith(_SINGLE_PREFIXES):
                raise BadInput(f"a global header cannot set {keyword[:80]!r}, which is for one member")
            if keyword in _GLOBAL_KEYWORDS:
                self._globals[keyword] = value

    def _member(self, block: bytes, header: Header, extended: dict[int, bytes]) -> Member:
        if tar.GNU_LONG_NAME in extended:
            header.name = extended[tar.GNU_LONG_NAME].split(b"\0", 1)[0]
        if tar.GNU_LONG_LINK in extended:
            header.link = extended[tar.GNU_LONG_LINK].split(b"\0", 1)[0]
        self._name = header.name
        records = parse_records(extended[tar.PAX]) if tar.PAX in extended else []
        time = header.mtime * NANOSECONDS
        values = self._globals | dict(records) if records or self._globals else {}
        if values:
            time = _apply(header, values, time)
            self._name = header.name
        if header.type not in _FILE_TYPES:
            raise BadInput(f"members of type {chr(header.type)!r} are not supported")
        kind = _FILE_TYPES[header.type]
        _check_names(header)
        if kind == stat.S_IFREG and header.name.endswith(b"/") and header.type in (tar.REGULAR, tar.REGULAR_V7):
            kind = stat.S_IFDIR  # as tar wrote directories before it had a type for them
        size = self._open_data(block, header, records, values)
        return Member(
            name=header.name,
            type=kind,
            mode=header.mode,
            uid=header.uid,
            gid=header.gid,
            mtime=in_range(time),
            size=size if kind == stat.S_IFREG else 0,
            is_sparse=self._sparse is not None,
            target=header.link if header.type in (tar.SYMLINK, tar.HARD_LINK) else b"",
            major=header.major,
            minor=header.minor,
            xattrs=_xattrs(values) if values else {},
            acls={ACL_XATTRS[key]: value for key, value in values.items() if key in ACL_XATTRS and value},
            offset=self._offset,
        )

    def _open_data(self, block: bytes, header: Header, records: Records, values: dict[bytes, bytes]) -> int:
        """Get ready to give the member's data; returns its size, holes included."""
        stored = header.size if header.type in _WITH_DATA else 0
        if header.type == tar.HARD_LINK and stored and not records and self._link_has_no_data():
            stored = 0
        self._left, self._padding = stored, padding(stored)
        sparse = self._sparse_map(block, header, records, values)
        if sparse is None:
            return stored
        if sparse.data_size != self._left:
            raise BadInput(f"its sparse map says {sparse.data_size} bytes of data, but {self._left} are there")
        if not sparse.is_whole_blocks:
            # GNU tar would start the next part on a block of its own, libarchive right behind this one.
            raise BadInput("its sparse map has a part in the middle that is not whole blocks")
        self._sparse = sparse
        return sparse.size

    def _sparse_map(
        self, block: bytes, header: Header, records: Records, values: dict[bytes, bytes]
    ) -> SparseMap | None:
        if header.type == tar.GNU_SPARSE:
            if not tar.is_gnu(block):
                raise BadInput("its sparse map is star's, which is not supported")
            return old_gnu_map(block, self._stream)
        if _FILE_TYPES[header.type] != stat.S_IFREG or not records:
            return None
        version = values.get(b"GNU.sparse.major", b""), values.get(b"GNU.sparse.minor", b"")
        if version == (b"1", b"0"):
            real_size = decimal(values.get(b"GNU.sparse.realsize", b""), "real size")
            sparse, taken = read_map(self._stream, real_size)
            if taken > self._left:
                raise BadInput("its sparse map is longer than its data")
            self._left -= taken
            return sparse
        if version not in ((b"", b""), (b"0", b"0"), (b"0", b"1")):
            raise BadInput(f"its sparse map is of an unknown version: {version}")
        return pax_map(records)

    def _link_has_no_data(self) -> bool:
        """Whether a hard link's size is only its file's: old tars wrote it there, with no data to follow.

        What follows tells: another header or the end. POSIX's own reading, data after a link, is left to archives
        with extended headers and to those in which no header follows.
        """
        following = self._stream.peek(BLOCK)
        return following == ZERO_BLOCK or (len(following) == BLOCK and is_header(following))

    def _end(self) -> None:
        """After the first of the two zero blocks that end an archive."""
        following = self._stream.peek(BLOCK)
        if following and following != ZERO_BLOCK:
            raise BadInput("a lone block of zeros in the middle of the archive")
        while (following := self._stream.peek(BLOCK)) == ZERO_BLOCK:
            self._stream.skip(BLOCK)
        # Padding of any kind may follow; a second archive would be lost without a word.
        if len(following) == BLOCK and is_header(following):
            raise BadInput("another archive follows the end of this one")
        self._stream.drain()


def located(problem: BadInput, place: tuple[bytes, int]) -> BadInput:
    """The same problem, saying in which member it is (empty: before its name was known) and at which byte."""
    name, offset = place
    where = f"archive member {name!r} at byte {offset}" if name else f"archive, at byte {offset}"
    return BadInput(f"{where}: {problem}", **{"offset": offset} | problem.facts | {"member": name})


def _apply(header: Header, values: dict[bytes, bytes], time: int) -> int:
    """Let extended headers override the header; returns the time. An empty value leaves the header's own."""
    for keyword, value in values.items():
        if not value:
            continue
        match keyword:
            case b"path":
                header.name = text(value, "name")
            case b"linkpath":
                header.link = text(value, "link")
            case b"size":
                header.size = decimal(value, "size")
            case b"uid":
                header.uid = identity(value, "owner")
            case b"gid":
                header.gid = identity(value, "group")
            case b"mtime":
                time = parse_time(value)
            case b"SCHILY.devmajor":
                header.major = identity(value, "device number")
            case b"SCHILY.devminor":
                header.minor = identity(value, "device number")
            case b"hdrcharset":
                check_charset(value)
    if values.get(b"GNU.sparse.name"):
        header.name = text(values[b"GNU.sparse.name"], "name")  # the path is then a made-up one for other readers
    return time


def _check_names(header: Header) -> None:
    if not header.name:
        raise BadInput("a member without a name")
    for what, name in (("name", header.name), ("link", header.link)):
        if len(name) > NAME_MAX:
            raise BadInput(f"its {what} is longer than {NAME_MAX} bytes")


def _xattrs(values: dict[bytes, bytes]) -> dict[bytes, bytes]:
    prefix = LIBARCHIVE_XATTR if any(key.startswith(LIBARCHIVE_XATTR) for key in values) else SCHILY_XATTR
    found = (xattr_of(key, value) for key, value in values.items() if key.startswith(prefix))
    return dict(pair for pair in found if pair)
