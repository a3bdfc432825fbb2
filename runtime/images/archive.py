"""An image in a tar archive, read in place: one pass finds where its members are, and nothing is unpacked."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterable
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from vcs.decompress import decompressed
from vcs.errors import BadInput
from vcs.snapshot import split_path
from vcs.tar.reader import TarReader
from vcs.tar.stream import Readable

if TYPE_CHECKING:
    from types import TracebackType

_MEMBERS_MAX = 20_000
_LINKS_MAX = 8
_HEAD = 64 << 10
"""So much of an archive tells what it is: the first few names."""
_PIECE = 1 << 20
_MARKS = {"oci-layout", "index.json", "manifest.json", "repositories", "blobs"}
_DIGEST = re.compile(r"(sha256[:-])?[0-9a-f]{64}(\.(json|tar|tar\.gz|tar\.zst))?")


class Piece:
    """A part of a file. Reading it moves nothing that others read."""

    def __init__(self, file: int, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self._left = size

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        data = os.pread(self._file, min(size, self._left), self._offset)
        self._offset += len(data)
        self._left -= len(data)
        return data

    def skip(self, size: int, /) -> int:
        """Pass over at most `size` bytes; returns how many there were."""
        passed = min(size, self._left)
        self._offset += passed
        self._left -= passed
        return passed

    def __enter__(self) -> Piece:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """The file is somebody else's."""


class ArchiveFiles:
    """The files in a tar archive that is not compressed, in an open file that can be sought. Satisfies layout.Files."""

    def __init__(self, file: int, name: str) -> None:
        """`name` is what the archive is called in errors. BadInput if it cannot be read."""
        self._file = file
        self._name = name
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        reader = TarReader(Piece(file, 0, os.fstat(file).st_size), needs_end=False)
        for count, member in enumerate(reader):
            path = _path(member.name)
            if count >= _MEMBERS_MAX:
                raise BadInput(f"{name} has more than {_MEMBERS_MAX:,} members, as no image has", archive=name)
            self._links.pop(path, None)
            self._places.pop(path, None)
            if member.type == stat.S_IFREG and not member.is_sparse:
                self._places[path] = reader.offset, member.size
            elif member.type == stat.S_IFLNK:
                self._links[path] = posixpath.join(posixpath.dirname(path), os.fsdecode(member.target))
            elif not member.type:
                self._links[path] = os.fsdecode(member.target)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def size(self, name: str) -> int:
        """How many bytes a file has. BadInput if it is not there."""
        return self._place(name)[1]

    def open(self, name: str, /) -> AbstractContextManager[Readable]:
        """A file, by its path in the archive. BadInput if it is not there, or not a file."""
        return Piece(self._file, *self._place(name))

    def _place(self, name: str) -> tuple[int, int]:
        path = _path(os.fsencode(name))
        for _ in range(_LINKS_MAX):
            if path not in self._links:
                break
            path = posixpath.normpath(self._links[path])
        if path not in self._places:
            raise BadInput(f"{name} is not in {self._name}", archive=self._name)
        return self._places[path]


def looks_like_image(head: bytes) -> bool:
    """Whether an archive that begins so may hold an image and is no root filesystem's: by the names of its first few
    members. ArchiveFiles will know."""
    try:
        for member in TarReader(BytesIO(head)):
            top = os.fsdecode((split_path(member.name, keep_dots=True) or [b""])[0])
            if top in _MARKS or _DIGEST.fullmatch(top):
                return True
    except BadInput:
        pass  # the head ends somewhere
    return False


class _Taking:
    """What an Opened's decoder reads."""

    def __init__(self, opened: Opened) -> None:
        self.read = opened.take


class Opened:
    """An archive that is no more than opened: a stream, of which the first bytes have been looked at."""

    def __init__(self, source: Readable) -> None:
        self._raw = source
        self.taken = 0
        """Bytes of the source that have been read; it may be compressed."""
        self._source = decompressed(_Taking(self))
        self.head = b""
        while len(self.head) < _HEAD and (data := self._source.read(_HEAD)):
            self.head += data
        self._held = self.head

    def read(self, size: int, /) -> bytes:
        """The content, decompressed."""
        if self._held:
            data, self._held = self._held[:size], self._held[size:]
            return data
        return self._source.read(size) or b""

    def take(self, size: int) -> bytes | None:
        """More of the source."""
        data = self._raw.read(size)
        self.taken += len(data or b"")
        return data

    def spooled(self, directory: Path) -> int:
        """What is left of it in a file without a name, which the caller closes."""
        file = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            while data := self.read(_PIECE):
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
        except BaseException:
            os.close(file)
            raise
        return file


def is_image(names: Iterable[str] | ArchiveFiles) -> bool:
    """Whether files of these names are an image."""
    return ("oci-layout" in names and "index.json" in names) or "manifest.json" in names


def _path(name: bytes) -> str:
    return os.fsdecode(b"/".join(split_path(name)))
