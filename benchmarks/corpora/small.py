"""Many small files: what a language's package tree or a mail store is made of, and names that break tools."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from benchmarks.corpora.content import Content

FILES = 100_000
DIRECTORIES = 8_000
_SEED = 20_240_229
_LARGEST = 256 << 10
_NEWEST = 1_720_000_000 * 10**9
_OLDEST = 1_420_000_000 * 10**9
_ENDINGS = (b".js", b".py", b".md", b".json", b".h", b".txt", b".d.ts", b".c", b".png", b"")
_OWNERS = ((0, 0), (0, 0), (0, 0), (1000, 1000), (33, 33), (0, 42), (65534, 65534))
_CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service, effective and permitted: struct vfs_cap_data of linux/capability.h, version 2."""


def small(place: Path, files: int = FILES, directories: int = DIRECTORIES) -> None:
    """Make the tree. Of `files` regular names, one in 100 is a hard link; a symbolic link comes with every 50th."""
    _Small(os.fsencode(place), files, directories).make()


class _Small:
    def __init__(self, top: bytes, files: int, directories: int) -> None:
        self._top = top
        self._content = Content(_SEED)
        self._random = self._content.random
        self._files = files
        self._wanted = directories
        self._directories: list[bytes] = [b""]
        self._regular: list[bytes] = []
        self._kept: list[bytes] = []
        """Contents that appear again in other files."""

    def make(self) -> None:
        os.mkdir(self._top, 0o755)
        self._make_directories()
        # Popular directories hold hundreds of names, most a handful.
        weights = [self._random.paretovariate(1.2) for _ in self._directories]
        homes = self._random.choices(
            self._directories, weights=[min(weight, 60.0) for weight in weights], k=self._files
        )
        for number, home in enumerate(homes):
            self._name(number, home)
            if number % 50 == 0:
                self._symlink(number, home)
        for directory in reversed(self._directories):  # after everything in it
            self._attributes(directory, 0o755, len(directory))

    def _make_directories(self) -> None:
        """A tree that grows where it is young: about 6 levels deep on average, 10 at most."""
        while len(self._directories) < self._wanted:
            young = self._directories[-200:] if self._random.random() < 0.7 else self._directories
            parent = self._random.choice(young)
            if parent.count(b"/") >= 10:
                continue
            number = len(self._directories)
            path = parent + b"/" + self._odd_or_plain(number, b"", number % 150 == 0 and number % 4 != 1)
            os.mkdir(self._top + path)
            self._directories.append(path)

    def _odd_or_plain(self, number: int, ending: bytes, odd: bool) -> bytes:
        """A name that is free: it has its number in it."""
        stem = b"%s%d" % (self._content.word().encode(), number)
        if not odd:
            return stem + ending
        match self._random.randrange(10):
            case 0:
                return stem + b" with spaces " + ending
            case 1:
                return b"-rf " + stem
            case 2:
                return b"--" + stem + b"=value"
            case 3:
                return stem + b"\nsecond line" + ending
            case 4:
                return stem + b"\xff\xfe\x80" + ending  # not UTF-8
            case 5:
                return stem + "-ünïcödé-日本".encode() + ending
            case 6:
                return b"." + stem + b"\\\"'$(x)`" + ending
            case 7:
                return stem + b"\t\x01\x7f"
            case 8:
                return b"~" + stem + b";*?[a]#" + ending
            case _:
                return (stem + b"x" * 255)[:255]

    def _name(self, number: int, home: bytes) -> None:
        ending = self._random.choice(_ENDINGS)
        odd = number % 50 == 7
        path = home + b"/" + self._odd_or_plain(number, ending, odd)
        if number % 100 == 99:
            os.link(self._top + self._random.choice(self._regular), self._top + path)
            return
        with open(self._top + path, "wb") as file:
            file.write(self._data(ending))
        self._regular.append(path)
        mode = self._random.choice((0o644, 0o644, 0o644, 0o755, 0o600, 0o444, 0o4755 if number % 97 == 0 else 0o664))
        self._attributes(path, mode, number)

    def _data(self, ending: bytes) -> bytes:
        chance = self._random.random()
        if chance < 0.02:
            return b""
        if chance < 0.06 and self._kept:
            return self._random.choice(self._kept)
        size = min(int(self._random.lognormvariate(7.38, 1.3)) + 1, _LARGEST)  # median 1.6 kB; 90 % below 8 kB
        if ending == b".png" or chance > 0.97:
            data = self._content.noise(size)
        elif ending in (b".md", b".txt"):
            data = self._content.prose(size)
        elif ending == b".json":
            data = self._content.table(size)
        else:
            data = self._content.source(size)
        if len(self._kept) < 4_000 and chance < 0.3:
            self._kept.append(data)
        return data

    def _symlink(self, number: int, home: bytes) -> None:
        path = home + b"/" + self._odd_or_plain(number, b".link", number % 1_000 == 0)
        match self._random.randrange(4):
            case 0:
                target = b"/usr/share/" + self._content.word().encode()
            case 1:
                target = b"missing/\xe9 " + self._content.word().encode()  # leads nowhere
            case _:
                target = os.path.relpath(self._random.choice(self._regular), home or b"/")
        os.symlink(target, self._top + path)
        os.utime(self._top + path, ns=(self._time(), self._time()), follow_symlinks=False)

    def _attributes(self, path: bytes, mode: int, number: int) -> None:
        full = self._top + path
        owner = self._random.choice(_OWNERS)
        if owner != (0, 0):
            os.chown(full, *owner)
        os.chmod(full, mode)  # after chown(2), which clears the set-user-ID bit
        if number % 20 == 3:
            os.setxattr(full, b"user.comment", self._content.prose(self._random.randint(10, 120)))
        if number % 200 == 5:
            os.setxattr(full, b"user.digest.sha256", self._random.randbytes(32))
        if number % 2_000 == 11:
            os.setxattr(full, b"security.capability", _CAPABILITY)
        os.utime(full, ns=(self._time(), self._time()))

    def _time(self) -> int:
        return self._random.randrange(_OLDEST, _NEWEST)
