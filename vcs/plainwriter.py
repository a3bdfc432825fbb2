"""Plain copies made and mended (vcs.plain), by a process of its own.

They take room on the disk, which `git config treering.plainCopies` bounds for all copies of a store: 2g if nothing is
said, 0 for none. Those that were used longest ago make room for others, but for those that overlays have by another
name (fusefs.datadir): to remove them would free nothing.

A copy that is damaged is mended in place: whoever has it open, or mapped into memory, has what is right from then on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, repeat
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from vcs.blobreader import BlobReader
from vcs.durable import begin_to_flush, write_all
from vcs.errors import Corrupt, TreeringError
from vcs.heap import keep_freed_memory
from vcs.model import Chunked, Data
from vcs.plain import (
    PAGE,
    PREFIX,
    Plain,
    body_of,
    bytes_path,
    copied_digest,
    digest_of_copy,
    is_copied,
    is_whole,
    read_body,
    remove,
    split_body,
    sums_bytes,
    sums_path,
)
from vcs.sums import SUM, sums_of

if TYPE_CHECKING:
    from subprocess import Popen

    from vcs.trees import Objects

SETTING = "treering.plainCopies"
TOTAL_MAX = 2 << 30
"""Bytes of all copies of a store, if the setting says nothing."""
LEFT_FREE = 0.1
"""The share of the disk that copies leave free."""

_NUMBER = re.compile(r"(\d{1,12})([kmgKMG]?)")
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30}
_BUFFER = 1 << 20
"""Bytes that are read, or written, at once."""
_FLUSH_EVERY = 16 << 20
"""Bytes after which the kernel is told to begin to write to the disk, so that the last fdatasync finds little to do."""
_ZEROS = bytes(PAGE)
_PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from vcs.plainwriter import main
main(sys.argv[1])
"""


def begin(store: Path, contents: Iterable[Plain]) -> Popen[bytes]:
    """Start a process that makes the copies of files, as far as there is room, and mends those that are damaged; it
    outlives us. OSError."""
    import subprocess  # 5 ms, and most services never need it

    package = str(Path(__file__).resolve().parent.parent)
    nothing = subprocess.DEVNULL
    with open(os.memfd_create("treering-copies"), "w+b") as file:
        file.writelines(map(_line, contents))
        file.seek(0)
        program = [sys.executable, "-P", "-c", _PROGRAM, package, str(store)]
        return subprocess.Popen(program, stdin=file, stdout=nothing, stderr=nothing, cwd="/", start_new_session=True)


def _line(content: Plain) -> bytes:
    kind = b"list" if isinstance(content, Chunked) else b"chunk"
    return b"%b %b %d\n" % (kind, digest_of_copy(content).hex().encode(), content.size)


def _content(line: str) -> Plain:
    kind, digest, size = line.split()
    if kind == "list":
        return Chunked(int(size), bytes.fromhex(digest), 0)
    return Data(int(size), bytes.fromhex(digest))


def main(path: str) -> None:
    """The process: the store, and on standard input a line for each file."""
    from vcs.store import Store

    os.nice(19)
    keep_freed_memory()
    with contextlib.suppress(TreeringError, OSError), Store.open(Path(path), read_ahead=True) as store:
        most = allowed(store.history.setting(SETTING))
        for content in map(_content, sys.stdin):
            with contextlib.suppress(TreeringError, OSError):
                digest = digest_of_copy(content)
                if is_copied(store.caches, digest, content.size) and not is_whole(store.caches, digest):
                    mend(store, store.caches, digest)
                else:
                    save_plain(store, store.caches, content, most, store.expect)


def save_plain(
    objects: Objects,
    caches: Path,
    content: Plain,
    most: int = TOTAL_MAX,
    expect: Callable[[Iterable[bytes]], None] | None = None,
) -> bool:
    """Write the copy of a file. False if there is one, if another process makes it, or if there is no room for it: not
    in `most` bytes for all copies, or on the disk. Missing, Corrupt or OSError, with nothing left.

    `expect` is told which chunks will be asked for soon."""
    digest, size = digest_of_copy(content), content.size
    path, into = sums_path(caches, digest), bytes_path(caches, digest)
    total = size + sums_bytes(size)
    disk = os.statvfs(caches)
    free, all_of_it = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if total > most:
        _make_room(caches, most)  # which may be less than it was
        return False
    if is_copied(caches, digest, size) or free - total < LEFT_FREE * all_of_it:
        return False
    into.parent.mkdir(mode=0o700, exist_ok=True)
    aside = path.with_name(f"{path.name}.new")
    fd = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with open(fd, "r+b", buffering=_BUFFER) as file:
        if not _is_ours(fd, aside):
            return False
        try:
            file.truncate(0)
            if not _make_room(caches, most - total):
                return False
            file.write(_head(digest, _write_bytes(into, _pieces(objects, content, expect), content)))
            file.flush()
            aside.rename(path)
        except BaseException:
            into.unlink(missing_ok=True)
            raise
        finally:
            aside.unlink(missing_ok=True)
    return True


def mend(objects: Objects, caches: Path, digest: bytes) -> bool:
    """Write the damaged pages of a copy anew, in place. What cannot be mended is removed: False. Missing, Corrupt or
    OSError, then it is removed as well."""
    try:
        body, path = read_body(caches, digest), bytes_path(caches, digest)
        if body is None or path.is_symlink() or not path.is_file():
            remove(caches, digest)
            return False
        size, sums = split_body(body)
        path.chmod(0o600)
        with path.open("r+b", buffering=0) as file:
            at = 0
            for run, _ in _runs(_pieces(objects, _content_of(objects, digest, size))):
                first, end = at // PAGE, -(-(at + len(run)) // PAGE)
                if sums_of(run, PAGE) != sums[first * SUM : end * SUM]:
                    raise Corrupt(f"the plain copy {path} is of something else", digest=digest.hex())
                for start in range(0, len(run), PAGE):
                    page = run[start : start + PAGE]
                    if os.pread(file.fileno(), PAGE, at + start) != page:
                        write_all(file.fileno(), page, at + start)
                at += len(run)
            file.truncate(size)
            os.fdatasync(file.fileno())
        path.chmod(0o400)
    except BaseException:
        remove(caches, digest)
        raise
    return True


def _content_of(objects: Objects, digest: bytes, size: int) -> Plain:
    """The file of so many bytes that has this copy. A chunk list may be as long as a file; then its pages are wrong."""
    is_chunk = len(objects.get(digest)) == size
    return Data(size, digest) if is_chunk else Chunked(size, digest, 0)


def _is_ours(fd: int, aside: Path) -> bool:
    """Whether nobody else writes this file, or has put it in its place meanwhile. Until it is closed, gc does not take
    it for a dead process's."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), aside.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


@dataclass(frozen=True, slots=True, order=True)
class _Found:
    """A copy that is there."""

    used: float
    size: int
    digest: bytes
    is_held: bool
    """Whether overlays may have it from another name: then to remove it would free nothing."""


def _make_room(caches: Path, most: int) -> bool:
    """Delete the copies that were used longest ago, until they have `most` bytes together; none if that cannot be."""
    found = list(_copies(caches))
    total = sum(copy.size for copy in found)
    free = sorted(copy for copy in found if not copy.is_held)
    if total - sum(copy.size for copy in free) > most:
        return False
    for copy in free:
        if total <= most:
            break
        total -= copy.size
        remove(caches, copy.digest)
    return True


def _copies(caches: Path) -> Iterator[_Found]:
    for path in caches.glob(f"{PREFIX}*"):
        digest = copied_digest(path)
        if digest is None:
            continue  # one that is being written
        with contextlib.suppress(FileNotFoundError):
            sums, size, links = path.lstat(), 0, 1
            with contextlib.suppress(FileNotFoundError):
                data = bytes_path(caches, digest).lstat()
                size, links = data.st_size, data.st_nlink
            yield _Found(sums.st_mtime, sums.st_size + size, digest, links > 1)


def _write_bytes(into: Path, pieces: Iterable[bytes | memoryview | int], content: Plain) -> bytes:
    """Write a file's bytes, which are on the disk then. What there is to say of them (vcs.plain). Corrupt if the file
    is not as long as it should be; Missing, OSError."""
    aside = into.with_name(f"{into.name}.new")
    aside.unlink(missing_ok=True)  # a killed writer's, which nobody may write to
    try:
        sums, size, flushed = bytearray(), 0, 0
        with aside.open("xb", buffering=0) as data:
            os.fchmod(data.fileno(), 0o400)
            for run, is_hole in _runs(pieces):
                sums += sums_of(run, PAGE)
                if not is_hole:
                    write_all(data.fileno(), run, size)
                size += len(run)
                if size - flushed >= _FLUSH_EVERY:
                    begin_to_flush(data.fileno())
                    flushed = size
            if size != content.size:
                name = digest_of_copy(content).hex()
                raise Corrupt(f"the file of {name} is not as long as it should be, {content.size} bytes", digest=name)
            data.truncate(size)
            os.fdatasync(data.fileno())
        aside.rename(into)
    finally:
        aside.unlink(missing_ok=True)
    return body_of(size, bytes(sums))


def _head(digest: bytes, body: bytes) -> bytes:
    """A file of sums."""
    return digest.hex().encode() + b"\n" + blake3(body).digest() + body


def _runs(pieces: Iterable[bytes | memoryview | int]) -> Iterator[tuple[bytes | memoryview, bool]]:
    """A file's pages, as many as there are at once, and whether all of them is in holes; the last one may be shorter.
    Holes make a difference: overlayfs copies up none, and leaves the time of a file that has nothing else alone."""
    rest, is_hole = b"", True
    for piece in pieces:
        if isinstance(piece, int):
            filled = min(-len(rest) % PAGE, piece)
            rest += bytes(filled)
            if len(rest) == PAGE:
                yield rest, is_hole
                rest, is_hole = b"", True
            pages, more = divmod(piece - filled, PAGE)
            yield from repeat((_ZEROS, True), pages)
            rest += bytes(more)
        else:
            data = memoryview(rest + piece)
            whole = len(data) - len(data) % PAGE
            if whole:
                yield data[:whole], False
            rest = bytes(data[whole:])
            is_hole = not rest
    if rest:
        yield rest, is_hole


def _pieces(
    objects: Objects, content: Plain, expect: Callable[[Iterable[bytes]], None] | None = None
) -> Iterator[bytes | memoryview | int]:
    """A file's chunks, and the bytes of its holes. `expect` is told of chunks before they are asked for."""
    if isinstance(content, Data):
        yield objects.get(content.chunk)
        return
    reader, at = BlobReader(objects, content, expect), 0
    for is_hole, items in groupby(reader.items(), lambda item: not item.digest):
        end = at + sum(item.length for item in items)
        if is_hole:
            yield end - at
        else:
            for start in range(at, end, _BUFFER):
                yield from reader.parts(start, min(_BUFFER, end - start))
        at = end


def allowed(setting: str | None) -> int:
    """The bytes that all copies of a store may have, by what git's config says. What is no number there is none here.

    >>> allowed("512m"), allowed("never"), allowed(None) == TOTAL_MAX
    (536870912, 0, True)
    """
    if setting is None:
        return TOTAL_MAX
    found = _NUMBER.fullmatch(setting)
    return int(found[1]) << _SHIFTS[found[2].lower()] if found else 0
