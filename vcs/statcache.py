"""Remembers what files held, so that a file whose status has not changed need not be read again.

A file is known by device, inode, size, mtime and ctime (ns). The kernel stamps ctime from a clock that ticks every few
milliseconds (whole seconds on some file systems), so a file changed twice within a tick has the same status before and
after: git calls such an entry racy. Only a file whose ctime was older than a tick when its reading began is
remembered, because any later change gets another ctime. Nobody but who sets the machine's clock can forge a ctime.

A change through a shared mapping (mmap(2), MAP_SHARED) is stamped when a clean page is first written to. Further
stores into a page that is already dirty are not: until the kernel has written it back, they go unnoticed here, as they
do in git and rsync.

The contents are only digests. Whoever loads a cache passes a `stamp` that changes whenever objects may have left the
store; whoever saves it does so after the commit that holds the new contents. A cache that is lost, of another
version or damaged is an empty one.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TypeAlias

import msgspec

from vcs.durable import replace_file
from vcs.encoding import digest
from vcs.model import DIGEST_SIZE, Chunked, Data

_MAGIC = b"treering stat cache 1\n"
_TICK = 20_000_000
"""Twice the longest tick of the kernel's coarse clock (CONFIG_HZ=100), in ns."""
_SECOND = 1_000_000_000

_Key: TypeAlias = tuple[int, int, int, int, int]


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    key: _Key
    content: Data | Chunked


class _File(msgspec.Struct, frozen=True, array_like=True, gc=False):
    stamp: bytes
    rows: list[_Row]


_decode = msgspec.msgpack.Decoder(_File).decode
_encode = msgspec.msgpack.Encoder().encode


def is_damaged(path: Path) -> bool:
    """Whether there is a cache that load() would not use for what it holds."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    start = len(_MAGIC) + DIGEST_SIZE
    return data[:start] != _MAGIC + digest(data[start:])


class StatCache:
    """The contents of the files of one directory tree. Not for several threads at once."""

    def __init__(self) -> None:
        self._known: dict[_Key, Data | Chunked] = {}
        self._used: dict[_Key, Data | Chunked] = {}

    @classmethod
    def load(cls, path: Path, stamp: bytes = b"") -> StatCache:
        """The cache that was saved there with this stamp; an empty one if there is none that can be used."""
        cache = cls()
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            data = path.read_bytes()
            start = len(_MAGIC) + DIGEST_SIZE
            if data[:start] == _MAGIC + digest(data[start:]):
                saved = _decode(data[start:])
                if saved.stamp == stamp:
                    cache._known = {row.key: row.content for row in saved.rows}
        return cache

    def save(self, path: Path, stamp: bytes = b"") -> None:
        """Save what was asked for or put since loading; the rest is of files that are gone. OSError as it comes.

        Replaced by rename, not synced: after a power cut it may be damaged, which is noticed, or the old one.
        """
        body = _encode(_File(stamp, [_Row(key, content) for key, content in self._used.items()]))
        replace_file(path, _MAGIC + digest(body) + body, durable=False)

    def get(self, status: os.stat_result) -> Data | Chunked | None:
        """The content of the file with this status, or None if it must be read."""
        key = _key(status)
        content = self._known.get(key)
        if content is not None:
            self._used[key] = content
        return content

    def put(self, status: os.stat_result, content: Data | Chunked, now_ns: int) -> None:
        """Remember a file's content. `status` held before and after it was read, which began at `now_ns` (time_ns)."""
        if is_settled(status, now_ns):
            key = _key(status)
            self._known[key] = self._used[key] = content

    def __len__(self) -> int:
        return len(self._used)


def is_settled(status: os.stat_result, now_ns: int) -> bool:
    """Whether any change after `now_ns` (time_ns) gives the file another status: the racy rule above."""
    changed = max(status.st_ctime_ns, status.st_mtime_ns)
    tick = _TICK if status.st_ctime_ns % _SECOND else 2 * _SECOND
    return changed + tick < now_ns


def _key(status: os.stat_result) -> _Key:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
