"""Programs and libraries, which overlays read as plain files: their data layer.

FUSE keeps single pages, each of which is mapped and unmapped by itself, where a disk's file system keeps large folios;
so what maps large files, as a compiler does, is slower over FUSE even if it sends no message. An overlay may have a
file's bytes from elsewhere than its metadata (overlayfs.rst, "Data-only lower layers", Linux 6.8): of a lower's file it
asks for two attributes, and if there is a plain copy (vcs.plain), they say that its bytes are in the overlay's data
layer, and under which name (datadir.py).

Copies are asked for when an overlay reads the beginning of a program. A container that runs already reads on what it
has seen; those that start later have the copies. Who reads one file after the other, as tar does, asks for none.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fusefs.datadir import LOCK, name_of
from fusefs.rights import sees_trusted
from fusefs.sweep import Part
from vcs import plain, plainwriter
from vcs.existing import names_in
from vcs.model import Chunked, Content, Data, Tree
from vcs.plain import Plain, bytes_path, digest_of_copy
from vcs.snapshot import Profile
from vcs.stillborn import UNSTARTED

if TYPE_CHECKING:
    from subprocess import Popen

_log = logging.getLogger(__name__)

FILE_LEAST, FILE_MOST = 8 << 10, 4 << 30
"""Bytes. A smaller file has a page or two, which it is not worth while to have twice."""
DELAY_SECONDS = 5.0
"""After the first file was asked for. Whoever reads them has just begun, and wants disk and processors for himself."""
_LOOK_SECONDS = 1.0
"""For so long it is believed that there are no new copies."""
_ASKED_MOST = 65_536
_BEGINNING = 4 << 20
"""Bytes of a program of which it is not known what a start reads."""
_ELF = b"\x7fELF"
_TYPE = slice(16, 18)
_PROGRAMS = frozenset({b"\x02\0", b"\0\x02", b"\x03\0", b"\0\x03"})
"""ET_EXEC and ET_DYN, in both orders of bytes (elf(5))."""


def is_program(head: bytes | memoryview) -> bool:
    """Whether a file that begins so is a program or a library: what is mapped into memory to be run."""
    return head[:4] == _ELF and bytes(head[_TYPE]) in _PROGRAMS


def _opened(lock: Path) -> int:
    """The lock's descriptor; -1 if it cannot be had: then nothing is linked, and all is served."""
    try:
        return os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        _log.warning("programs are not had as plain files: %s", error)
        return -1


class DataLayer:
    """The data layer of overlays over one mount. Its methods are for the loop's thread."""

    def __init__(
        self,
        store: Path,
        path: Path,
        begin: Callable[[Path, Iterable[Plain]], Popen[bytes]] = plainwriter.begin,
        delay: float = DELAY_SECONDS,
    ) -> None:
        """`path` is a DataDirectory's."""
        self._store = store
        self._caches = store / "caches"
        self._begin = begin
        self._delay = delay
        self.path = path
        self._lock = _opened(path / LOCK)
        namespace = b"trusted" if sees_trusted() else b"user"
        self._metacopy, self._redirect = namespace + b".overlay.metacopy", namespace + b".overlay.redirect"
        self._opaque = namespace + b".overlay.opaque"
        self.names = frozenset({self._metacopy, self._redirect, self._opaque})
        """The attributes that overlays are answered here."""
        self._copied: set[bytes] = set()
        """The digests of which there may be a copy."""
        self._look = -math.inf
        """When to look again."""
        self._changed = -1
        self._checked: dict[bytes, int] = {}
        """The size of each file whose copy was found to be there."""
        self._asked: set[bytes] = set()
        self._wanted: dict[bytes, Plain] = {}
        self.told: Callable[[Plain], None] = lambda _: None
        """Called with each file of which an overlay is told that it has a copy."""
        self._guard = threading.Lock()
        self._is_making = False
        """Whether the thread will look at what is wanted."""

    def has(self, content: Content) -> bool:
        """Whether there may be a copy of a file."""
        if not isinstance(content, Data | Chunked) or content.size < FILE_LEAST:
            return False
        if time.monotonic() >= self._look:
            self._look_again()
        return digest_of_copy(content) in self._copied

    def is_asked(self, content: Content, name: bytes) -> bool:
        """Whether an attribute of a file may be answered here. Overlays ask of each, and nearly all have no copy."""
        kind = type(content)
        if kind is Data or kind is Chunked:
            digest = content.chunk if kind is Data else content.list  # type: ignore[union-attr]
            return digest in self._copied or name == self._redirect or time.monotonic() >= self._look
        return name == self._opaque

    def look_again(self) -> None:
        """There may be new copies. Any thread may call this."""
        self._look = -math.inf

    def attribute(self, number: int, content: Content, name: bytes) -> bytes | None:
        """What an overlay is answered that asks for one of these attributes of a file; None: it has no such attribute.

        An empty `metacopy` says that the bytes are elsewhere, `redirect` where. An overlay that has a data layer asks
        of each directory whether it is opaque and then where it is redirected to, though nothing lies below: one that
        is opaque is asked once.
        """
        if isinstance(content, Tree):
            return b"y" if name == self._opaque else None
        if not isinstance(content, Data | Chunked) or name == self._opaque:
            return None
        if name == self._metacopy:
            if not self.has(content) or not self._link(number, content):
                return None
            self.told(content)
            return b""
        link = name_of(number, digest_of_copy(content))
        # What another worker has linked is there, though this one may not have seen the copy.
        return b"/" + link.encode() if os.path.lexists(self.path / link) else None

    def _link(self, number: int, content: Plain) -> bool:
        digest = digest_of_copy(content)
        if not self._is_there(digest, content.size):
            return False
        if self._lock < 0:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            with suppress(FileExistsError):
                os.link(bytes_path(self._caches, digest), self.path / name_of(number, digest), follow_symlinks=False)
        except BlockingIOError:  # the holder looks what may go
            return False
        except OSError as error:
            _log.info("a plain copy is not linked: %s", error)
            self._copied.discard(digest)
            self._checked.pop(digest, None)
            return False
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        return True

    def _is_there(self, digest: bytes, size: int) -> bool:
        """Whether there is a copy of a file of so many bytes, which is used then. If not, one may still be made."""
        if self._checked.get(digest) != size:
            if not plain.is_copied(self._caches, digest, size):
                return False
            plain.used(self._caches, digest)
            self._checked[digest] = size
        return True

    def _look_again(self) -> None:
        self._look = time.monotonic() + _LOOK_SECONDS
        with suppress(OSError):
            changed = (self._caches / plain.DIRECTORY).stat().st_mtime_ns
            if changed != self._changed:
                names = names_in(self._caches / plain.DIRECTORY)
                self._copied = {bytes.fromhex(name) for name in names if len(name) == 64}
                self._checked.clear()
                self._changed = changed

    def parts(self, profile: Profile) -> dict[bytes, Part]:
        """The objects of a profile that are parts of copies, by digest; of a chunk list of which it has no chunk, what
        that file begins with. Any thread may call this. The loop, which will be asked for these copies, has not to wait
        for the disk then, where it would come after all that is read ahead."""
        if time.monotonic() >= self._look:
            self._look_again()
        copied = self._copied
        found: dict[bytes, Part] = {}
        lists = []
        for item in profile.items:
            if item.digest in copied:
                path = bytes_path(self._caches, item.digest)
                with suppress(OSError):
                    size = path.lstat().st_size
                    if not self._is_there(item.digest, size):
                        continue
                    if size == item.length:
                        found[item.digest] = Part(path, 0, item.length)
                    else:
                        lists.append((item, path))
        profile.warm(item for item, _ in lists)  # at once, and not one after the other
        held = {item.digest for item in profile.items}
        for item, path in lists:
            places = plain.parts_of(profile.get, item.digest)
            found.update((digest, Part(path, *place)) for digest, place in places.items())
            if held.isdisjoint(places):
                found[item.digest] = Part(path, 0, _BEGINNING)
        return found

    # -- copies

    def want(self, content: Content) -> None:
        """A program is being run of which there is no copy: have one made soon."""
        if not isinstance(content, Data | Chunked) or not FILE_LEAST <= content.size <= FILE_MOST:
            return
        digest = digest_of_copy(content)
        if digest in self._asked or self.has(content):
            return
        if len(self._asked) >= _ASKED_MOST:
            self._asked.clear()
        self._asked.add(digest)
        with self._guard:
            self._wanted[digest] = content
            is_making, self._is_making = self._is_making, True
        if not is_making:
            try:
                threading.Thread(target=self._make, name="copies", daemon=True).start()
            except UNSTARTED:
                self._is_making = False  # with the next one

    def _make(self) -> None:
        """The thread."""
        while True:
            time.sleep(self._delay)
            with self._guard:
                wanted, self._wanted = self._wanted, {}
                self._is_making = bool(wanted)
            if not wanted:
                return
            try:
                self._begin(self._store, wanted.values()).wait()
            except OSError as error:
                _log.warning("no plain copies are made: %s", error)
            self.look_again()
