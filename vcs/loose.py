"""Git's loose objects, read without its library: each is a file of zlib, named by its SHA-1 (gitrepository-layout(5)).

A history that was not packed has three of them for each commit: what is asked of 10,000 commits reads 30,000. libgit2
takes 10 us for one, this takes 7; and of one that is cut off it waits for the rest for ever.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from functools import cached_property
from pathlib import Path

from vcs.errors import Corrupt

_SMALL = 1 << 16
"""Bytes of a file that is read here. Commits, trees and roots take a few hundred."""
_LARGE = 1 << 20
"""Bytes that one may decompress to."""


class LooseObjects:
    """The loose objects in the `objects` directory of a repository."""

    def __init__(self, objects: Path) -> None:
        self._objects = os.fspath(objects)

    def read(self, oid: str) -> bytes | None:
        """An object's bytes, by its full id. None if it is not to be had here, but perhaps by git's library: it is
        packed, large, or cannot be opened. Corrupt if it is damaged; if it is cut off, that library would wait for the
        rest for ever (libgit2 #7342)."""
        if oid[:2] not in self._directories:
            return None
        try:
            file = os.open(f"{self._objects}/{oid[:2]}/{oid[2:]}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            packed = os.read(file, _SMALL)
        except OSError:
            return None
        finally:
            os.close(file)
        return _unpacked(packed, oid)

    @cached_property
    def _directories(self) -> frozenset[str]:
        """Those that were there when one was first wanted: after gc hardly any is. What is made later is read by git's
        library, no less right."""
        try:
            return frozenset(os.listdir(self._objects))
        except OSError:
            return frozenset()


def _unpacked(packed: bytes, oid: str) -> bytes | None:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(packed, _LARGE)
    except zlib.error as error:
        raise Corrupt(f"git object {oid} is damaged: {error}", object=oid) from None
    if not stream.eof:
        if len(packed) == _SMALL or len(data) == _LARGE:
            return None
        raise Corrupt(f"git object {oid} is damaged: its file is cut off", object=oid)
    if hashlib.sha1(data, usedforsecurity=False).hexdigest() != oid:
        raise Corrupt(f"git object {oid} is damaged", object=oid)
    return data[data.find(b"\0") + 1 :]
