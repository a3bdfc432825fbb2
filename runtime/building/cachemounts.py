"""The directories of --mount=type=cache: STORE/caches/build/<id>, and beside each a file that says who has it.

shared     any number of RUNs at once         a shared lock
locked     one after another                  an exclusive one, waited for
private    another directory for each one     an exclusive one; if it is taken, <id>.2 and so on
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from runtime.building.steps import RunMount
from vcs.encoding import digest
from vcs.existing import is_directory


@contextmanager
def cache_directory(top: Path, mount: RunMount) -> Iterator[Path]:
    """The directory of a cache mount, made if it is missing, and held."""
    name = _name(mount.id)
    for number in count(1):
        path = top / (name if number == 1 else f"{name}.{number}")
        lock = _open(path)
        try:
            if mount.sharing == "shared":
                fcntl.flock(lock, fcntl.LOCK_SH)
            elif mount.sharing == "locked":
                fcntl.flock(lock, fcntl.LOCK_EX)
            else:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
            os.utime(lock)
            if not is_directory(path):
                path.mkdir(mode=0o700)
                os.chown(path, mount.uid, mount.gid)
                path.chmod(mount.mode)
            yield path
            return
        finally:
            os.close(lock)


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Hold a cache's directory, if nobody has it; whether that is so."""
    lock = _open(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    return os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _name(identity: str) -> str:
    """A file's name for an id: what people can read of it, and its digest."""
    readable = "".join(character if character.isalnum() else "-" for character in identity).strip("-")[:40]
    return f"{readable}-{digest(identity.encode()).hex()[:16]}"
