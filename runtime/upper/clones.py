"""Large files copied in no time, where the file system lets two files share their blocks (btrfs, xfs: FICLONE,
ioctl_ficlonerange(2)): while a container stands still they are cloned, and read when it goes on.

A clone has no name, so nothing is left of it whatever becomes of us.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vcs.blobs import LARGE, write_file
from vcs.model import Chunked, Content, Data, ListItem
from vcs.trees import Sink

_FICLONE = 0x40049409
_STANDS_FOR = b"clone "


class Clones:
    """Clones of files on the file system of a directory. In an entry, a placeholder stands for a content that is not
    read yet."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._able = True
        self._files: dict[bytes, tuple[int, os.stat_result, Mapping[int, ListItem] | None]] = {}

    def take(self, fd: int, status: os.stat_result, before: Mapping[int, ListItem] | None) -> Data | None:
        """Clone an open file; None if it is small, or the file system does not do that. `before`: see vcs.blobs."""
        if not self._able or status.st_size < LARGE or status.st_nlink > 1:
            return None
        clone = -1
        try:
            clone = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.ioctl(clone, _FICLONE, fd)
        except OSError:
            self._able = False
            if clone >= 0:
                os.close(clone)
            return None
        placeholder = Data(status.st_size, _STANDS_FOR + b"%d" % len(self._files))
        self._files[placeholder.chunk] = clone, status, before
        return placeholder

    def key(self, content: Content) -> bytes | None:
        """What a placeholder is known by; None for a content."""
        return content.chunk if isinstance(content, Data) and content.chunk in self._files else None

    def read(self, sink: Sink) -> dict[bytes, Data | Chunked]:
        """The contents, by the keys of their placeholders."""
        return {key: write_file(sink, fd, status, before) for key, (fd, status, before) in self._files.items()}

    def close(self) -> None:
        for fd, _, _ in self._files.values():
            with suppress(OSError):
                os.close(fd)
        self._files = {}
