"""What kept SQLite from its work, in our words."""

from __future__ import annotations

import contextlib
import os
import sqlite3

from vcs.errors import Conflict, Denied, NoSpace, StoreError

_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_WRITE")
"""What SQLite says of a full disk; for the file that the index's readers and writers share; and of a quota that is used
up or a limit on files, for which it has no code of its own."""


def told_by_sqlite(what: str, error: sqlite3.OperationalError) -> StoreError | Conflict:
    """What kept SQLite from its work, which tells it by a code: its words for a full disk, a failing one and a missing
    descriptor are nearly the same (https://www.sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorname", "")  # the module's own errors have none
    text = f"{what}: {error}" + (f" ({code})" if code else "")
    if code in _NO_ROOM:
        return NoSpace(text)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Conflict(f"{what}: another process has held the index for a minute")
    if code.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return Denied(text)
    if code.startswith("SQLITE_CANTOPEN"):
        return StoreError(f"{what}: {scarce}") if (scarce := _scarcity()) else Denied(text)
    return StoreError(text)


def _scarcity() -> str:
    """What keeps this process from opening any file: SQLite does not say why it could not open its own, of which there
    are three."""
    with contextlib.ExitStack() as stack:
        try:
            for _ in range(3):
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            return str(error.strerror)
    return ""
