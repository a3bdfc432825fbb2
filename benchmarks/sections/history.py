"""Fifty commits of a root in which packages come, change and go: what the repositories grow to."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.corpora.history import copy, play
from benchmarks.measure import Run, Size, count, median, settle
from benchmarks.peers.backup import Borg, Restic
from benchmarks.peers.peer import Peer
from benchmarks.peers.treering import Treering
from benchmarks.peers.versions import Git, Ostree
from benchmarks.report import Section
from benchmarks.sections.sizes import claim_sizes
from benchmarks.setting import OURS, Setting, best

_FIRST_LIMIT, _PACKED_LIMIT = 1.0, 0.8
"""Of the rivals: as it was written, and when all have done what they can."""


def history(setting: Setting) -> list[Section]:
    """One tree takes the steps; after each, every tool keeps the same bytes."""
    section = Section("History of a Debian root")
    source, steps = setting.history()
    peers = setting.there(section, [Treering(), Restic(), Borg(), *best(), Ostree(), Git()])
    live = setting.place("live-history")
    copy(source / "base", live)
    places: dict[str, Path] = {}
    runs: dict[str, list[Run]] = {}
    sizes: dict[str, list[Size]] = {}

    def first(peer: Peer, _: int) -> Run:
        places[peer.name] = setting.repository(peer, "history")
        return keep(peer, "step-0")

    def keep(peer: Peer, label: str) -> Run:
        settle(live)
        done = peer.save(places[peer.name], live, label)
        sizes.setdefault(peer.name, []).append(peer.size(places[peer.name]))
        return done

    setting.trials(section, peers, 1, first)
    shutil.rmtree(live)
    for number, _ in enumerate(play(source, live, steps), 1):
        turned = peers[number % len(peers) :] + peers[: number % len(peers)]
        found = setting.trials(section, turned, 1, lambda peer, _, n=number: keep(peer, f"step-{n}"))  # type: ignore[misc]
        peers = [peer for peer in peers if peer in turned]
        for name, one in found.items():
            runs.setdefault(name, []).append(one[0])
    entries, size = count(live)
    section.note(
        f"{steps} steps of apt: install, upgrade, purge, up to the next Debian release; the last tree has {entries:,} "
        f"entries and {size / 1e6:,.0f} MB. Seconds are the median of the {steps} commits, sizes what `du` counts."
    )
    packed = _repacked(setting, section, peers, places)
    for peer in peers:
        mine = sizes[peer.name]
        section.put(peer.name, "first", mine[0].allocated, "B")
        section.put(peer.name, "after all", mine[-1].allocated, "B")
        if peer.name in packed:
            section.put(peer.name, "repacked", packed[peer.name].allocated, "B")
        section.put(peer.name, "a commit", median(run.seconds for run in runs[peer.name]), "s")
        section.put(peer.name, "CPU of all", sum(run.cpu_seconds for run in runs[peer.name]), "s")
        section.put(peer.name, "memory", max(run.peak_bytes for run in runs[peer.name]), "MB")
        section.series[peer.name] = [float(one.allocated) for one in mine]
    if any(peer.name == OURS for peer in peers):
        last = {peer.name: sizes[peer.name][-1] for peer in peers}
        claim_sizes(section, "size of the history", last, packed.get(OURS), _FIRST_LIMIT, _PACKED_LIMIT)
    setting.tidy(now=True)
    return [section]


def _repacked(setting: Setting, section: Section, peers: list[Peer], places: dict[str, Path]) -> dict[str, Size]:
    def pack(peer: Peer, _: int) -> Size | None:
        return peer.size(places[peer.name]) if peer.repack(places[peer.name]) else None

    found = setting.trials(section, list(peers), 1, pack)
    return {name: one[0] for name, one in found.items() if one}
