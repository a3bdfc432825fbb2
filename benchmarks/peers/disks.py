"""File systems and plain copies: btrfs with its snapshots, cp."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.measure import Run, Size, run
from benchmarks.peers.peer import Peer

_DISK_BYTES = 32 << 30
"""Of the loop file, which has holes where nothing was written."""


class Btrfs(Peer):
    """A file system of its own on a loop file: a subvolume that is changed with rsync, and a snapshot a state."""

    name = "btrfs"
    program = "mkfs.btrfs"
    note = (
        "btrfs is a file system on a loop file: `cp -a` or `rsync --inplace` into a subvolume, then a snapshot of it."
    )

    def absent(self) -> str:
        if "btrfs" not in Path("/proc/filesystems").read_text().split():
            return "this kernel has no btrfs"
        return super().absent()

    def prepare(self, place: Path) -> None:
        place.mkdir()
        disk = place / "disk"
        disk.touch()
        os.truncate(disk, _DISK_BYTES)
        (place / "mnt").mkdir()
        run(["mkfs.btrfs", "--quiet", disk])
        run(["mount", "-o", "loop", disk, place / "mnt"])
        run(["btrfs", "subvolume", "create", place / "mnt/live"])

    def save(self, place: Path, source: Path, label: str) -> Run:
        live = place / "mnt/live"
        if any(live.iterdir()):
            words: list[str | Path] = ["rsync", "-aHAX", "--inplace", "--no-whole-file", "--delete", f"{source}/", live]
        else:
            words = ["cp", "-a", f"{source}/.", live]
        done = run(words) + run(["btrfs", "subvolume", "snapshot", "-r", live, place / "mnt" / label])
        return done + run(["btrfs", "filesystem", "sync", place / "mnt"])

    def branch(self, place: Path, label: str, name: str) -> Run:
        mnt = place / "mnt"
        done = run(["btrfs", "subvolume", "snapshot", mnt / label, mnt / name])
        return done + run(["btrfs", "filesystem", "sync", mnt])

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        mnt = place / "mnt"
        done = run(["btrfs", "subvolume", "delete", mnt / "live"])
        done += run(["btrfs", "subvolume", "snapshot", mnt / label, mnt / "live"])
        return done + run(["btrfs", "filesystem", "sync", mnt])

    def size(self, place: Path) -> Size:
        """What statfs(2) counts as used."""
        run(["btrfs", "filesystem", "sync", place / "mnt"])
        status = os.statvfs(place / "mnt")
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        return Size(used, used)

    def finish(self, place: Path) -> None:
        if os.path.ismount(place / "mnt"):
            run(["umount", place / "mnt"])


class Copy(Peer):
    """A directory a state."""

    name = "cp -a"
    program = "cp"

    def prepare(self, place: Path) -> None:
        place.mkdir()

    def save(self, place: Path, source: Path, label: str) -> Run:
        return self.durable(place, run(["cp", "-a", source, place / label]))

    def diff(self, place: Path, old: str, new: str) -> Run:
        return run(["diff", "--recursive", "--brief", "--no-dereference", place / old, place / new], ok=(0, 1))

    def branch(self, place: Path, label: str, name: str) -> Run:
        return self.durable(place, run(["cp", "-a", place / label, place / name]))

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        return run(["cp", "-a", place / label, target]) + run(["sync", "-f", target])
