"""Backup tools: restic, borg, bup, casync."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.measure import Run, Size, run, size_of
from benchmarks.peers.peer import Peer


class Restic(Peer):
    """Repository version 2. With its cache, which lies outside of the repository."""

    program = "restic"
    syncs = True  # the local backend calls fsync for each file
    note = "restic encrypts what it keeps; it cannot be told not to."

    def __init__(self, compression: str = "auto") -> None:
        self.name = "restic" if compression == "auto" else f"restic {compression}"
        self._compression = compression
        self._snapshots: dict[tuple[Path, str], str] = {}

    def prepare(self, place: Path) -> None:
        place.mkdir()
        self._restic(place, "init", "--repository-version", "2")

    def save(self, place: Path, source: Path, label: str) -> Run:
        done = self._restic(place, "backup", "--json", "--tag", label, "--compression", self._compression, source)
        summary = json.loads(done.output.splitlines()[-1])
        self._snapshots[place, label] = summary["snapshot_id"]
        return self.durable(place, done)

    def diff(self, place: Path, old: str, new: str) -> Run:
        return self._restic(place, "diff", "--metadata", self._snapshots[place, old], self._snapshots[place, new])

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        done = self._restic(place, "restore", self._snapshots[place, label], "--target", target)
        return done + run(["sync", "-f", target])

    def size(self, place: Path) -> Size:
        return size_of(place / "repo")

    def _restic(self, place: Path, *words: str | Path) -> Run:
        environment = {"RESTIC_PASSWORD": "benchmark", "RESTIC_CACHE_DIR": str(place / "cache")}
        return run(["restic", "--repo", place / "repo", *words], environment)


class Borg(Peer):
    """Without encryption. With its cache, which lies outside of the repository."""

    program = "borg"
    syncs = True  # the repository calls fsync for each segment, and for the directory

    def __init__(self, compression: str = "lz4") -> None:
        self.name = "borg" if compression == "lz4" else f"borg {compression}"
        self._compression = compression

    def prepare(self, place: Path) -> None:
        place.mkdir()
        self._borg(place, place, "init", "--encryption=none", place / "repo")

    def save(self, place: Path, source: Path, label: str) -> Run:
        words = ("create", "--compression", self._compression, f"{place}/repo::{label}", ".")
        return self.durable(place, self._borg(place, source, *words))

    def diff(self, place: Path, old: str, new: str) -> Run:
        return self._borg(place, place, "diff", f"{place}/repo::{old}", new)

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        target.mkdir()
        return self._borg(place, target, "extract", f"{place}/repo::{label}") + run(["sync", "-f", target])

    def size(self, place: Path) -> Size:
        return size_of(place / "repo")

    def _borg(self, place: Path, cwd: Path, *words: str | Path) -> Run:
        environment = {
            "BORG_BASE_DIR": str(place / "base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }
        return run(["borg", *words], environment, cwd)


class Bup(Peer):
    name = "bup"
    program = "bup"

    def prepare(self, place: Path) -> None:
        self._bup(place, "init")

    def save(self, place: Path, source: Path, label: str) -> Run:
        done = self._bup(place, "index", "--one-file-system", source)
        done += self._bup(place, "save", "--quiet", "--strip", "--name", "main", source)
        run(["git", "--git-dir", place, "branch", label, "main"])
        return self.durable(place, done)

    def diff(self, place: Path, old: str, new: str) -> Run:
        return run(["git", "--git-dir", place, "diff", "--name-status", old, new])

    def branch(self, place: Path, label: str, name: str) -> Run:
        return self.durable(place, run(["git", "--git-dir", place, "branch", name, label]))

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        return self._bup(place, "restore", "--quiet", "--outdir", target, f"/{label}/latest/.") + run(
            ["sync", "-f", target]
        )

    def _bup(self, place: Path, *words: str | Path) -> Run:
        return run(["bup", *words], {"BUP_DIR": str(place)})


class Casync(Peer):
    """A chunk store and one index file a state."""

    name = "casync"
    program = "casync"
    note = "casync keeps no hard links; it has no list of files that it knows, and reads all of them each time."

    def prepare(self, place: Path) -> None:
        place.mkdir()

    def save(self, place: Path, source: Path, label: str) -> Run:
        words = (f"--store={place}/chunks.castr", place / f"{label}.caidx", source)
        return self.durable(place, run(["casync", "make", *words]))

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        words = (f"--store={place}/chunks.castr", place / f"{label}.caidx", target)
        return run(["casync", "extract", *words]) + run(["sync", "-f", target])
