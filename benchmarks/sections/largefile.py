"""One file of 1 GiB read cold: from its beginning to its end, and 4 KiB at random places: some, and all there are."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.corpora.big import NAME
from benchmarks.inside import Root
from benchmarks.measure import FailedError, drop_caches, in_turns, timed
from benchmarks.peers.servers import Ours, Plain
from benchmarks.report import Section
from benchmarks.setting import BIG, Setting
from vcs.plain import PREFIX
from vcs.plainwriter import SETTING

_PIECE = 1 << 20
_READ = 4 << 10
_READS = 2_000
_SEED = 4_096
_ROUNDS = 5
_FAST = 800e6
"""Bytes a second that are fast enough, however fast the disk is."""
_OF_EXT4 = 0.9
_RANDOM_OF_EXT4 = 0.5
_COPY_SECONDS = 120.0


def large_file(setting: Setting) -> list[Section]:
    """One table: the mount itself next to ext4."""
    section = Section("A file of 1 GiB, cold", "from")
    section.note(
        "Medians; caches dropped and a new service before each. In order: read(2) of 1 MiB each into one buffer. At "
        f"random: pread(2) of 4 KiB with no advice to the kernel, {_READS:,} places by seed, and all there are in an "
        'order by seed, as `fio --rw=randread` has them. "Never read before": without a plain copy, each time; the '
        "other rows are of who comes by again, when the service has made one. `zstd -3` leaves half of the file, and "
        'all of the other one, in the rows with "noise".'
    )
    for name, kind, source in (("large-file", "", setting.corpus(BIG)), ("noise", ", noise", setting.noise())):
        place = setting.place(name)
        place.mkdir()
        file = _File(setting, section, place, source, kind)
        file.compare()
    return [section]


class _File:
    """A file in a store of ours, and itself."""

    def __init__(self, setting: Setting, section: Section, place: Path, source: Path, kind: str) -> None:
        self._section = section
        self._place = place
        self._source = source
        self._kind = kind
        """What its rows are told by."""
        self._rounds = max(_ROUNDS, setting.rounds)
        self._ours, self._plain = Ours(), Plain()
        self._size = (source / NAME).stat().st_size
        self._ours.prepare(place, source)

    def compare(self) -> None:
        """Measure, and put down what was found."""
        _allow_copies(self._place, "0")
        sequential = self._rates(_in_order, self._size)
        found = {
            "some, never read before": self._rates(_some, _READS),
            "all, never read before": self._rates(_all, self._size // _READ),
        }
        if not self._kind:
            _allow_copies(self._place, "2g")
            _have_copied(self._ours, self._place, self._source)
            found |= {"some": self._rates(_some, _READS), "all": self._rates(_all, self._size // _READ)}
        self._put_order(sequential)
        for which, reads in found.items():
            self._put_random(which, reads)

    def _rates(self, work: Callable[[Path], None], amount: int) -> dict[str, float]:
        def once(server: Ours | Plain) -> float:
            with server.serving(self._place, self._source) as root:
                return _cold(root, work)

        turns = {server.name: (lambda _, server=server: once(server)) for server in (self._ours, self._plain)}
        return {name: amount / statistics.median(seconds) for name, seconds in in_turns(self._rounds, turns).items()}

    def _put_order(self, rates: dict[str, float]) -> None:
        ours, plain = rates[self._ours.name], rates[self._plain.name]
        for name, rate in rates.items():
            self._section.put(name, f"in order{self._kind}", rate, "MB/s")
        self._section.put(self._ours.name, f"in order{self._kind}, of ext4", ours / plain, "×")
        self._section.claim(
            "9", f"1 GiB in order{self._kind}, cold (800 MB/s, or 0.9 of ext4's if that is less)", ours,
            min(_FAST, _OF_EXT4 * plain), "MB/s", at_least=True,
        )  # fmt: skip

    def _put_random(self, which: str, rates: dict[str, float]) -> None:
        ratio = rates[self._ours.name] / rates[self._plain.name]
        for name, rate in rates.items():
            self._section.put(name, f"at random{self._kind}: {which}", round(rate), "reads/s")
        self._section.put(self._ours.name, f"at random{self._kind}: {which}, of ext4", ratio, "×")
        self._section.claim(
            "9", f"4 KiB at random{self._kind}, cold, {which}: rate to ext4's", ratio, _RANDOM_OF_EXT4, at_least=True
        )


def _allow_copies(place: Path, size: str) -> None:
    """Plain copies of so much may be made."""
    subprocess.run(["git", "-C", place / "store/history.git", "config", SETTING, size], check=True)


def _have_copied(ours: Ours, place: Path, source: Path) -> None:
    """Read until the service has a copy made, and wait for it."""
    with ours.serving(place, source) as root:
        _cold(root, _some)
        until = time.monotonic() + _COPY_SECONDS
        while not [path for path in (place / "store/caches").glob(f"{PREFIX}*") if not path.suffix]:
            if time.monotonic() > until:
                raise FailedError("no plain copy was made")
            time.sleep(0.1)


def _cold(root: Root, work: Callable[[Path], None]) -> float:
    drop_caches()
    with root.deadline():
        return timed(lambda: work(root.path / NAME))


def _in_order(path: Path) -> None:
    buffer = bytearray(_PIECE)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _some(path: Path) -> None:
    """Some places of a file."""
    chance = random.Random(_SEED)
    pages = path.stat().st_size // _READ
    _read_at(path, (chance.randrange(pages) for _ in range(_READS)))


def _all(path: Path) -> None:
    """All places of a file."""
    pages = list(range(path.stat().st_size // _READ))
    random.Random(_SEED).shuffle(pages)
    _read_at(path, pages)


def _read_at(path: Path, pages: Iterable[int]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for page in pages:
            os.pread(descriptor, _READ, page * _READ)
    finally:
        os.close(descriptor)
