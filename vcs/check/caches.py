"""The caches that imports and readers leave. They may be lost, and a damaged one is not used; but it is told of.

None is synced. Of one that was just written, a power cut leaves an empty file, or zeros: that is no damage.
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from vcs.cachefiles import open_cache
from vcs.check.report import Report
from vcs.model import DIGEST_SIZE

_FIRST = re.compile(rb"[0-9a-f]{64}\n")
_PIECE = 1 << 20


def check_caches(directory: Path, has: Callable[[bytes], bool], report: Report) -> None:
    """Check the files of vcs.importcache, vcs.profiles and vcs.plain in a directory; `has` says whether the store has
    an object."""
    for path in sorted(found for kind in ("import-*", "start-*", "plain-*") for found in directory.glob(kind)):
        if path.suffix:
            continue  # one that is being written
        with contextlib.suppress(FileNotFoundError):
            if not _is_whole(path, has):
                report.caches.add(path)
                report.add("cache", f"caches/{path.name} is damaged: it is not used, and nothing is lost")


def _is_whole(path: Path, has: Callable[[bytes], bool]) -> bool:
    """Whether a cache is as it was written, or has nothing in it."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    with open(open_cache(path), "rb") as file:
        first = file.readline(80)
        if not any(first):
            return True
        if not _FIRST.fullmatch(first) or not has(bytes.fromhex(first.decode("ascii"))):
            return False
        expected, hasher = file.read(DIGEST_SIZE), blake3()
        while data := file.read(_PIECE):
            hasher.update(data)
        return hasher.digest() == expected
