"""Taking a tree in: time until it is on the disk, processor time, memory; and the same tree again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Run, count, median, settle
from benchmarks.peers.peer import Peer
from benchmarks.report import Section, least
from benchmarks.setting import BIG, DEBIAN, OURS, RIVALS, SMALL, Setting, everybody

_FIRST_LIMITS = {DEBIAN: 0.6, SMALL: 0.7, BIG: 0.8}
_AGAIN_LIMITS = {DEBIAN: 0.35, SMALL: 0.35, BIG: 1.0}
_MEMORY_LIMIT = 250e6
_COMMIT_LIMIT = 64e3
"""What "nothing but a commit" may take: a layer with the root, git's objects, a reflog line, the index's pages."""
_FEW_FILES = 1_000


@dataclass(frozen=True, slots=True)
class _Taken:
    first: Run
    again: Run
    added: int
    """Bytes that the second time added to the repository's files."""


def imports(setting: Setting) -> list[Section]:
    """A table for each corpus."""
    return [_on(setting, name, source) for name, source in setting.corpora().items()]


def _on(setting: Setting, corpus: str, source: Path) -> Section:
    entries, size = count(source)
    section = Section(f"Import: {corpus}")
    section.note(
        f"{entries:,} entries, {size / 1e6:,.0f} MB, in the page cache; {setting.rounds} rounds, medians, "
        "all on the disk when the clock stops. *Again* is the same tree once more; memory is the larger of both runs'."
    )
    peers = setting.there(section, everybody())

    def take(peer: Peer, number: int) -> _Taken:
        place = setting.repository(peer, f"{corpus}-{number}".replace(" ", "-"))
        settle(source)
        first = peer.save(place, source, "first")
        before = peer.size(place).apparent
        settle(source)
        again = peer.save(place, source, "again")
        return _Taken(first, again, peer.size(place).apparent - before)

    taken = setting.trials(section, peers, setting.rounds, take)
    setting.tidy(now=entries < _FEW_FILES)
    first = {name: median(one.first.seconds for one in all_) for name, all_ in taken.items()}
    again = {name: median(one.again.seconds for one in all_) for name, all_ in taken.items()}
    memory = {
        name: max(max(one.first.peak_bytes, one.again.peak_bytes) for one in all_) for name, all_ in taken.items()
    }
    for name, all_ in taken.items():
        section.put(name, "seconds", first[name], "s")
        section.put(name, "ours to it", first[OURS] / first[name], "×") if OURS in first and name != OURS else None
        section.put(name, "CPU", median(one.first.cpu_seconds for one in all_), "s")
        section.put(name, "again", again[name], "s")
        section.put(
            name, "again, ours to it", again[OURS] / again[name], "×"
        ) if OURS in first and name != OURS else None
        section.put(name, "again, CPU", median(one.again.cpu_seconds for one in all_), "s")
        section.put(name, "added", median(one.added for one in all_), "B")
        section.put(name, "memory", memory[name], "MB")
    _claim(section, corpus, first, again, memory, taken)
    return section


def _claim(
    section: Section,
    corpus: str,
    first: dict[str, float],
    again: dict[str, float],
    memory: dict[str, int],
    taken: dict[str, list[_Taken]],
) -> None:
    if OURS not in taken:
        return
    theirs, theirs_again = least(first, RIVALS), least(again, RIVALS)
    if theirs and theirs_again:
        faster = "the faster of restic and borg"
        section.claim("1", f"import, {corpus}: time to {faster}", first[OURS] / theirs, _FIRST_LIMITS[corpus])
        section.claim("2", f"re-import, {corpus}: time to {faster}", again[OURS] / theirs_again, _AGAIN_LIMITS[corpus])
    section.claim("1", f"import, {corpus}: peak memory", memory[OURS], _MEMORY_LIMIT, "MB")
    added = median(one.added for one in taken[OURS])
    section.claim("2", f"re-import, {corpus}: bytes added", added, _COMMIT_LIMIT, "B")
