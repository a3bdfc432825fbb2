"""Entries of a snapshot -> members of an archive, one after the other: what whole archives and image layers share.

Of hard links the first that comes is the file. A hole stays one as far as it spans whole blocks of 512 bytes, which
every hole on a file system does.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from vcs.blobreader import list_items
from vcs.exporter import ExportResult
from vcs.model import Chunked, Data, Device, Entry, Symlink
from vcs.progress import Meter, Progress
from vcs.snapshot import Snapshot
from vcs.tar.block import BLOCK
from vcs.tar.writer import TarWriter


class Members:
    """Writes entries of one snapshot. OSError as the writer's stream raises it."""

    def __init__(self, snapshot: Snapshot, writer: TarWriter, progress: Progress | None = None) -> None:
        self._snapshot = snapshot
        self._writer = writer
        self._meter = Meter(progress)
        self._first: dict[bytes, bytes] = {}
        """The member that each group of hard links is written as."""
        self._result = ExportResult()

    def add(self, path: bytes, name: bytes, entry: Entry) -> None:
        """Write the entry at `path` as the member `name`; of a directory, not what is in it. A socket is skipped."""
        if stat.S_ISSOCK(entry.mode):
            self.skip(path)
            return
        self._result.entries += 1
        if entry.link is not None:
            first = self._first.setdefault(entry.link.group, name)
            if first is not name:
                self._writer.add_link(name, first, entry.mode, entry.uid, entry.gid, entry.mtime)
                return
        match entry.content:
            case Data() | Chunked() as content:
                self._add_file(name, entry, content)
            case Symlink(target):
                self._begin(name, entry, target=target)
            case Device(major, minor):
                self._begin(name, entry, device=(major, minor))
            case _:
                self._begin(name + b"/" if entry.is_dir and not name.endswith(b"/") else name, entry)

    def add_empty(self, name: bytes) -> None:
        """Write an empty file of nobody's, which means something by its name."""
        self._writer.add(name, stat.S_IFREG, 0, 0, 0)
        self._result.entries += 1

    def skip(self, path: bytes) -> None:
        """Note a socket."""
        self._result.skipped.append((path, "an archive cannot hold a socket"))

    def close(self) -> ExportResult:
        """Write the archive's end; returns what was written."""
        self._writer.close()
        self._meter.close()
        return self._result

    def _begin(
        self,
        name: bytes,
        entry: Entry,
        size: int = 0,
        target: bytes = b"",
        device: tuple[int, int] = (0, 0),
        extents: list[tuple[int, int]] | None = None,
    ) -> None:
        self._writer.add(
            name,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime,
            size=size,
            target=target,
            device=device,
            xattrs=entry.xattrs,
            extents=extents,
        )

    def _add_file(self, name: bytes, entry: Entry, content: Data | Chunked) -> None:
        extents = None
        if isinstance(content, Chunked) and content.allocated < content.size:
            extents = list(self._extents(content))
        self._begin(name, entry, content.size, extents=extents)
        position = 0
        for hole, data in self._snapshot.pieces(content):
            if hole:
                start, end = _kept(position, position + hole, content.size)
                data = bytes(hole - (end - start))
            self._writer.feed(data)
            self._meter.add(0, len(data))
            position += hole or len(data)
        self._writer.end()
        self._meter.add(1, 0)
        self._result.size += content.size

    def _extents(self, content: Chunked) -> Iterator[tuple[int, int]]:
        """The runs of a sparse file that the archive holds: what is between the holes that it keeps."""
        position = begin = 0
        for item in list_items(self._snapshot.objects, content.list):
            if not item.digest:
                start, end = _kept(position, position + item.length, content.size)
                if end > start:
                    if start > begin:
                        yield begin, start - begin
                    begin = end
            position += item.length
        if position > begin:
            yield begin, position - begin


def _kept(start: int, end: int, size: int) -> tuple[int, int]:
    """What is kept of a hole: whole blocks, the last one of the file counting as whole. Readers differ on others."""
    start += -start % BLOCK
    end -= end % BLOCK if end < size else 0
    return start, max(start, end)
