"""Overlayfs's extended attributes, read as values (Documentation/filesystems/overlayfs.rst, fs/overlayfs in Linux).

A mount's own attributes are named `trusted.overlay.*`, or `user.overlay.*` where it was mounted with userxattr. What a
container sets under that name itself, the kernel stores with one more `overlay.`: `trusted.overlay.overlay.X` is the
container's `trusted.overlay.X`. The FUSE service serves a commit's attributes of either prefix with that one more
`overlay.`, so that no commit can instruct the kernel; a file's copy in the upper has them so as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vcs.errors import BadInput
from vcs.existing import is_there
from vcs.model import Xattrs

TRUSTED = "trusted.overlay."
USER = "user.overlay."
USERXATTR = "userxattr"
"""The mount option that makes it USER, and the name of an empty file beside an upper of that sort."""

OPAQUE = b"y"
"""The value of `opaque` that hides what the base has."""

_ESCAPE = b"overlay."
_METACOPY_HEADER = 4


@dataclass(frozen=True, slots=True)
class Marks:
    """What overlayfs noted on one file of an upper."""

    whiteout: bool = False
    """`whiteout`: an empty regular file with this attribute hides the base's name, as a character device 0:0 does."""
    opaque: bool = False
    """`opaque` = y: a directory that shows nothing of the base. (x says that it may hold attribute whiteouts.)"""
    redirect: bytes | None = None
    """`redirect`: where in the base this directory, or this metacopy file's data, is; see is_absolute()."""
    metacopy: bool = False
    """`metacopy`: the attributes are here, the data is the base's."""


NO_MARKS = Marks()


def prefix_of(generation: Path) -> str:
    """By which attributes overlayfs speaks in the upper of a generation's directory: TRUSTED or USER."""
    return USER if is_there(generation / USERXATTR) else TRUSTED


def separate(xattrs: Xattrs, prefix: str) -> tuple[Marks, Xattrs]:
    """Overlayfs's own attributes as marks, and the file's, unescaped. BadInput if a mark is malformed.

    Marks that say nothing about the contents (origin, impure, nlink, uuid, protattr, upper, ...) are dropped.
    """
    if not any(name.startswith((b"trusted.overlay.", b"user.overlay.")) for name, _ in xattrs):
        return NO_MARKS, xattrs
    own_prefix = prefix.encode()
    other_prefix = (USER if prefix == TRUSTED else TRUSTED).encode()
    own: dict[bytes, bytes] = {}
    kept: dict[bytes, bytes] = {}
    for name, value in xattrs:
        if name.startswith(own_prefix + _ESCAPE):
            kept[own_prefix + name[len(own_prefix + _ESCAPE) :]] = value
        elif name.startswith(own_prefix):
            own[name[len(own_prefix) :]] = value
        elif name.startswith(other_prefix + _ESCAPE):
            kept.setdefault(other_prefix + name[len(other_prefix + _ESCAPE) :], value)
        else:
            kept[name] = value  # also one of the other prefix that the container set: it replaces what was served
    return _marks(own), tuple(sorted(kept.items()))


def _marks(own: dict[bytes, bytes]) -> Marks:
    redirect, metacopy = own.get(b"redirect"), own.get(b"metacopy")
    if redirect is not None:
        _check_redirect(redirect)
    if metacopy is not None:
        _check_metacopy(metacopy)
    return Marks(
        whiteout=b"whiteout" in own,
        opaque=own.get(b"opaque") == OPAQUE,
        redirect=redirect,
        metacopy=metacopy is not None,
    )


def is_absolute(redirect: bytes) -> bool:
    """Whether a redirect is a path from the base's root, rather than a name in the parent's directory of the base."""
    return redirect.startswith(b"/")


def _check_redirect(redirect: bytes) -> None:
    names = redirect[1:].split(b"/") if is_absolute(redirect) else [redirect]
    if any(name in (b"", b".", b"..") or b"/" in name or b"\0" in name for name in names):
        raise BadInput(f"overlayfs redirect {redirect!r} is malformed", redirect=redirect)


def _check_metacopy(value: bytes) -> None:
    """Empty, or (Linux 6.6) `struct ovl_metacopy`: version 0, its length, flags 0, fs-verity algorithm, digest."""
    if value and not (len(value) >= _METACOPY_HEADER and value[0] == 0 and value[1] == len(value) and value[2] == 0):
        raise BadInput(f"overlayfs metacopy {value!r} is of an unknown form", metacopy=value)
