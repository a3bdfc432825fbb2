"""What a history answers, through the Python API: which commits changed a path, who wrote what, where a word stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from msgspec import structs

from benchmarks.measure import in_turns, median
from benchmarks.peers.treering import treering
from benchmarks.report import Section
from benchmarks.setting import Setting
from vcs.blame import blame, blame_lines
from vcs.blobs import put_data
from vcs.commitlog import Wanted, content_of, lineage, log
from vcs.gitwords import BRANCHES
from vcs.grep import Pattern, Search
from vcs.history import Author
from vcs.importer import import_directory
from vcs.model import CommitId, Entry, Tree
from vcs.store import Store
from vcs.tree_edit import edit_tree
from vcs.trees import Directory, Sink, write_root

_COMMITS, _FEW, _QUICK = 10_000, 1_000, 200
_PAGE = 50
_SELDOM = 50
"""Commits of which one changes the text whose lines are asked for; all of them change another file."""
_OFTEN_PATH, _SELDOM_PATH = b"var/log/steps", b"etc/steps.conf"
_LIMITS = {"log, first page": 50.0, "log of a path": 1000.0, "blame of a file, 1,000 commits": 200.0}
"""Milliseconds."""
_ME = Author("Benchmark", "benchmark@localhost", 1_700_000_000)


def questions(setting: Setting) -> list[Section]:
    """One table: as the commits were made, each with a layer of its own, and after gc."""
    count = _QUICK if setting.quick else _COMMITS
    place = setting.place("questions")
    section = Section(f"Questions to a history of {count:,} commits (API)", "question")
    tips = _fill(place, setting.debian(), count)
    for column in ("as committed", "after gc"):
        if column == "after gc":
            treering(place, "gc", "--expire", "now")
        found = in_turns(setting.rounds, {what: _timed(place, ask) for what, ask in _asked(*tips).items()})
        for what, seconds in found.items():
            milliseconds = median(seconds) * 1e3
            section.put(what, column, milliseconds, "ms")
            if what in _LIMITS:
                section.claim("14", f"{what}, {column}", milliseconds, _LIMITS[what], "ms")
    section.note(
        f"Each commit changes a file below /var/log, one of {_SELDOM} a file in /etc too. The store is opened anew for "
        "each question, with nothing in memory but what the kernel has of its files."
    )
    return [section]


def _asked(tip: CommitId, early: CommitId) -> dict[str, Callable[[Store], object]]:
    """The questions; `early` is the thousandth commit."""

    def of(*paths: bytes, content: bytes | None = None) -> Callable[[Store], object]:
        return lambda store: list(log(store, [tip], (), Wanted(paths, content=content)))

    def came_and_went(store: Store) -> object:
        return of(content=content_of(store.snapshot_of(early).lookup(_SELDOM_PATH)))(store)

    return {
        "log, first page": lambda store: list(islice(log(store, [tip]), _PAGE)),
        "log, all": lambda store: list(log(store, [tip])),
        "log --graph, all": lambda store: lineage(store, [tip]),
        "log of a path": of(_SELDOM_PATH),
        "log of a path that never changed": of(b"usr/bin"),
        "log of a path that always changed": of(_OFTEN_PATH),
        "log -S": came_and_went,
        "blame of a file, 1,000 commits": lambda store: blame(store, early, b"etc/passwd"),
        "blame of a directory, 1,000 commits": lambda store: blame(store, early, b"etc"),
        "blame of lines, 1,000 commits": lambda store: blame_lines(store, early, _SELDOM_PATH),
        "grep of the whole root": lambda store: list(Search(Pattern.of(b"localhost")).below(store.snapshot_of(tip))),
    }


def _timed(place: Path, ask: Callable[[Store], object]) -> Callable[[int], float]:
    def once(_: int) -> float:
        with Store.open(place) as store:
            assert store.history.target(BRANCHES + "main")  # the history is opened when it is first used
            started = time.perf_counter()
            ask(store)
            return time.perf_counter() - started

    return once


def _fill(place: Path, source: Path, count: int) -> tuple[CommitId, CommitId]:
    """Make the store; returns the newest commit, and the thousandth."""
    made: list[CommitId] = []
    text = b""
    with Store.create(place) as store, store.writing():
        with store.batch() as batch:
            root = import_directory(batch, source).root
        for number in range(count):
            changed = {_OFTEN_PATH: b"%d\n" % number}
            if not number % _SELDOM:
                text += b"step %d\n" % number
                changed[_SELDOM_PATH] = text
            top = store.snapshot(root).root
            with store.batch() as batch:
                root = write_root(batch, _edited(store, batch, top, changed))
            author = replace(_ME, time=_ME.time + number)
            made.append(store.add_commit(root, {"config": {}}, f"step {number}\n", author, tuple(made[-1:])))
        store.history.move(BRANCHES + "main", made[-1], None, "benchmark", _ME)
    return made[-1], made[min(count, _FEW) - 1]


def _edited(store: Store, sink: Sink, entry: Entry, files: Mapping[bytes, bytes]) -> Entry:
    """A directory with other contents of the files at some paths."""
    assert isinstance(entry.content, Tree)
    directory = Directory(store, entry.content.tree)
    below: dict[bytes, dict[bytes, bytes]] = {}
    edits: dict[bytes, Entry | None] = {}
    for path, data in files.items():
        name, slash, rest = path.partition(b"/")
        if slash:
            below.setdefault(name, {})[rest] = data
        else:
            edits[name] = Entry(name, 0o100644, 0, 0, 0, put_data(sink, data))
    for name, deeper in below.items():
        child = directory.lookup(name)
        assert child is not None
        edits[name] = _edited(store, sink, child, deeper)
    return structs.replace(entry, content=edit_tree(sink, directory, entry.content, edits))
