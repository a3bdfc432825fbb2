"""What happens in an upper from now on: told by the kernel (fanotify(7)), so that nobody need look for it.

A mark on the whole file system, which takes no time to set, has the kernel queue an event for each name that comes,
goes or moves, and for each file that is written, has its attributes changed, or is closed after it was open for
writing. Events name a directory and a name in it, or a file, by handles (open_by_handle_at(2)); what is not the upper's
is of no interest and left alone by runtime.upper.look.

Not everything is told. Whoever relies on this adds the files that are mapped or open for writing when the container
stands still (runtime.capturing.openfiles):

- stores through a mapping are no events; but when the mapping goes, its file is closed, and that is one;
- splice(2) and direct asynchronous writes through overlayfs are none either; the close is, as above;
- io_uring may write to files that no descriptor shows: while a process has one, nothing here can be relied on.

Linux 6.5 was the first to tell of writes through overlayfs to the files below. Only root may watch a file system.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from pathlib import Path

from runtime.upper.look import Hints

_FIRST_LINUX = (6, 6)
"""One later than need be."""
_INIT = 0x1 | 0x2 | 0x10 | 0x200 | 0x400 | 0x800
"""FAN_CLOEXEC, FAN_NONBLOCK, FAN_UNLIMITED_QUEUE, FAN_REPORT_FID, FAN_REPORT_DIR_FID, FAN_REPORT_NAME."""
_MARK_ADD_FILESYSTEM = 0x1 | 0x100
_EVENTS = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x40000000
"""FAN_MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE, ONDIR."""
_NAMES = 0x40 | 0x80 | 0x100 | 0x200
"""Those of them that are of a name, and not of a file."""
_OVERFLOW = 0x4000
_EVENT = struct.Struct("=IBBHQii")
_INFO = struct.Struct("=BBHQIi")
"""Type, padding, length; fsid; the handle's length and type. The handle follows, and a name where there is one."""
_FID, _DFID_NAME = 1, 2
_ITSELF = b"."
_AT_FDCWD = -100
_BUFFER = 1 << 17

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]
_libc.open_by_handle_at.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int]


class Watch:
    """Watches the file system of a directory from the moment that it is made. Close it soon: it hears all that happens
    on that file system."""

    def __init__(self, upper: Path) -> None:
        """OSError if it cannot be watched."""
        self.hints = Hints()
        self.complete = True
        """Whether everything was told."""
        self._inodes: dict[bytes, int | None] = {}
        self._mount = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._fd = -1
        try:
            self._fd = _checked(_libc.fanotify_init(_INIT, os.O_RDONLY))
            _checked(_libc.fanotify_mark(self._fd, _MARK_ADD_FILESYSTEM, _EVENTS, _AT_FDCWD, os.fsencode(upper)))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        for fd in (self._fd, self._mount):
            if fd >= 0:
                os.close(fd)
        self._fd = self._mount = -1

    def read(self) -> None:
        """Take what has been told by now into `hints`."""
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return
            position = 0
            while position < len(data):
                length, _, _, header, mask, _, _ = _EVENT.unpack_from(data, position)
                is_told = self._take(data, position + header, position + length, bool(mask & _NAMES))
                if mask & _OVERFLOW or not is_told:
                    self.complete = False
                position += length

    def _take(self, data: bytes, position: int, end: int, is_name: bool) -> bool:
        """One event, in all its parts: of a name, that is the directory and the name; of a file, the file (and its
        directory and name, which do not matter; of a directory, itself and `.`). Whether it says of what it is: a
        handle for which the kernel has no memory is not there."""
        is_told = False
        while position < end:
            kind, _, length, _, size, _ = _INFO.unpack_from(data, position)
            handle_end = position + _INFO.size + size
            name = data[handle_end : position + length].split(b"\0", 1)[0] if kind == _DFID_NAME else b""
            wanted = kind == _DFID_NAME if is_name else kind == _FID or name == _ITSELF
            is_told |= wanted
            inode = self._inode(data[position + _INFO.size - 8 : handle_end]) if wanted else None
            if inode is not None and is_name:
                self.hints.names.setdefault(inode, set()).add(name)
            elif inode is not None:
                self.hints.inodes.add(inode)
            position += length
        return is_told

    def _inode(self, handle: bytes) -> int | None:
        """The inode of a file handle. None if the file is gone: then an event in its directory says so as well; or if
        it cannot be opened just now: then not everything was told."""
        if handle not in self._inodes:
            try:
                fd = _checked(_libc.open_by_handle_at(self._mount, handle, os.O_PATH | os.O_CLOEXEC))
            except OSError as error:
                if error.errno != errno.ESTALE:
                    self.complete = False
                    return None
                self._inodes[handle] = None
            else:
                try:
                    self._inodes[handle] = os.fstat(fd).st_ino
                finally:
                    os.close(fd)
        return self._inodes[handle]


def watched(upper: Path) -> Watch | None:
    """A watch over an upper; None where it cannot be had, or would not tell of all that it should."""
    if _linux() < _FIRST_LINUX:
        return None
    try:
        return Watch(upper)
    except OSError:
        return None


def _linux() -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return tuple(map(int, found.groups())) if found else (0,)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
