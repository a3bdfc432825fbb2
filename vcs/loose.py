"""Git's loose objects, read without its library: each is a file of zlib, named by its SHA-1 (gitrepository-layout(5)).

A history that was not packed has three of them for each commit: what is asked of 10,000 commits reads 30,000. libgit2
takes 10 us for one, this takes 7; and of one that is cut off it waits for the rest for ever (libgit2 #7342). So each is
looked at here before that library gets it (vcs.gitobjects).
"""

from __future__ import annotations

import hashlib
import os
import zlib
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from vcs.errors import Corrupt
from vcs.shortage import raise_shortage

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
        packed, large, or cannot be opened. Corrupt if it is damaged."""
        if oid[:2] not in self._directories:
            return None
        try:
            content = self._small(oid)
        except OSError:
            return None
        return None if content is None else content[content.find(b"\0") + 1 :]

    def checked(self, oid: str) -> tuple[bytes, bytes] | None:
        """What kind of object one is, by its full id, and its bytes; None if it is large, and can be read to its end.
        FileNotFoundError or OSError; Corrupt if it is damaged, or of a large one if no end is found."""
        content = self._small(oid)
        if content is None:
            with open(f"{self._objects}/{oid[:2]}/{oid[2:]}", "rb") as file:
                _must_end(oid, file)
            return None
        head, _, data = content.partition(b"\0")
        return head.partition(b" ")[0], data

    def beginning(self, prefix: str) -> list[str]:
        """The ids of those that begin so, with two digits or more."""
        try:
            names = os.listdir(f"{self._objects}/{prefix[:2]}")
        except FileNotFoundError:
            return []
        return [prefix[:2] + name for name in names if name.startswith(prefix[2:])]

    def _small(self, oid: str) -> bytes | None:
        """The content of a file, header included; None if it is large."""
        file = os.open(f"{self._objects}/{oid[:2]}/{oid[2:]}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            packed = os.read(file, _SMALL)
        finally:
            os.close(file)
        return _unpacked(packed, oid)

    @cached_property
    def _directories(self) -> frozenset[str]:
        """Those that were there when one was first wanted: after gc hardly any is. What is made later is read as what
        read() does not find."""
        try:
            return frozenset(os.listdir(self._objects))
        except OSError:
            return frozenset()


def _is_cut(file: BinaryIO) -> bool:
    """Whether a zlib stream ends before its end. zlib.error if it is none."""
    inflater = zlib.decompressobj()
    while not inflater.eof and (data := inflater.unconsumed_tail or file.read(_SMALL)):
        inflater.decompress(data, _LARGE)
    return not inflater.eof


def _must_end(oid: str, file: BinaryIO) -> None:
    try:
        if _is_cut(file):
            raise _damaged(oid, ": its file is cut off")
    except zlib.error as error:
        raise_shortage(error)
        raise _damaged(oid, f": {error}") from None


def _unpacked(packed: bytes, oid: str) -> bytes | None:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(packed, _LARGE)
    except zlib.error as error:
        raise_shortage(error)
        raise _damaged(oid, f": {error}") from None
    if not stream.eof:
        if len(packed) == _SMALL or len(data) == _LARGE:
            return None
        raise _damaged(oid, ": its file is cut off")
    if hashlib.sha1(data, usedforsecurity=False).hexdigest() != oid:
        raise _damaged(oid)
    return data


def _damaged(oid: str, how: str = "") -> Corrupt:
    return Corrupt(f"git object {oid} is damaged{how}", object=oid)
