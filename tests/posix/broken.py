"""Variants of the program that mount or read an upper wrongly, one way each: what says nothing of them says nothing.

python -m tests.posix.broken VARIANT COMMAND...     a treering command of such a variant
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from msgspec import structs

from runtime import overlay
from runtime.cli.program import run
from runtime.upper import content, conventions, pinned, walk
from vcs.attributes import entry_of as _entry_of
from vcs.blobs import write_file as _write_file

_separate = conventions.separate
_identity_of = pinned.identity_of


def _marks(**other: Any) -> Callable[[], None]:
    """A mark of overlayfs's is overlooked."""

    def change() -> None:
        def separate(*arguments: Any) -> Any:
            marks, xattrs = _separate(*arguments)
            return replace(marks, **other), xattrs

        walk.separate = separate  # type: ignore[assignment, attr-defined]

    return change


def _entries(other: Callable[[Any, os.stat_result], dict[str, Any]]) -> Callable[[], None]:
    """Something of a file is not what it is."""

    def change() -> None:
        def entry_of(name: bytes, status: os.stat_result, content: Any, xattrs: Any) -> Any:
            entry = _entry_of(name, status, content, xattrs)
            return structs.replace(entry, **other(entry, status))

        walk.entry_of = entry_of  # type: ignore[assignment, attr-defined]

    return change


def _without(prefix: bytes) -> Callable[[], None]:
    return _entries(lambda entry, _: {"xattrs": tuple(pair for pair in entry.xattrs if not pair[0].startswith(prefix))})


def _no_links() -> None:
    """Names of one file are files of their own."""
    count = iter(range(1 << 62))
    pinned.identity_of = lambda status: _identity_of(status) if stat.S_ISDIR(status.st_mode) else (-1, next(count))


def _escaped() -> None:
    """What a container called trusted.overlay.X keeps the name that the kernel gave it."""
    conventions._ESCAPE = b"overlay.overlay."


def _moves() -> None:
    """The overlay is mounted without redirects and metacopies."""
    overlay.OPTIONS = (*overlay.OPTIONS[:3], (b"redirect_dir", b"nofollow"))


def _top() -> None:
    """A new upper is not given the attributes of the root."""
    overlay._copy_attributes = lambda *_: None


def _ids() -> None:
    """Owners are read as the machine sees them."""
    walk.Walk._entry = lambda _, *arguments: _entry_of(*arguments)  # type: ignore[method-assign]


def _bytes() -> None:
    """Of each large file one byte is read wrongly."""

    def write_file(sink: Any, fd: int, status: os.stat_result, before: Any) -> Any:
        if status.st_size < 100_000:
            return _write_file(sink, fd, status, before)
        copy = os.memfd_create("copy")
        os.truncate(copy, status.st_size)
        os.sendfile(copy, fd, 0, status.st_size)
        place = status.st_size // 2
        os.pwrite(copy, bytes([os.pread(copy, 1, place)[0] ^ 1]), place)
        return _write_file(sink, copy, status, before)

    content.write_file = write_file  # type: ignore[assignment, attr-defined]


VARIANTS: dict[str, Callable[[], None]] = {
    "opaque": _marks(opaque=False),
    "redirect": _marks(redirect=None),
    "metacopy": _marks(metacopy=False),
    "links": _no_links,
    "escaped": _escaped,
    "mtime": _entries(lambda entry, _: {"mtime": entry.mtime // 1000 * 1000}),
    "mode": _entries(lambda entry, _: {"mode": entry.mode & ~0o6000}),
    "group": _entries(lambda entry, _: {"gid": entry.uid}),
    "acl": _without(b"system."),
    "trusted": _without(b"trusted."),
    "ids": _ids,
    "moves": _moves,
    "top": _top,
    "bytes": _bytes,
}


def main() -> int:
    VARIANTS[sys.argv[1]]()
    return run(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
