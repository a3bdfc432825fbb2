"""What every section is given: where to work, on what, with whom, how often."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmarks.corpora import made_once
from benchmarks.corpora.big import SIZE, big
from benchmarks.corpora.debian import debian
from benchmarks.corpora.history import STEPS, history
from benchmarks.corpora.million import ENTRIES, million
from benchmarks.corpora.noise import noise
from benchmarks.corpora.small import DIRECTORIES, FILES, small
from benchmarks.corpora.workplace import workplace
from benchmarks.measure import FailedError, in_turns
from benchmarks.peers.backup import Borg, Bup, Casync, Restic
from benchmarks.peers.disks import Btrfs, Copy
from benchmarks.peers.images import Podman
from benchmarks.peers.peer import Peer
from benchmarks.peers.treering import Treering, TreeringContainer
from benchmarks.peers.versions import Git, Ostree
from benchmarks.report import Section

T = TypeVar("T")

DEBIAN, SMALL, BIG = "Debian root", "small files", "1 GiB file"
OURS = "treering"
RIVALS = ("restic", "borg")
"""At their defaults."""
BEST = ("restic max", "borg zstd,10")
"""At their best compression."""
_QUICK = 50
"""A quick run's corpora are so many times smaller."""
_LOW_DISK = 25 << 30


@dataclass(slots=True)
class Setting:
    cache: Path
    """Where corpora are kept from run to run."""
    work: Path
    """A directory on the disk to be measured. Everything in it goes when the run is over."""
    rounds: int = 3
    quick: bool = False
    """Small corpora: to see that everything works. The figures say nothing."""
    entries: int = ENTRIES
    """Of the large tree."""
    root: Path | None = None
    """A root filesystem instead of the Debian one."""
    only: frozenset[str] = frozenset()
    """Names of the peers that are wanted; all if empty."""
    _used: list[tuple[Peer, Path]] = field(default_factory=list)

    def place(self, name: str) -> Path:
        """A path in the work directory."""
        return self.work / name

    def corpus(self, name: str) -> Path:
        """One of the three corpora, made if it is not there yet."""
        if name == DEBIAN:
            return self.debian()
        if name == SMALL:
            files, directories = (FILES // _QUICK, DIRECTORIES // _QUICK) if self.quick else (FILES, DIRECTORIES)
            return self._made("small", lambda place: small(place, files, directories))
        return self._made("big", lambda place: big(place, SIZE // _QUICK if self.quick else SIZE))

    def corpora(self) -> dict[str, Path]:
        """All three by name. A quick run makes no Debian root: it has one if it is given, or there already."""
        there = not self.quick or self.root or (self.cache / "debian").exists()
        return {name: self.corpus(name) for name in (BIG, DEBIAN, SMALL) if there or name != DEBIAN}

    def debian(self) -> Path:
        return (self.root or made_once(self.cache / "debian", debian)).resolve()

    def workplace(self) -> Path:
        """The Debian root, with work in it."""
        if self.root:
            return made_once(self.place("workplace"), lambda place: workplace(place, self.debian()))
        return made_once(self.cache / "workplace", lambda place: workplace(place, self.debian()))

    def noise(self) -> Path:
        """A large file that does not compress."""
        return self._made("noise", lambda place: noise(place, SIZE // _QUICK if self.quick else SIZE))

    def million(self) -> Path:
        entries = self.entries // _QUICK if self.quick else self.entries
        return made_once(self.cache / f"entries-{entries}", lambda place: million(place, entries))

    def history(self) -> tuple[Path, int]:
        """The package history, and how many of its steps to take."""
        return made_once(self.cache / "history", history), 3 if self.quick else len(STEPS)

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        return made_once(self.cache / (f"{name}-quick" if self.quick else name), make)

    def wants(self, peer: Peer) -> bool:
        return not self.only or peer.name in self.only or peer.program in self.only

    def there(self, section: Section, peers: Sequence[Peer]) -> list[Peer]:
        """The peers that are wanted and can be had; the section notes why others cannot, and what to know."""
        found = []
        for peer in filter(self.wants, peers):
            if why := peer.absent():
                section.note(f"{peer.name} is left out: {why}.")
            else:
                found.append(peer)
                if peer.note:
                    section.note(peer.note)
        return found

    def trials(
        self, section: Section, peers: list[Peer], rounds: int, work: Callable[[Peer, int], T | None]
    ) -> dict[str, list[T]]:
        """Work done by each peer in turns. One that fails is noted with its last words, and leaves `peers`.

        What comes out is by name, without the Nones of those that have no such thing.
        """

        def attempt(peer: Peer, number: int) -> T | None:
            if peer not in peers:
                return None
            try:
                return work(peer, number)
            except FailedError as error:
                section.note(f"{peer.name} is left out: {' '.join(str(error).split())[:300]}")
                peers.remove(peer)
                return None

        turns = {peer.name: (lambda number, peer=peer: attempt(peer, number)) for peer in list(peers)}
        found = in_turns(rounds, turns)
        return {peer.name: [one for one in found[peer.name] if one is not None] for peer in peers}

    def repository(self, peer: Peer, name: str) -> Path:
        """A place that nobody has used, with an empty repository of the peer's in it."""
        place = self.place(f"{peer.name.replace(' ', '-').replace(',', '')}-{name}")
        self._used.append((peer, place))
        peer.prepare(place)
        return place

    def tidy(self, now: bool = False) -> None:
        """Unmount what peers have mounted. Their repositories are deleted at the end of the run, or now.

        Not earlier than needed: for minutes after many files were removed, ext4 creates files several times slower.
        """
        now = now or shutil.disk_usage(self.work).free < _LOW_DISK
        for peer, place in self._used:
            peer.finish(place)
            if now:
                shutil.rmtree(place, ignore_errors=True)
        self._used = []

    def close(self) -> None:
        """Leave nothing mounted below the work directory, whatever happened, and delete it."""
        self.tidy()
        below = f"{self.work}/"
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            place = line.split()[1]
            if place.startswith(below):
                subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(self.work)


def everybody() -> list[Peer]:
    """All tools at their defaults, ours first."""
    return [Treering(), Restic(), Borg(), Bup(), Casync(), Ostree(), Git(), Podman(), Btrfs(), Copy()]


def with_containers() -> list[Peer]:
    """The same, and ours in its other way of taking changes: as a container's."""
    ours, *others = everybody()
    return [ours, TreeringContainer(), *others]


def best() -> list[Peer]:
    """The rivals at their best compression."""
    return [Restic("max"), Borg("zstd,10")]
