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
        "other rows are of who comes by again, when the service has made one. `zstd -3` leaves half of the file."
    )
    source = setting.corpus(BIG)
    ours, plain = Ours(), Plain()
    place = setting.place("large-file")
    place.mkdir()
    ours.prepare(place, source)
    size = (source / NAME).stat().st_size

    def rates(work: Callable[[Path], None], amount: int) -> dict[str, float]:
        def once(server: Ours | Plain) -> float:
            with server.serving(place, source) as root:
                return _cold(root, work)

        turns = {server.name: (lambda _, server=server: once(server)) for server in (ours, plain)}
        times = in_turns(max(_ROUNDS, setting.rounds), turns)
        return {name: amount / statistics.median(seconds) for name, seconds in times.items()}

    _allow_copies(place, "0")
    sequential = rates(_in_order, size)
    found = {"some, never read before": rates(_some, _READS), "all, never read before": rates(_all, size // _READ)}
    _allow_copies(place, "2g")
    _have_copied(ours, place, source)
    found |= {"some": rates(_some, _READS), "all": rates(_all, size // _READ)}
    for name in sequential:
        section.put(name, "in order", sequential[name], "MB/s")
        for which, reads in found.items():
            section.put(name, f"at random: {which}", round(reads[name]), "reads/s")
    section.put(ours.name, "in order, of ext4", sequential[ours.name] / sequential[plain.name], "×")
    for which, reads in found.items():
        section.put(ours.name, f"at random: {which}, of ext4", reads[ours.name] / reads[plain.name], "×")
    enough = min(_FAST, _OF_EXT4 * sequential[plain.name])
    section.claim(
        "9", "1 GiB in order, cold (800 MB/s, or 0.9 of ext4's if that is less)", sequential[ours.name], enough,
        "MB/s", at_least=True,
    )  # fmt: skip
    for which, reads in found.items():
        ratio = reads[ours.name] / reads[plain.name]
        section.claim("9", f"4 KiB at random, cold, {which}: rate to ext4's", ratio, _RANDOM_OF_EXT4, at_least=True)
    return [section]


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
