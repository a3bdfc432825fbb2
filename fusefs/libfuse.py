"""The portable driver: fusepy over libfuse 2, which mounts with fusermount for who may not. The only importer of fuse.

An adapter only; meaning is in filesystem.py, and which path is which node in paths.py. What libfuse cannot be told, and
what therefore differs from the native driver, is in docs/fuse.md.

libfuse has one lifetime for all names. Names above the roots change, so it is short; what is kept for ever is
attributes, since each lookup brings them anew, and contents (`auto_cache`: until a file's size or mtime changes, and
below a root they never do; words above them may change without either, and are never kept). Operations that are missing
here are answered in C, without Python: FLUSH, RELEASE and their like.

One thread serves. libfuse's own would each wait for Python's lock, and take a new thread state a request.
"""

from __future__ import annotations

import ctypes.util
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from fusefs.failures import Failures
from fusefs.filesystem import BLOCK_SIZE, NAME_MAX, FileSystem, attributes
from fusefs.inodes import Folder
from fusefs.paths import Paths
from fusefs.view import Changing, Text
from fusefs.wire.protocol import UNKNOWN_INO
from vcs.model import RootId

Fill: TypeAlias = Callable[[bytes, int, int, int], bool]
"""Takes an entry's name, number, mode and the position after it; False if there was no room."""

LIBRARY = "libfuse.so.2"
NAME_SECONDS = 1
"""For how long the kernel keeps a name."""
_ENDLESS = 1 << 30
"""Seconds. libfuse's numbers are C's doubles, its tables' are not always."""
_BATCH = 128
"""The kernel asks for 4 KiB of a listing: so many of the shortest names."""
_BYTES = "latin-1"
"""Decodes each byte to a character and back, so that names of any bytes pass through fusepy's strings unharmed."""


@contextmanager
def _named_library() -> Iterator[None]:
    """fusepy finds its library by starting ldconfig, gcc and ld, whichever there is. The dynamic linker needs none."""
    found = ctypes.util.find_library
    ctypes.util.find_library = lambda name: LIBRARY if name == "fuse" else found(name)
    try:
        yield
    finally:
        ctypes.util.find_library = found


with _named_library():
    import fuse  # OSError where libfuse 2 is not installed


def serve(
    filesystem: FileSystem,
    point: Path,
    source: str,
    *,
    keep: Callable[[RootId], bool],
    ready: Callable[[], None],
) -> bool:
    """Mount a file system at an empty directory and serve it until it is unmounted, or the process gets SIGTERM.

    `source` is what mount tables show for it, `keep` is Paths's; `ready` is called once it is mounted. False if
    libfuse could not mount; why, it has written to the standard error output.
    """
    options = {
        "fsname": _escaped(source),
        "subtype": "treering",
        "ro": True,
        "nosuid": True,
        "nodev": True,
        "default_permissions": True,
        "use_ino": True,
        "auto_cache": True,
        "entry_timeout": NAME_SECONDS,
        "negative_timeout": 0,
        "attr_timeout": _ENDLESS,
        "ac_attr_timeout": _ENDLESS,
    }
    operations = _Operations(filesystem, Paths(filesystem, keep), ready)
    try:
        _Mount(
            operations, os.fsencode(point).decode(_BYTES), encoding=_BYTES, foreground=True, nothreads=True, **options
        )
    except RuntimeError:  # what fusepy makes of any failure
        return False
    return True


def _escaped(option: str) -> str:
    """An option's value as libfuse's parser takes it, in characters that stand for bytes."""
    return os.fsencode(option).decode(_BYTES).replace("\\", "\\\\").replace(",", "\\,")


class _Mount(fuse.FUSE):  # type: ignore[misc]
    """fusepy's, but listings know where to go on, so that a large directory need not be listed whole for its first
    names, and their entries need no dictionary each; and a file that is opened may be one not to be kept."""

    def open(self, path: bytes, information: Any) -> int:
        information.contents.direct_io = self.operations("open", path.decode(_BYTES))
        return 0

    def readdir(self, path: bytes, buffer: Any, filler: Any, offset: int, _: Any) -> int:
        status = fuse.c_stat()

        def fill(name: bytes, number: int, mode: int, following: int) -> bool:
            status.st_ino = number
            status.st_mode = mode
            return not filler(buffer, name, status, following)

        self.operations("readdir", path.decode(_BYTES), fill, offset)
        return 0


class _Operations:
    """What fusepy calls, with the names and signatures that it wants (fuse.Operations)."""

    use_ns = True

    def __init__(self, filesystem: FileSystem, paths: Paths, ready: Callable[[], None]) -> None:
        self._fs = filesystem
        self._paths = paths
        self._ready = ready
        self._failures = Failures()

    def __call__(self, operation: str, path: str, *arguments: Any) -> Any:
        raw = path.encode(_BYTES)
        try:
            return getattr(self, operation)(raw, *arguments)
        except Exception as error:
            number = self._failures.errno_of(error, "%s of %r", operation, raw)
            raise OSError(number, os.strerror(number)) from None

    def init(self, _path: bytes) -> None:
        self._ready()

    def statfs(self, _path: bytes) -> dict[str, int]:
        return {"f_bsize": BLOCK_SIZE, "f_frsize": BLOCK_SIZE, "f_namemax": NAME_MAX}

    def getattr(self, path: bytes, _handle: int | None = None) -> dict[str, int]:
        node = self._paths.node(path)
        number, size, blocks, _, _, _, _, _, _, mode, links, uid, gid, device, block_size = attributes(node)
        time = node.entry.mtime
        return {
            "st_ino": number,
            "st_size": size,
            "st_blocks": blocks,
            "st_atime": time,
            "st_mtime": time,
            "st_ctime": time,
            "st_mode": mode,
            "st_nlink": links,
            "st_uid": uid,
            "st_gid": gid,
            "st_rdev": device,
            "st_blksize": block_size,
        }

    def open(self, path: bytes) -> bool:
        """Whether each read is to come here, since the content may be another one each time."""
        return isinstance(self._paths.node(path), Text)

    def readlink(self, path: bytes) -> str:
        return self._fs.target(self._paths.node(path)).decode(_BYTES)

    def read(self, path: bytes, size: int, offset: int, _handle: int) -> bytes:
        data = self._fs.read(self._paths.node(path), offset, size)
        return data if type(data) is bytes else bytes(data)

    def getxattr(self, path: bytes, name: str) -> bytes:
        value = self._fs.xattrs(self._paths.node(path)).get(name.encode(_BYTES))
        if value is None:
            raise OSError(errno.ENODATA, "no such attribute")
        return value

    def listxattr(self, path: bytes) -> list[str]:
        return [name.decode(_BYTES) for name in self._fs.xattrs(self._paths.node(path))]

    # -- directories: position 0 is `.`, 1 is `..`, then the names; an offset is the position to go on with
    # (above the roots, where positions move, what View.names() says)

    def readdir(self, path: bytes, fill: Fill, offset: int) -> None:
        """Fill in entries from a position on, until there is no room; none only at the end."""
        node = self._paths.node(path)
        if not isinstance(node, (Folder, Changing)):
            raise OSError(errno.ENOTDIR, "not a directory")
        for name, number in ((b".", node.number), (b"..", node.parent))[offset:]:
            offset += 1
            if not fill(name, number, stat.S_IFDIR, offset):
                return
        if isinstance(node, Folder):
            self._fill_from_root(node, fill, offset - 2)
            return
        for following, name, kind in self._fs.names(node, offset):
            if not fill(name, UNKNOWN_INO, kind, following):
                return

    def _fill_from_root(self, folder: Folder, fill: Fill, position: int) -> None:
        """With the entries of one run: where a large directory is cut, the kernel asks again."""
        listing = self._fs.listing(folder)
        if position >= len(listing):
            return
        run = listing.run_at(position)
        end = len(run.entries)
        for start in range(position - run.first, end, _BATCH):
            places = range(start, min(start + _BATCH, end))
            if self._fs.lists_nodes(listing):
                children = self._fs.children(folder, listing, run, places.start, places.stop)
                numbers = [node.number for node in children]
            else:
                numbers = [folder.number + run.starts[place] for place in places]
            for place, number in zip(places, numbers, strict=True):
                entry = run.entries[place]
                if not fill(entry.name, number, entry.mode, run.first + place + 3):
                    return
