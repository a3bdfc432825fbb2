"""A tar archive, compressed or not -> a root in the store. Nothing is extracted; vcs.assembly says what names may be.

An archive with nanosecond times, extended attributes and sparse maps gives the same root as the directory it was made
from (GNU tar: --format=posix --sparse --xattrs --xattrs-include='*').
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from msgspec.structs import replace

from vcs.assembly import Held, TreeBuilder
from vcs.attributes import is_kept
from vcs.blobs import CHUNK_MAX, BlobWriter, put_data
from vcs.decompress import Limits, decompressed
from vcs.errors import BadInput
from vcs.ignore import Patterns, Selection
from vcs.importresult import ImportResult
from vcs.links import NO_TREE
from vcs.model import Chunked, Content, Data, Device, Entry, Special, Symlink, Tree
from vcs.progress import Meter, Progress
from vcs.reading import is_whiteout
from vcs.snapshot import split_path
from vcs.tar.acl import acl_from_text, mode_under
from vcs.tar.pax import ACCESS_ACL
from vcs.tar.reader import Member, TarReader, located
from vcs.tar.stream import Readable
from vcs.trees import Sink, write_root

_TARGET_MAX = 4095
"""PATH_MAX less its NUL: what symlink(2) takes."""

_ACCOUNTS = {b"user": [b"etc", b"passwd"], b"group": [b"etc", b"group"]}
"""Where the archive itself says which number a name has (passwd(5), group(5)): both have it in the third field."""
_ACCOUNTS_MAX = 512 << 10
_WAITING_MAX = 32 << 20
"""The most bytes of ACLs with names that are kept until the end."""


def import_tar(
    stream: Readable,
    sink: Sink,
    *,
    patterns: Patterns | None = None,
    progress: Progress | None = None,
    limits: Limits | None = None,
) -> ImportResult:
    """Write the tree in an archive into the sink. The stream is read once, to its end, and never sought.

    What `patterns` leave out is passed over; a .treeringignore in the archive is a file like others. BadInput, with the
    member and the byte, for whatever is wrong with the archive; errors of the sink as they are. The same archive gives
    the same root.
    """
    return _TarImport(stream, sink, patterns, progress, limits).run()


class _TarImport:
    def __init__(
        self,
        stream: Readable,
        sink: Sink,
        patterns: Patterns | None,
        progress: Progress | None,
        limits: Limits | None,
    ) -> None:
        self._reader = TarReader(decompressed(stream, limits))
        self._selection = Selection(patterns) if patterns else None
        self._sink = sink
        self._builder = TreeBuilder()
        self._members = Members(self._reader, sink, self._builder, progress)

    def run(self) -> ImportResult:
        for member in self._reader:
            try:
                if self._is_wanted(member):
                    self._members.add(member)
            except BadInput as error:
                raise self._reader.error(error) from error
        result = self._members.result(lambda: self._builder.finish(self._sink))
        result.left_out = len(self._selection.left_out) if self._selection else 0
        return result

    def _is_wanted(self, member: Member) -> bool:
        if self._selection is None:
            return True
        if not self._selection.has(member.name, stat.S_ISDIR(member.type)):
            return False
        if not member.type and not self._selection.has(member.target, is_dir=False):
            raise BadInput(f"a hard link to {member.target!r}, which the patterns leave out", target=member.target)
        return True


class Members:
    """Members of an archive -> names in a builder, and their content in the sink."""

    def __init__(self, reader: TarReader, sink: Sink, builder: TreeBuilder, progress: Progress | None) -> None:
        self._reader = reader
        self._sink = sink
        self._builder = builder
        self._whiteouts: list[bytes] = []
        self._meter = Meter(progress)
        self._acls = _Acls()

    def result(self, finish: Callable[[], Entry]) -> ImportResult:
        """After the last member: what came of all of them. `finish` finishes the builder."""
        self._acls.settle()
        root = finish()
        self._meter.close()
        assert isinstance(root.content, Tree)
        result = ImportResult(write_root(self._sink, root), root.content.entries, root.content.size)
        result.whiteouts = self._whiteouts
        return result

    def add(self, member: Member) -> None:
        """Take the member that the reader gave last."""
        if not member.type:
            self._builder.link(member.name, member.target)
            return
        xattrs = {name: value for name, value in member.xattrs.items() if is_kept(os.fsdecode(name))}
        entry = Entry(
            name=b"",
            mode=mode_under(xattrs.get(ACCESS_ACL, b""), member.type | member.mode),
            uid=member.uid,
            gid=member.gid,
            mtime=member.mtime,
            content=self._content(member),
            xattrs=tuple(sorted(xattrs.items())),
        )
        acls = {name: text for name, text in member.acls.items() if name not in xattrs}
        if not acls:
            self._builder.add(member.name, entry)
        elif self._acls.can_read(acls):
            self._builder.add(member.name, self._acls.filled(entry, acls))
        else:
            self._acls.wait(self._builder.hold(member.name, entry), acls, self._reader.place)

    def _content(self, member: Member) -> Content:
        match member.type:
            case stat.S_IFREG:
                return self._file(member)
            case stat.S_IFDIR:
                return NO_TREE
            case stat.S_IFLNK:
                if not 0 < len(member.target) <= _TARGET_MAX:
                    raise BadInput(f"a symbolic link with a target of {len(member.target)} bytes")
                return Symlink(member.target)
            case stat.S_IFCHR | stat.S_IFBLK:
                device = Device(member.major, member.minor)
                if is_whiteout(member.type, device):
                    self._whiteouts.append(b"/" + b"/".join(split_path(member.name)))
                return device
            case _:
                return Special()

    def _file(self, member: Member) -> Data | Chunked:
        if member.size <= CHUNK_MAX and not member.is_sparse:
            data = self._reader.read()
            self._acls.learn(member.name, data)
            self._meter.add(1, len(data))
            return put_data(self._sink, data)
        writer = BlobWriter(self._sink)
        for hole, data in self._reader.pieces():
            if hole:
                writer.hole(hole)
            else:
                writer.feed(data)
                self._meter.add(0, len(data))
        self._meter.add(1, 0)
        return writer.finish()


class _Acls:
    """ACLs that came as text. They may name users, and only the archive's own accounts say which number one has."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Held, bytes, dict[bytes, bytes], tuple[bytes, int]]] = []
        self._room = _WAITING_MAX
        self._files: dict[bytes, bytes] = {}
        self._numbers: dict[bytes, dict[bytes, int]] = {}

    def can_read(self, acls: dict[bytes, bytes]) -> bool:
        """Whether they hold numbers only. BadInput if one is malformed."""
        named: set[bytes] = set()

        def note(_kind: bytes, name: bytes) -> int:
            named.add(name)
            return 0

        for text in acls.values():
            acl_from_text(text, note)
        return not named

    def filled(self, entry: Entry, acls: dict[bytes, bytes]) -> Entry:
        """The entry with its ACLs as the kernel keeps them. BadInput if a name in them has no number."""
        made = {name: acl_from_text(text, self._resolve) for name, text in acls.items()}
        mode = mode_under(made.get(ACCESS_ACL, b""), entry.mode)
        xattrs = [*entry.xattrs, *(pair for pair in made.items() if pair[1])]
        return replace(entry, mode=mode, xattrs=tuple(sorted(xattrs)))

    def wait(self, held: Held, acls: dict[bytes, bytes], place: tuple[bytes, int]) -> None:
        """Fill in an entry's ACLs at the end, when the archive's accounts are known."""
        self._room -= sum(map(len, acls.values()))
        if self._room < 0:
            raise BadInput("too many ACLs with names in them")
        self._waiting.append((held, held.packed, acls, place))

    def learn(self, name: bytes, data: bytes) -> None:
        """Keep a file if accounts are in it."""
        if name.endswith((b"passwd", b"group")) and len(data) <= _ACCOUNTS_MAX:
            path = split_path(name)
            self._files.update((kind, data) for kind, place in _ACCOUNTS.items() if path == place)

    def settle(self) -> None:
        """Fill in those that waited. BadInput, with the member, if a name has no number."""
        self._numbers = {kind: _accounts(data) for kind, data in self._files.items()}
        for held, packed, acls, place in self._waiting:
            if held.packed is not packed:
                continue  # a later member of the same name gave it other attributes
            try:
                held.entry = self.filled(held.entry, acls)
            except BadInput as error:
                raise located(error, place) from error

    def _resolve(self, kind: bytes, name: bytes) -> int | None:
        return self._numbers.get(kind, {}).get(name)


def _accounts(data: bytes) -> dict[bytes, int]:
    fields = [line.split(b":") for line in data.split(b"\n")]
    return {f[0]: int(f[2]) for f in reversed(fields) if len(f) > 2 and f[2].isdigit() and len(f[2]) <= 10}
