"""One name on its way from one place to another."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

Pieces: TypeAlias = Iterator[tuple[int, bytes]]
"""A file's data in order: pairs of a hole's length (0 for none) and bytes (empty for a hole)."""


CAPABILITY = b"security.capability"
"""What is always carried: without it a program cannot do what it is for."""


def is_carried(name: bytes) -> bool:
    """Whether an extended attribute is copied where all are wanted: none that a security module of one machine set."""
    return (
        name == CAPABILITY or not name.startswith((b"security.", b"system.")) or name.startswith(b"system.posix_acl_")
    )


@dataclass(frozen=True, slots=True)
class Item:
    """A name below what is copied, with its attributes. Owners are as the container, or the machine, sees them."""

    path: bytes
    """Below the top, without a slash at either end; empty for the top itself."""
    mode: int
    """st_mode, the type included."""
    uid: int
    gid: int
    mtime: int
    """Nanoseconds since 1970."""
    size: int = 0
    """Bytes of a regular file; as far as that can be known before it is read."""
    target: bytes = b""
    """Of a symbolic link."""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    link: bytes | None = None
    """The path of an earlier item of which this is another name."""
    pieces: Callable[[], Pieces] | None = None
    """Reads the data of a regular file; to be called before the next item is asked for."""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(slots=True)
class Copied:
    """What was copied."""

    files: int = 0
    """Names, directories included."""
    size: int = 0
    """Bytes in files."""
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    """Paths of what was not copied, and why."""
