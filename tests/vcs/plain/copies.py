"""Plain copies for tests: files that a store has, their copies, and what may be wrong with them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from blake3 import blake3

from tests.support.values import file as entry_of
from tests.support.values import root as make_root
from vcs.blobs import BlobWriter
from vcs.check.caches import check_caches
from vcs.check.report import Report
from vcs.history import BRANCHES, Author
from vcs.plain import (
    PAGE,
    Plain,
    PlainCopy,
    bytes_path,
    digest_of_copy,
    is_copied,
    open_plain,
    sums_path,
)
from vcs.plainwriter import save_plain
from vcs.store import Store
from vcs.testing import MemoryStore

Piece: TypeAlias = tuple[bool, int]
"""Bytes, or a hole, of so many bytes."""
Part: TypeAlias = Callable[[Path, bytes], Path]
"""One of the two files of a copy: bytes_path or sums_path."""

AUTHOR = Author("A", "a@example.org", 1_700_000_000)
FIRST_SUM = 65 + 32 + 17 + 8
SIZES = {"list": 1_234_567, "chunk": 300_001}
"""Of a file that is a list of chunks, and of one that is one chunk. Their last pages are not full."""


def written(sink: object, pieces: list[bytes | int]) -> Plain:
    """A file of these bytes and holes."""
    writer = BlobWriter(sink)  # type: ignore[arg-type]
    for piece in pieces:
        if isinstance(piece, int):
            writer.hole(piece)
        else:
            writer.feed(piece)
    return writer.finish()


def on_main(store: Store, size: int) -> Plain:
    with store.batch() as batch:
        made = written(batch, [content(size)])
        top = make_root(batch, {"large": entry_of(made)})
    commit = store.add_commit(top, {}, "one\n", AUTHOR)
    store.history.move(BRANCHES + "main", commit, None, "one", AUTHOR)
    return made


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def saved(store: Store, file: Plain) -> Path:
    """Make the copy of a file; returns where its bytes are."""
    assert save_plain(store, store.caches, file)
    return bytes_of(store, file)


def bytes_of(store: Store, file: Plain) -> Path:
    return bytes_path(store.caches, digest_of_copy(file))


def sums_of(store: Store, file: Plain) -> Path:
    return sums_path(store.caches, digest_of_copy(file))


def opened(store: Store, file: Plain) -> PlainCopy | None:
    """Its copy. Whoever does not read it is told the same of whether it is there."""
    copy = open_plain(store.caches, digest_of_copy(file), file.size)
    assert copy is None or is_copied(store.caches, digest_of_copy(file), file.size)
    return copy


def is_none(store: Store, file: Plain) -> bool:
    """Whether there is no copy of a file, whoever asks."""
    return opened(store, file) is None and not is_copied(store.caches, digest_of_copy(file), file.size)


def is_right(store: Store, file: Plain) -> bool:
    """Whether there is a copy of a file of content(), and all of it is what it should be."""
    copy = opened(store, file)
    assert copy is not None
    data = copy.read(0, file.size)
    copy.close()
    return data == memoryview(content(file.size))


def aside(path: Path) -> Path:
    """Where one of the parts is while it is being written."""
    return path.with_name(f"{path.name}.new")


def flip(path: Path, place: int) -> None:
    """Change one bit, in a file that nobody may write to."""
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    rewrite(path, data)


def rewrite(path: Path, data: bytes | bytearray) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def there(caches: Path) -> list[str]:
    """All files of the caches."""
    return sorted(str(path.relative_to(caches)) for path in caches.rglob("*") if not path.is_dir())


def parts(*files: Plain) -> list[str]:
    """What the caches have, if they have the copies of these files and nothing else."""
    names = [digest_of_copy(file).hex() for file in files]
    return sorted([f"plain/{name}" for name in names] + [f"plain-{name}" for name in names])


def room(store: Store, *files: Plain) -> int:
    """The bytes of these files' copies."""
    return sum(path.stat().st_size for file in files for path in (bytes_of(store, file), sums_of(store, file)))


def blocks(caches: Path) -> int:
    """The bytes on the disk that all files of the caches have."""
    return sum((caches / name).stat().st_blocks * 512 for name in there(caches))


def damaged(caches: Path, store: MemoryStore) -> list[Path]:
    """What fsck tells of."""
    report = Report()
    check_caches(caches, store.objects.__contains__, report)
    assert len(report.problems) == len(report.caches)
    return sorted(report.caches)


def earlier(file: Plain) -> bytes:
    """A copy as the first version wrote it, all in one file."""
    pages = [content(file.size)[start : start + PAGE].ljust(PAGE, b"\0") for start in range(0, file.size, PAGE)]
    body = (b"treering plain 1\n" + file.size.to_bytes(8, "little")).ljust(PAGE - 97, b"\0") + b"".join(pages)
    body += b"".join(blake3(page).digest()[:8] for page in pages)
    return digest_of_copy(file).hex().encode() + b"\n" + blake3(body).digest() + body
