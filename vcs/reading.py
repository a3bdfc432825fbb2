"""One name in a directory that is held open -> its entry, with its content in a sink."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from vcs import livedir
from vcs.attributes import entry_of, read_xattrs, special_content
from vcs.blobs import write_file
from vcs.links import NO_TREE
from vcs.model import Content, Device, Entry, Symlink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vcs.model import ListItem
    from vcs.progress import Meter
    from vcs.trees import Sink

_LARGE = 512 << 10
"""A file of more bytes is asked for its size again once it is open: it is more likely to be growing."""


class UnreadableError(Exception):
    """What the operating system says of a name that we wanted to read; the sink's errors come as they are."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def read_name(
    sink: Sink,
    directory: int,
    name: bytes,
    status: os.stat_result,
    meter: Meter,
    before: Mapping[int, ListItem] | None = None,
) -> Entry:
    """The entry of a name that is no directory, with this lstat. `before`: see vcs.blobs.BlobWriter."""
    if stat.S_ISREG(status.st_mode):
        return _read_file(sink, directory, name, status, meter, before)
    meter.add(1, 0)
    content: Content
    try:
        xattrs = read_xattrs(livedir.path_in(directory, name))
        if stat.S_ISLNK(status.st_mode):
            content = Symlink(os.readlink(name, dir_fd=directory))
        else:
            content = special_content(status)
    except OSError as error:
        raise UnreadableError(error) from error
    return entry_of(name, status, content, xattrs)


def read_directory_name(directory: int, name: bytes) -> Entry:
    """The entry of a subdirectory, without what is in it."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        return entry_of(name, status, NO_TREE, read_xattrs(livedir.path_in(directory, name)))
    except OSError as error:
        raise UnreadableError(error) from error


def is_whiteout(mode: int, content: Content) -> bool:
    """Whether overlayfs takes a file of this mode (st_mode) and content for a name that was deleted."""
    return stat.S_ISCHR(mode) and content == Device(0, 0)


def _read_file(
    sink: Sink,
    directory: int,
    name: bytes,
    status: os.stat_result,
    meter: Meter,
    before: Mapping[int, ListItem] | None,
) -> Entry:
    fd = -1
    try:
        fd = livedir.open_in(name, directory)
        xattrs = read_xattrs(fd)
        if status.st_size > _LARGE:
            status = os.fstat(fd)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise UnreadableError(error) from error
    try:
        if status.st_size > _LARGE:
            watched = _Watched(sink, meter)
            content = write_file(watched, fd, status, before)
            meter.add(1, content.size - watched.size)
        else:
            content = write_file(sink, fd, status)
            meter.add(1, content.size)
    finally:
        os.close(fd)
    return entry_of(name, status, content, xattrs)


class _Watched:
    """A sink that tells the bytes of a large file as they come."""

    def __init__(self, sink: Sink, meter: Meter) -> None:
        self._sink = sink
        self._meter = meter
        self.size = 0
        self.put_tree = sink.put_tree

    def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
        self.size += len(data)
        self._meter.add(0, len(data))
        return self._sink.put_chunk(data, digest)
