"""What git says of the files of a repository, read without its library (gitformat-pack(5))."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from vcs.errors import Corrupt


def is_summed(data: bytes) -> bool:
    """Whether a file ends with the SHA-1 of what is before, as packs and their indexes do."""
    return hashlib.sha1(memoryview(data)[:-20]).digest() == data[-20:]


def check_pack_indexes(packs: Path) -> None:
    """Corrupt if a pack's index is damaged. libgit2 does not look, and its process dies of an offset beyond the pack
    (1.9.7). Takes 1 ms for 10,000 commits."""
    for path in packs.glob("*.idx"):
        with contextlib.suppress(FileNotFoundError):  # removed by gc just now
            if not is_summed(path.read_bytes()):
                raise Corrupt(f"the history's pack index {path.name} is damaged", path=str(path))
