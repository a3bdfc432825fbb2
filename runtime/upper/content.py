"""The content of a file of an upper, read; or taken from what an earlier scan saw, where that can be relied on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.upper import pinned
from runtime.upper.clones import Clones
from runtime.upper.frames import Frame
from runtime.upper.seen import Contents, joined
from vcs.blobs import LARGE, cuts_of, write_file
from vcs.model import EMPTY_FILE, Chunked, Content, Data, ListItem
from vcs.ticks import is_settled
from vcs.trees import Objects, Sink

_ATTEMPTS = 3
"""How often a file is read that is being written."""
_REREAD_MAX = 64 << 20
"""A larger file that is being written is read once."""


@dataclass(frozen=True, slots=True)
class Distrust:
    """Files whose content may change, or have changed, without stat(2) telling: they are read in any case."""

    paths: frozenset[bytes] = frozenset()
    """As in Seen."""
    inodes: frozenset[int] = frozenset()


NOTHING = Distrust()


class Reader:
    """Reads the files of one scan, which began at `since` (time_ns)."""

    def __init__(
        self,
        sink: Sink,
        base: Objects,
        contents: Contents | None,
        distrust: Distrust,
        since: int,
        clones: Clones | None,
    ) -> None:
        self._sink = sink
        self._base = base
        self._contents = contents
        self._distrust = distrust
        self._since = since
        self._clones = clones
        self.files = 0
        """Files that were read."""
        self.size = 0
        """Bytes in them, holes included."""
        self.unsteady: list[bytes] = []
        """Paths, as in Seen, of files that were written to each time they were read."""

    def read(self, frame: Frame, name: bytes, fd: int, status: os.stat_result) -> tuple[Data | Chunked, os.stat_result]:
        """The content of a pinned regular file, and its status when it was so."""
        if not status.st_size:
            return EMPTY_FILE, status
        if self._contents is not None and frame.place is not None and not self._is_distrusted(frame, name, status):
            known = self._contents.get(frame.place, name, status)
            if known is not None:
                return known, status
        lower = frame.below(name) if status.st_size >= LARGE else None
        before = cuts_of(self._base, lower.content) if lower is not None else None
        for _ in range(_ATTEMPTS if status.st_size <= _REREAD_MAX else 1):
            content, after = self._read_file(fd, status, before)
            if pinned.same_state(status, after):
                return content, status
            status = after
        self.unsteady.append(joined(frame.path, name))
        return content, status

    def waiting(self, content: Content) -> bytes | None:
        """The key of a content that later() gives; None if it has been read."""
        return self._clones.key(content) if self._clones is not None else None

    def later(self) -> dict[bytes, Data | Chunked]:
        """Read what can be read when the container goes on."""
        return self._clones.read(self._sink) if self._clones is not None else {}

    def place(self, status: os.stat_result) -> bytes | None:
        """Where the directory with this status was seen, if it was."""
        return self._contents.place(status.st_ino) if self._contents is not None else None

    def stamp(self, status: os.stat_result) -> int:
        """The ctime by which a later change will be noticed, 0 if it might not be."""
        return status.st_ctime_ns if is_settled(status, self._since) else 0

    def stamp_of_file(self, frame: Frame, name: bytes, status: os.stat_result) -> int:
        """The same for a file that has been read; `status` is from before."""
        if self._is_distrusted(frame, name, status) or self.unsteady[-1:] == [joined(frame.path, name)]:
            return 0
        return self.stamp(status)

    def _is_distrusted(self, frame: Frame, name: bytes, status: os.stat_result) -> bool:
        distrust = self._distrust
        return status.st_ino in distrust.inodes or joined(frame.path, name) in distrust.paths

    def _read_file(
        self, fd: int, status: os.stat_result, before: Mapping[int, ListItem] | None
    ) -> tuple[Data | Chunked, os.stat_result]:
        opened = pinned.open_file(fd)
        try:
            content: Data | Chunked | None = None
            if self._clones is not None:
                content = self._clones.take(opened, status, before)
            if content is None:
                content = write_file(self._sink, opened, status, before)
            after = os.fstat(opened)
        finally:
            os.close(opened)
        self.files += 1
        self.size += content.size
        return content, after
