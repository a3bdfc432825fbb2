"""Git objects, each written as a file of its own (gitrepository-layout(5)), whatever was there under its name.

Git's library writes none that it believes to be there, so that a damaged one would have to go first.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

from vcs.durable import replace_file, sync_directory
from vcs.existing import is_there
from vcs.repair.keeping import keep

_WORDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
"""By pygit2's ObjectType."""


def path_of(repository: Path, oid: str) -> Path:
    """The file of an object."""
    return repository / "objects" / oid[:2] / oid[2:]


def write_loose(repository: Path, kind: int, data: bytes) -> None:
    """Write an object, durably; what is there under its name is kept (vcs.repair.keeping) until the moment it is
    replaced. OSError, with nothing left behind."""
    content = b"%s %d\0%s" % (_WORDS[kind], len(data), data)
    oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    path = path_of(repository, oid)
    if is_there(path):
        keep(repository, path)
    if not is_there(path.parent):
        path.parent.mkdir(exist_ok=True)
        sync_directory(path.parent.parent)
    aside = path.parent / f"tmp_obj_{oid[2:]}"
    try:
        replace_file(path, zlib.compress(content), aside=aside)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    path.chmod(0o444)
