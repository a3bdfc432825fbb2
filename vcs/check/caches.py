"""The caches that imports and readers leave. They may be lost, and a damaged one is not used; but it is told of.

Few are synced. Of one that was just written, a power cut leaves an empty file, or zeros: that is no damage.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from vcs import plain
from vcs.cachefiles import open_cache
from vcs.check.report import Report
from vcs.existing import names_in
from vcs.model import DIGEST_SIZE

_KINDS = ("import-", "start-", plain.PREFIX)
_FIRST = re.compile(rb"[0-9a-f]{64}\n")
_PIECE = 1 << 20


def check_caches(directory: Path, has: Callable[[bytes], bool], report: Report) -> None:
    """Check the files of vcs.importcache, vcs.profiles and vcs.plain in a directory; `has` says whether the store has
    an object. What is damaged is named by the file that has a first line."""
    try:
        names = names_in(directory)
    except OSError as error:
        report.add_unread("cache", "caches", error)
        return
    for name in sorted(names):
        if name.startswith(_KINDS) and "." not in name:  # with a suffix, it is being written
            _check_cache(directory / name, has, report)


def _check_cache(path: Path, has: Callable[[bytes], bool], report: Report) -> None:
    try:
        if not _is_whole(path, has):
            report.caches.add(path)
            report.add("cache", f"caches/{path.name} is damaged: it is not used, and nothing is lost")
    except FileNotFoundError:
        return
    except OSError as error:  # which says nothing of what is in it
        report.add_unread("cache", f"caches/{path.name}", error)


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
        if hasher.digest() != expected:
            return False
    copied = plain.copied_digest(path)
    return copied is None or plain.is_whole(path.parent, copied)
