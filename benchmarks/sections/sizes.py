"""What a repository takes after an import, and after what its tool can do to make it smaller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Run, Size, count, settle
from benchmarks.peers.peer import Peer
from benchmarks.report import Section, least
from benchmarks.setting import BEST, OURS, RIVALS, Setting, best, everybody


@dataclass(frozen=True, slots=True)
class _Stored:
    size: Size
    saved: Run
    packed: Size | None
    packing: Run | None


def sizes(setting: Setting) -> list[Section]:
    """A table for each corpus. One round: sizes do not depend on what else a machine does."""
    return [_of(setting, name, source) for name, source in setting.corpora().items()]


def _of(setting: Setting, corpus: str, source: Path) -> Section:
    section = Section(f"Sizes: {corpus}")
    entries, size = count(source)
    section.note(
        f"{entries:,} entries, {size / 1e6:,.0f} MB. Bytes in the repository's files, and what `du` counts; "
        "once more after `treering gc --repack` and `git repack`."
    )
    peers = setting.there(section, [*everybody(), *best()])

    def keep(peer: Peer, _: int) -> _Stored:
        place = setting.repository(peer, f"size-{corpus}".replace(" ", "-"))
        settle(source)
        saved = peer.save(place, source, "first")
        before = peer.size(place)
        packing = peer.repack(place)
        return _Stored(before, saved, peer.size(place) if packing else None, packing)

    stored = {name: one[0] for name, one in setting.trials(section, peers, 1, keep).items()}
    setting.tidy(now=True)
    for name, one in stored.items():
        section.put(name, "bytes", one.size.apparent, "B")
        section.put(name, "on disk", one.size.allocated, "B")
        section.put(name, "to it", one.size.allocated / size if size else 0, "×")
        section.put(name, "CPU", one.saved.cpu_seconds, "s")
        if one.packed and one.packing:
            section.put(name, "repacked", one.packed.apparent, "B")
            section.put(name, "repacked, on disk", one.packed.allocated, "B")
            section.put(name, "repacking, CPU", one.packing.cpu_seconds, "s")
            section.put(name, "repacking, memory", one.packing.peak_bytes, "MB")
    if OURS in stored:
        claim_sizes(section, f"{corpus}: size", {name: one.size for name, one in stored.items()}, stored[OURS].packed)
    return section


def claim_sizes(
    section: Section, what: str, sizes: dict[str, Size], packed: Size | None, first: float = 1.05, then: float = 1.0
) -> None:
    """Ours to the rivals', at the defaults and at the best compression."""
    allocated = {name: float(size.allocated) for name, size in sizes.items()}
    if theirs := least(allocated, RIVALS):
        section.claim("3", f"{what} to the smaller of restic and borg", allocated[OURS] / theirs, first)
    smallest = least(allocated, BEST)
    if smallest and packed:
        section.claim(
            "3", f"{what}, repacked, to the smaller of restic max and borg zstd,10", packed.allocated / smallest, then
        )
