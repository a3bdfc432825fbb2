"""What a copy into a container that rests leaves in its upper when it is killed, taken away by whoever is next.

A file cannot replace another without having a second name for a moment. So before a copy gives any, it notes how these
names begin, in a file beside the upper that it holds locked: a note that nobody holds is one of a copy that was killed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vcs.durable import write_all
from vcs.errors import suppress_errno

_NOTE = "copying"
_BEGIN = re.compile(rb"\.treering-[0-9a-f]{16}-")
_MAY_STAY = (errno.EWOULDBLOCK, errno.EROFS, errno.EACCES, errno.EPERM)
"""The copy goes on; or nothing may be written there."""


@contextmanager
def noted(generation: Path) -> Iterator[bytes]:
    """How second names may begin in the upper of that generation, until the block ends and there are none any more.
    The caller sees to it that nobody else does this. OSError."""
    begin = b".treering-%s-" % secrets.token_hex(8).encode()
    note = generation / _NOTE
    fd = _locked(note)
    try:
        os.ftruncate(fd, 0)
        write_all(fd, begin)
        yield begin
    finally:
        with suppress(OSError):  # then the next one finds that there is nothing to take away
            note.unlink()
        os.close(fd)


def _locked(note: Path) -> int:
    """The note, locked. Whoever looks for an unfinished copy may take it for one before it is, and remove it: then it
    is made once more."""
    while True:
        fd = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)


def remove_unfinished(generation: Path) -> None:
    """Take away what a copy left that was killed, if one was. It stays where nothing may be written. OSError if it is
    not known whether there is any: whoever goes on would take it for the container's."""
    try:
        fd = os.open(generation / _NOTE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        with suppress_errno(_MAY_STAY):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(fd).st_nlink:  # somebody else has done it meanwhile
                return
            begin = os.read(fd, 64)
            if _BEGIN.fullmatch(begin):  # else it was killed before it gave any name
                _remove(os.fsencode(generation / "upper"), begin)
            (generation / _NOTE).unlink()
    finally:
        os.close(fd)


def _remove(top: bytes, begin: bytes) -> None:
    todo = [top]
    while todo:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                elif entry.name.startswith(begin):
                    os.unlink(entry.path)
