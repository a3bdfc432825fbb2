"""An index that cannot be written, as on a disk that is mounted read-only: a copy of it in memory is read instead.

SQLite cannot read a database in WAL mode where it may not make files beside it, unless a writer has made them
(https://www.sqlite.org/wal.html#read_only_databases). And who can write from elsewhere may do so meanwhile, which
nobody here would notice. So only a file that bears its seal is copied: it is whole, and as who wrote it last has left
it. Of any other the copy is made from the layers, as that of a lost one.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from vcs.seal import SEALED_MAX, seal_in, seal_of

_HEADER = 100
_WAL_VERSIONS = slice(18, 20)
"""Where the header says that there is a write-ahead log, which nothing in memory has."""


def can_be_written(path: Path) -> bool:
    """Whether an index can be, or be made."""
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def in_memory(path: Path) -> sqlite3.Connection:
    """What is in an index, in a database of this process's own: nothing, unless it bears its seal."""
    db = empty()
    with suppress(OSError):
        if path.stat().st_size <= SEALED_MAX:
            image = path.read_bytes()
            if len(image) >= _HEADER and seal_in(image) == seal_of(image):
                load(db, image)
    return db


def empty() -> sqlite3.Connection:
    """A database in memory."""
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def load(db: sqlite3.Connection, image: bytes) -> None:
    """Make a database in memory that of a file with these bytes."""
    changed = bytearray(image)
    changed[_WAL_VERSIONS] = b"\1\1"
    db.deserialize(changed)


def image_of(db: sqlite3.Connection) -> bytes:
    """The bytes of the file that a database is, or was loaded from."""
    image = bytearray(db.serialize())
    image[_WAL_VERSIONS] = b"\2\2"
    return bytes(image)
