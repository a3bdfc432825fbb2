"""The file that the index is in: opened, made, thrown away and sealed. What its tables say is the affair of vcs.index.

Whoever closes it seals it, and whoever writes breaks the seal in the same transaction: see vcs.seal. One that cannot be
written is read from a copy in memory: vcs.indexcopy.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from vcs.indexcopy import can_be_written, empty, in_memory
from vcs.seal import SEALED_MAX, seal_of

VERSION = 2
TABLES = (
    # AUTOINCREMENT: a number is never given to a second layer, since readers cache blocks by it.
    "CREATE TABLE layers (id INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,"
    " doomed INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE objects (digest BLOB PRIMARY KEY, layer INTEGER NOT NULL, block INTEGER NOT NULL,"
    " start INTEGER NOT NULL, length INTEGER NOT NULL) WITHOUT ROWID",
)
_READ_TABLES = "SELECT sql FROM sqlite_schema"
_BUSY_SECONDS = 60


def lenient_text(data: bytes) -> str:
    """Text from a database that may be damaged."""
    return data.decode("utf-8", "replace")


def connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """The database at a path, and whether it is a copy, since the file cannot be written. One that is no index, or of
    another version, is thrown away. sqlite3.OperationalError if it is locked, or there is no space.

    It is opened twice before: SQLite calls damaged what it could not read just then (SQLITE_IOERR_CORRUPTFS). Others
    may have the file open, and what they do to its log, by name, they would do to the new one's.
    """
    for _ in range(2):
        try:
            return _opened(path), False
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter, for a message with what it found
            if not can_be_written(path):
                return _with_tables(in_memory(path)), True
            if isinstance(error, sqlite3.OperationalError):
                raise  # nothing that would be better with a new one
    return make_anew(path), False


def make_anew(path: Path) -> sqlite3.Connection:
    """An empty one in the place of what is there: it is derived."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return _opened(path)


def make_copy() -> sqlite3.Connection:
    """An empty one in memory."""
    return _with_tables(empty())


def seal(db: sqlite3.Connection, path: Path) -> None:
    """Seal the file, unless it is sealed or too large. sqlite3.Error if another process writes, the disk is full, or it
    cannot be read."""
    if _seal_now(db) or _size(db) > SEALED_MAX:
        return
    db.execute("PRAGMA busy_timeout = 0")
    db.execute("BEGIN IMMEDIATE")
    found = _seal_that_is_due(path)
    if found != _seal_that_is_due(path):
        raise sqlite3.OperationalError("the index was not read as it is")
    db.execute(f"PRAGMA application_id = {found}")
    db.execute("COMMIT")


def _seal_that_is_due(path: Path) -> int:
    """By what the file holds now. A page that cannot be read counts as zeros: sqlite3_serialize() does not tell."""
    # By a connection of its own: the one that seals may remember pages that it never wrote.
    with contextlib.closing(sqlite3.connect(path)) as other:
        return seal_of(other.serialize(), sqlite3.sqlite_version_info)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, *, durable: bool = False) -> Iterator[None]:
    """All that is written meanwhile, or nothing; with `durable` it is on the disk afterwards. Breaks the seal."""
    with _synced(db) if durable else contextlib.nullcontext():
        db.execute("BEGIN IMMEDIATE")
        try:
            if _seal_now(db):
                db.execute("PRAGMA application_id = 0")
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # after some errors SQLite has rolled back by itself
                db.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def _synced(db: sqlite3.Connection) -> Iterator[None]:
    """What is written meanwhile is on the disk."""
    db.execute("PRAGMA synchronous = FULL")
    try:
        yield
    finally:
        db.execute("PRAGMA synchronous = NORMAL")


def _seal_now(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA application_id").fetchone()[0])


def _size(db: sqlite3.Connection) -> int:
    """Of the file, in bytes."""
    count, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(count * size)


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL").fetchall()  # to its end: only there it is said what failed
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        db.close()
        raise
    return _with_tables(db)


def _with_tables(db: sqlite3.Connection) -> sqlite3.Connection:
    db.text_factory = lenient_text
    try:
        if _version(db) == 0:
            _create(db)
        if _version(db) != VERSION or not set(TABLES) <= {sql for (sql,) in db.execute(_READ_TABLES)}:
            raise sqlite3.DatabaseError("an index of another version, or damaged")
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    if _version(db) == 0:  # else another process was first
        for statement in (*TABLES, f"PRAGMA user_version = {VERSION}"):
            db.execute(statement)
    db.execute("COMMIT")
