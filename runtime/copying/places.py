"""What SOURCE and TARGET of a copy mean: Docker's rules.

    SOURCE/.              what is in the directory, not the directory itself
    TARGET exists         a directory: the copy goes into it, under SOURCE's name; a file: it is replaced by a file
    TARGET does not       the copy is called so; its directory must be there. With a slash at the end: only a directory

A symbolic link at SOURCE is copied itself, unless it is to be followed; one at TARGET is always followed.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from runtime.copying.item import Copied
from runtime.copying.target import OpenDirectory, Owners, Target, strictly
from runtime.system.rootaccess import Root
from vcs.errors import BadInput, NotFound


class Side(Protocol):
    """Where paths are looked up: the machine, or a container."""

    def open(self, path: bytes, flags: int) -> int:
        """Open an absolute path, links followed; close-on-exec."""

    def resolve(self, path: bytes) -> bytes:
        """The absolute path without links; names that do not exist are kept."""

    def shown(self, path: bytes) -> str:
        """The path as the user wrote it, or would."""


class Machine:
    """The machine's own files, as the caller sees them."""

    def open(self, path: bytes, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC)

    def resolve(self, path: bytes) -> bytes:
        return os.path.realpath(path)

    def shown(self, path: bytes) -> str:
        return os.fsdecode(path)


@dataclass(frozen=True, slots=True)
class Inside:
    """A container's files."""

    root: Root
    name: str
    aside: bytes | None = None
    """How second names begin of files that are written, which are synced then; None where that is not wanted: in a
    container that runs, nobody promises what is not synced."""

    def open(self, path: bytes, flags: int) -> int:
        return self.root.open(path, flags)

    def resolve(self, path: bytes) -> bytes:
        return self.root.resolve(path)

    def shown(self, path: bytes) -> str:
        return f"{self.name}:{os.fsdecode(path)}"


@dataclass(frozen=True, slots=True)
class Path:
    """A path as it was given, taken apart."""

    path: bytes
    """Absolute, without `.`, `..` or a slash at the end."""
    is_content: bool
    """It ended with `/.`."""
    is_directory: bool
    """It ended with a slash, or so."""

    @property
    def name(self) -> bytes:
        return posixpath.basename(self.path)


def parse(text: bytes, here: bytes = b"/") -> Path:
    """Take a path apart; a relative one begins `here`.

    >>> parse(b"etc/", b"/"), parse(b"./a/../b/.", b"/x").path
    (Path(path=b'/etc', is_content=False, is_directory=True), b'/x/b')
    """
    last = text.rpartition(b"/")[2]
    path = posixpath.normpath(posixpath.join(here, text))
    path = b"/" + path.lstrip(b"/")
    is_content = last == b"."
    return Path(path, is_content or path == b"/", is_content or last in (b"", b".."))


@contextmanager
def opened_source(side: Side, given: Path, *, follow: bool) -> Iterator[int]:
    """An O_PATH descriptor of what is to be copied. NotFound, BadInput."""
    try:
        if follow or given.is_directory or given.path == b"/":
            fd = side.open(given.path, os.O_PATH)
        else:
            parent = side.open(posixpath.dirname(given.path), os.O_PATH | os.O_DIRECTORY)
            try:
                fd = os.open(given.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            finally:
                os.close(parent)
    except OSError as error:
        raise _missing(side, given.path, error) from error
    try:
        mode = os.fstat(fd).st_mode
        if given.is_directory and not stat.S_ISDIR(mode):
            raise BadInput(f"{side.shown(given.path)} is not a directory", path=given.path)
        if stat.S_ISSOCK(mode):
            raise BadInput(f"{side.shown(given.path)} is a socket, which cannot be copied", path=given.path)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened_target(
    side: Side, given: Path, name: bytes, *, is_directory: bool, is_content: bool, owners: Owners, copied: Copied
) -> Iterator[Target]:
    """Where a source called `name` is made. NotFound if the directory that it belongs in is not there; BadInput if what
    is there and what comes do not go together."""
    fd, where, inside = _place(side, given, name, is_directory=is_directory, is_content=is_content)
    try:
        target = Target(strictly(fd), where, inside, owners, copied, _aside(side))
        with closing(target):
            yield target
            target.finish()
    finally:
        os.close(fd)


@contextmanager
def opened_directory(side: Side, given: Path, owners: Owners, copied: Copied) -> Iterator[Target]:
    """The same for an archive, whose names go through links that are there already, as far as these stay inside."""
    fd = _existing_directory(side, given)
    try:
        directory = _loosely(side, given) if isinstance(side, Inside) else strictly(fd)
        target = Target(directory, given.path, None, owners, copied, _aside(side))
        with closing(target):
            yield target
            target.finish()
    finally:
        os.close(fd)


def _aside(side: Side) -> bytes | None:
    return side.aside if isinstance(side, Inside) else None


def _loosely(side: Inside, given: Path) -> OpenDirectory:
    return lambda path: side.open(given.path + b"/" + path, os.O_RDONLY | os.O_DIRECTORY)


def _existing_directory(side: Side, given: Path) -> int:
    try:
        return side.open(given.path, os.O_PATH | os.O_DIRECTORY)
    except NotADirectoryError as error:
        raise BadInput(f"{side.shown(given.path)} is not a directory", path=given.path) from error
    except OSError as error:
        raise _missing(side, given.path, error) from error


def _place(
    side: Side, given: Path, name: bytes, *, is_directory: bool, is_content: bool
) -> tuple[int, bytes, bytes | None]:
    """The directory, its path, and what the copy is called in it; None if its content goes into the directory
    itself."""
    shown = side.shown(given.path)
    try:
        fd = side.open(given.path, os.O_PATH)
    except FileNotFoundError:
        if given.is_directory and not is_directory:
            raise NotFound(f"there is no directory {shown}", directory=shown) from None
        return _new(side, given)
    except OSError as error:
        raise _missing(side, given.path, error) from error
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        return fd, given.path, None if is_content else name
    os.close(fd)
    if given.is_directory:
        raise BadInput(f"{shown} is not a directory", path=given.path)
    if is_directory:
        raise BadInput(f"a directory cannot be copied to {shown}, which is a file", path=given.path)
    return _new(side, given)


def _new(side: Side, given: Path) -> tuple[int, bytes, bytes]:
    """Where a path leads to, whose last name is to be made or replaced."""
    real = side.resolve(given.path)
    folder = posixpath.dirname(real)
    try:
        return side.open(folder, os.O_PATH | os.O_DIRECTORY), folder, posixpath.basename(real)
    except OSError as error:
        raise _missing(side, folder, error) from error


def _missing(side: Side, path: bytes, error: OSError) -> NotFound | OSError:
    shown = side.shown(path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"there is no {shown}", directory=shown)
    return OSError(error.errno, error.strerror, shown)


__all__ = [
    "Inside", "Machine", "Path", "Side", "opened_directory", "opened_source", "opened_target", "parse",
]  # fmt: skip
