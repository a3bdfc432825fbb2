"""Taking a root filesystem in: time until it is on the disk, what it takes there, and the same again."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.corpus import Setting, count
from benchmarks.measure import disk_usage, environment, in_turns, median, run, settle
from benchmarks.report import Section

OURS = "treering import"


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool that can take a directory in. `add` is timed and must be durable when it returns; `prepare` is not."""

    name: str
    program: str
    prepare: Callable[[Path], None]
    add: Callable[[Path, Path, int], float]
    """(source, place, how many times before) -> seconds."""
    keeps_versions: bool
    """Whether a second add into the same place shares with the first."""


_COMMAND: list[str | Path] = [sys.executable, "-m", "runtime.cli"]


def _treering(source: Path, place: Path, before: int) -> float:
    command = [*_COMMAND, "import", "--store", place, source, "--branch", f"b{before}", "-m", "benchmark"]
    return run(command, environment()).seconds


def _prepare_treering(place: Path) -> None:
    run([*_COMMAND, "init", "--store", place], environment())


def _copy(source: Path, place: Path, before: int) -> float:
    return run(["sh", "-c", 'cp -a "$1" "$2" && sync', "sh", source, place / str(before)]).seconds


def _tar(source: Path, place: Path, before: int) -> float:
    return run(["sh", "-c", 'tar -C "$1" --xattrs -cf "$2" . && sync', "sh", source, place / f"{before}.tar"]).seconds


def _borg_env(place: Path) -> dict[str, str]:
    return {
        "BORG_BASE_DIR": str(place / "base"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }


def _prepare_borg(place: Path) -> None:
    place.mkdir()
    run(["borg", "init", "--encryption=none", place / "repo"], env=_borg_env(place))


def _borg(source: Path, place: Path, before: int) -> float:
    return run(["borg", "create", f"{place}/repo::{before}", "."], env=_borg_env(place), cwd=source).seconds


def _restic_env(place: Path) -> dict[str, str]:
    return {"RESTIC_PASSWORD": "benchmark", "RESTIC_CACHE_DIR": str(place / "cache")}


def _prepare_restic(place: Path) -> None:
    place.mkdir()
    run(["restic", "init", "--repo", place / "repo"], env=_restic_env(place))


def _restic(source: Path, place: Path, before: int) -> float:
    return run(["restic", "backup", "--quiet", "--repo", place / "repo", source], env=_restic_env(place)).seconds


PEERS = (
    Peer(OURS, sys.executable, _prepare_treering, _treering, True),
    Peer("cp -a, sync", "cp", Path.mkdir, _copy, False),
    Peer("tar, sync", "tar", Path.mkdir, _tar, False),
    Peer("borg create", "borg", _prepare_borg, _borg, True),
    Peer("restic backup", "restic", _prepare_restic, _restic, True),
)


def imports(setting: Setting) -> list[Section]:
    """First and second import of the same root, and the disk that each takes."""
    entries, size = count(setting.root)
    section = Section(
        "Import, durable",
        [f"{entries:,} entries, {size / 1e6:,.0f} MB; {setting.rounds} rounds, medians; sources in the page cache."],
    )
    peers = [peer for peer in PEERS if shutil.which(peer.program)]
    section.notes += [f"{peer.name} is not installed." for peer in PEERS if peer not in peers]
    run(["tar", "-C", setting.root, "-cf", "/dev/null", "."])
    run(["sh", "-c", 'find "$1" -type f -print0 | xargs -0 cat', "sh", setting.root])

    def place(peer: Peer, number: int) -> Path:
        return setting.place(f"{peer.name.split()[0]}-{number}")

    def first(peer: Peer) -> Callable[[int], float]:
        def add(number: int) -> float:
            peer.prepare(place(peer, number))
            settle()
            return peer.add(setting.root, place(peer, number), 0)

        return add

    def again(peer: Peer) -> Callable[[int], float]:
        def add(number: int) -> float:
            settle()
            return peer.add(setting.root, place(peer, number), 1)

        return add

    times = in_turns(setting.rounds, {peer.name: first(peer) for peer in peers})
    limits = {"cp -a, sync": 1.4, "borg create": 0.6}
    section.compare("first import", _medians(times), "s", OURS, limits)
    sizes = {peer.name: disk_usage(place(peer, 0)) for peer in peers}
    keepers = [peer for peer in peers if peer.keeps_versions]
    second = in_turns(setting.rounds, {peer.name: again(peer) for peer in keepers})
    section.compare("second import", _medians(second), "s", OURS)
    for peer in peers:
        section.add("disk after the first", peer.name, sizes[peer.name], "MB", 210e6 if peer.name == OURS else None)
    for peer in keepers:
        grown = disk_usage(place(peer, 0)) - sizes[peer.name]
        section.add("disk added by the second", peer.name, grown, "B", 100e3 if peer.name == OURS else None)
    section.add("peak memory of an import", "treering", _peak(setting), "MB", 300e6)
    return [section]


def _peak(setting: Setting) -> int:
    store = setting.place("treering-memory")
    _prepare_treering(store)
    return run([*_COMMAND, "import", "--store", store, setting.root, "-m", "benchmark"], environment()).peak_bytes


def _medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: median(values) for name, values in times.items()}
