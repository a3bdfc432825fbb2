"""A tree changes a little: keeping that, diff, branch, and having the older state back."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.corpora.big import NAME, PAGE, Pages
from benchmarks.corpora.history import copy
from benchmarks.measure import Run, median, settle
from benchmarks.peers.peer import Peer
from benchmarks.report import Section, least
from benchmarks.setting import BIG, DEBIAN, OURS, SMALL, Setting, with_containers

_FEW, _MANY = 10, 3_000
_OURS_IN_A_CONTAINER = "treering, container"
Edit = Callable[[Path, int], None]


def changes(setting: Setting) -> list[Section]:
    """Two tables: on a root filesystem, and on the file of 1 GiB."""
    return [_on_a_root(setting), _one_page(setting)]


def _on_a_root(setting: Setting) -> Section:
    corpus = DEBIAN if DEBIAN in setting.corpora() else SMALL
    section = Section(f"Changes: {corpus}")
    section.note(
        f"{setting.rounds} rounds, medians. Most tools search the directory for what changed; those with containers "
        "(podman, treering's second line) take what a container wrote. Diff is between two states ten files apart. "
        "Rollback is in place for containers and btrfs; the others write the older state into a new directory."
    )
    scene = _Scene(setting, section, setting.corpus(corpus), "root")
    files = _files(scene.live)
    few, many = _chosen(files, _FEW), _chosen(files, _MANY)
    scene.change("ten files", "ten", lambda top, number: _rewrite(top, few, number))
    scene.change("3,000 files", "many", lambda top, number: _rewrite(top, many, number))
    scene.ask("diff", lambda peer, place, number: peer.diff(place, "base", "ten-0"))
    scene.ask("branch", lambda peer, place, number: peer.branch(place, "ten-0", f"branch-{number}"))
    scene.ask("rollback", lambda peer, place, number: peer.rollback(place, "ten-0", scene.target(peer, number)))
    scene.close()
    return section


def _one_page(setting: Setting) -> Section:
    section = Section(f"One page of the {BIG}")
    section.note(f"{PAGE // 1024} KiB at a random place are written anew; {setting.rounds} rounds, medians.")
    scene = _Scene(setting, section, setting.corpus(BIG), "big")
    chance = random.Random(11)
    count = (scene.live / NAME).stat().st_size // PAGE
    pages = Pages(11)
    new = [(chance.randrange(count) * PAGE, pages.next()) for _ in range(setting.rounds)]

    def write(top: Path, number: int) -> None:
        with open(top / NAME, "r+b") as file:
            file.seek(new[number][0])
            file.write(new[number][1])

    times, added = scene.change("one page", "page", write)
    if OURS in times:
        section.claim("4", "one page of 1 GiB: bytes added", added[OURS], 1e6, "B")
        if theirs := least(times, ("borg",)):
            section.claim("4", "one page of 1 GiB, import: time to borg's", times[OURS] / theirs, 0.5)
    if _OURS_IN_A_CONTAINER in times:
        section.claim("4", "one page of 1 GiB, of a container: bytes added", added[_OURS_IN_A_CONTAINER], 1e6, "B")
        if theirs := least(times, ("borg",)):
            ratio = times[_OURS_IN_A_CONTAINER] / theirs
            section.claim("4", "one page of 1 GiB, commit of a container: time to borg's", ratio, 0.5)
    scene.close()
    return section


class _Scene:
    """A tree that changes, and the peers that follow it."""

    def __init__(self, setting: Setting, section: Section, source: Path, name: str) -> None:
        self._setting = setting
        self._section = section
        self._name = name
        self._places: dict[str, Path] = {}
        self.live = setting.place(f"live-{name}")
        copy(source, self.live)
        self._peers = setting.there(section, with_containers())
        self._label = "base"
        setting.trials(section, self._peers, 1, self._first)

    def _first(self, peer: Peer, _: int) -> Run:
        place = self._setting.repository(peer, self._name)
        self._places[peer.name] = place
        settle(self.live)
        return peer.save(place, self.live, "base")

    def change(self, title: str, label: str, edit: Edit) -> tuple[dict[str, float], dict[str, float]]:
        """Change the tree, let everybody keep it, round by round. Medians: seconds, and bytes that it added."""
        times: dict[str, list[float]] = {}
        added: dict[str, list[float]] = {}
        for number in range(self._setting.rounds):
            sizes = {peer.name: peer.size(self._places[peer.name]).allocated for peer in self._peers}
            edit(self.live, number)
            new = f"{label}-{number}"
            for peer in self._peers:
                if peer.in_a_container:
                    with peer.opened(self._places[peer.name], self.live, self._label) as top:
                        edit(top, number)
            first = number % max(1, len(self._peers))  # the order turns from round to round
            self._peers = self._peers[first:] + self._peers[:first]
            for name, done in self._saved(new).items():
                times.setdefault(name, []).append(done.seconds)
            for peer in self._peers:
                grown = peer.size(self._places[peer.name]).allocated - sizes[peer.name]
                added.setdefault(peer.name, []).append(grown)
            self._label = new
        seconds = {name: median(times[name]) for name in self._in_order(added)}
        growth = {name: median(added[name]) for name in seconds}
        for name, value in seconds.items():
            self._section.put(name, title, value * 1e3, "ms")
            self._section.put(name, f"{title}: added", growth[name], "B")
        return seconds, growth

    def _saved(self, label: str) -> dict[str, Run]:
        def save(peer: Peer, _: int) -> Run:
            settle(self.live)
            return peer.save(self._places[peer.name], self.live, label)

        return {name: runs[0] for name, runs in self._setting.trials(self._section, self._peers, 1, save).items()}

    def ask(self, title: str, work: Callable[[Peer, Path, int], Run | None]) -> None:
        """Something that leaves the tree as it is, of those that can do it."""

        def asked(peer: Peer, number: int) -> float | None:
            settle()
            done = work(peer, self._places[peer.name], number)
            return done.seconds if done else None

        found = self._setting.trials(self._section, list(self._peers), self._setting.rounds, asked)
        for name in self._in_order(found):
            if found[name]:
                self._section.put(name, title, median(found[name]) * 1e3, "ms")

    def target(self, peer: Peer, number: int) -> Path:
        """Where a peer may write a tree. They go when the run is over."""
        return self._setting.place(f"{self._places[peer.name].name}-back-{number}")

    def close(self) -> None:
        self._setting.tidy()
        shutil.rmtree(self.live) if self._name == "big" else None

    def _in_order(self, names: dict[str, list[float]]) -> list[str]:
        return [peer.name for peer in with_containers() if peer.name in names]


def _files(top: Path) -> list[bytes]:
    """Paths of regular files with something in them and one name, sorted."""
    found = []
    for directory, _, names in os.walk(os.fsencode(top)):
        for name in names:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            if os.path.isfile(path) and not os.path.islink(path) and status.st_size and status.st_nlink == 1:
                found.append(os.path.relpath(path, os.fsencode(top)))
    return sorted(found)


def _chosen(files: list[bytes], count: int) -> list[bytes]:
    return random.Random(count).sample(files, min(count, len(files)))


def _rewrite(top: Path, files: list[bytes], number: int) -> None:
    for file in files:
        with open(os.path.join(os.fsencode(top), file), "wb") as out:
            out.write((b"round %d " % number + file + b"\n") * 20)
