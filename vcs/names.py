"""Branches and tags, one name or one directory of names at a time, read from git's own files.

git's library finds one ref fast, but can list only all of them, opening each: 140 ms for 20,000, where the names in a
directory are there in 3 ms. So they are read here as gitrepository-layout(5) and git-pack-refs(1) have them: a ref is a
file below `refs/`, or a line of `packed-refs`; the file counts if there are both. Nothing is locked, and whatever
changes is seen at the next look: git writes both kinds of file aside and renames them, and packs a ref before it
removes the file, so files are looked at first.

Names are bytes here, as they are on the disk: git does not ask for UTF-8.
"""

from __future__ import annotations

import errno
import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path

from vcs.ancestry import Ancestry
from vcs.errors import Corrupt
from vcs.model import CommitId
from vcs.reflogs import id_at

BRANCHES = b"refs/heads/"
TAGS = b"refs/tags/"
_SYMBOLIC_MOST = 5
"""As many symbolic refs in a row are followed as git follows."""
_REF_BYTES = 4096
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO})
"""What system calls say where there is no file of git's. ENXIO: a socket."""
_ID = re.compile(rb"[0-9a-f]{40}")
_REFUSED = re.compile(rb"[\0-\x20\x7f~^:?*\[\\]|\.\.|@\{|(?:^|/)[./]|\.lock(?:/|$)|[./]$|^$")
"""What git-check-ref-format(1) forbids in a ref."""


class RefFiles:
    """The refs of a repository, by full name (`refs/heads/main`). A directory of them ends in a slash."""

    def __init__(self, repository: Path) -> None:
        self._top = os.fsencode(repository) + b"/"
        self._stamp: tuple[int, ...] | None = None
        self._packed: dict[bytes, str] = {}
        self._sorted: list[bytes] = []

    def find(self, ref: bytes) -> str | None:
        """The id of what a ref names, not peeled; None if there is no such ref."""
        for _ in range(_SYMBOLIC_MOST):
            if _REFUSED.search(ref):
                return None
            text = self._loose(ref)
            if text is None:
                self._refresh()
                return self._packed.get(ref)
            if not text.startswith(b"ref: "):
                return text[:40].decode() if _ID.match(text) else None
            ref = text.removeprefix(b"ref: ").strip()
        return None

    def below(self, directory: bytes) -> dict[bytes, bool]:
        """The names in a directory, and whether each is a directory itself."""
        found = {}
        if not _REFUSED.search(directory[:-1]):
            for entry in _entries(self._top + directory):
                if not entry.is_dir(follow_symlinks=False):
                    found[entry.name] = False
                elif self._has_loose(directory + entry.name + b"/"):
                    found[entry.name] = True
        for ref in self._packed_below(directory):
            name, slash, _ = ref[len(directory) :].partition(b"/")
            found.setdefault(name, bool(slash))
        return found

    def is_directory(self, directory: bytes) -> bool:
        """Whether there is any ref in a directory, at any depth."""
        if _REFUSED.search(directory[:-1]):
            return False
        return self._has_loose(directory) or next(self._packed_below(directory), None) is not None

    def ids(self, directory: bytes = b"refs/", *, strict: bool = False) -> dict[bytes, str]:
        """All refs below a directory and what they name, not peeled, without the symbolic ones. A damaged one is left
        out, or Corrupt if `strict`."""
        loose = dict(self._all_loose(directory))
        found = {ref: self._packed[ref] for ref in self._packed_below(directory)}
        for ref, text in loose.items():
            if _ID.match(text):
                found[ref] = text[:40].decode()
            elif strict and not text.startswith(b"ref: "):
                raise Corrupt(f"the ref {os.fsdecode(ref)!r} is damaged: it names nothing")
        return found

    # -- files

    def _loose(self, ref: bytes) -> bytes | None:
        try:
            # Never waits, and follows no link: whatever lies there, it is a file of git's or no ref.
            file = os.open(self._top + ref, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            _unless_absent(error)
            return None
        try:
            return os.read(file, _REF_BYTES)
        except OSError as error:
            _unless_absent(error)
            return None
        finally:
            os.close(file)

    def _has_loose(self, directory: bytes) -> bool:
        """Not the same as there being a directory: a killed process leaves empty ones."""
        return any(
            not entry.is_dir(follow_symlinks=False) or self._has_loose(directory + entry.name + b"/")
            for entry in _entries(self._top + directory)
        )

    def _all_loose(self, directory: bytes) -> Iterator[tuple[bytes, bytes]]:
        for entry in _entries(self._top + directory):
            ref = directory + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._all_loose(ref + b"/")
            elif (text := self._loose(ref)) is not None:
                yield ref, text

    # -- lines

    def _packed_below(self, directory: bytes) -> Iterator[bytes]:
        self._refresh()
        for place in range(bisect_left(self._sorted, directory), len(self._sorted)):
            if not self._sorted[place].startswith(directory):
                return
            yield self._sorted[place]

    def _refresh(self) -> None:
        """Read `packed-refs` if it is another than last time: as with git, if stat(2) says so."""
        path = self._top + b"packed-refs"
        try:
            about = os.stat(path)
            stamp = about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
            if stamp != self._stamp:
                with open(path, "rb") as file:
                    self._packed = dict(_parsed(file))
                self._stamp = stamp
                self._sorted = sorted(self._packed)
        except FileNotFoundError:
            self._stamp, self._packed, self._sorted = None, {}, []


class RefNames:
    """The refs in a directory, without it: branches, say. Satisfies `snapshot.Names`."""

    def __init__(self, refs: RefFiles, directory: bytes, ancestry: Callable[[], Ancestry]) -> None:
        self._refs = refs
        self._directory = directory
        self._ancestry = ancestry

    def find(self, name: bytes) -> CommitId | None:
        found = self._refs.find(self._directory + name)
        return None if found is None else self._ancestry().peeled(found)

    def below(self, directory: bytes) -> dict[bytes, bool]:
        return self._refs.below(self._directory + directory)

    def is_directory(self, directory: bytes) -> bool:
        return self._refs.is_directory(self._directory + directory)


def branch_at(refs: RefFiles, repository: Path, ancestry: Ancestry, name: bytes, time: int) -> CommitId | None:
    """The commit that a branch named at a time, None if it had none.

    As `branch@{time}` in git it is what the reflog says. Before the reflog begins (a fetched branch has an older
    history, and gc takes old lines away) it is the newest commit along first parents that is not younger.
    """
    ref = BRANCHES + name
    now = refs.find(ref)
    if now is None:
        return None
    said, first = id_at(repository, ref, time)
    if said is not None:
        return ancestry.peeled(said)
    return ancestry.at(first or now, time)


def _entries(directory: bytes) -> Iterator[os.DirEntry[bytes]]:
    """What may be refs, or directories of them."""
    try:
        with os.scandir(directory) as found:
            for entry in found:
                if not _REFUSED.search(entry.name):
                    yield entry
    except OSError as error:
        _unless_absent(error)


def _unless_absent(error: OSError) -> None:
    """Raise what does not mean that there is no such ref: a line for it may be older than the file."""
    if error.errno not in _ABSENT:
        raise error


def _parsed(lines: Iterator[bytes]) -> Iterator[tuple[bytes, str]]:
    for line in lines:
        if _ID.match(line):  # else a comment, or what the tag before it leads to
            yield line[41:-1], line[:40].decode()
