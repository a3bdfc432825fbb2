"""Ten thousand branches, each with a commit and an operation of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.flood.place import Place
from tests.flood.scale.measured import AUTHOR, Measured
from tests.flood.verdict import remove_all
from vcs.history import BRANCHES
from vcs.store import Store

COUNT = 10_000


def branches(place: Place, part: float) -> Iterator[str]:
    """Made, listed, followed, taken back, collected, checked, looked at and removed."""
    count = max(10, int(COUNT * part))
    measured = Measured(place)
    measured.begin(f"{count:,} branches")
    measured.treering("import", place.base, "-b", "main", "-m", "base")
    with measured.timed("made through the API"), Store.open(place.store) as store:
        base = store.history.resolve("main")
        root = store.commit(base).root
        for number in range(count):
            with store.writing():
                commit = store.add_commit(root, {}, f"number {number}\n", AUTHOR, (base,))
                store.history.move(f"{BRANCHES}b{number:05}", commit, None, "made", AUTHOR, durable=False)
    listed = measured.treering("branch")
    measured.must_be("branches listed", len(listed.value), count + 1)
    measured.treering("branch", "another", "b00003")
    measured.treering("branch", "-f", "another", "b00004")
    measured.treering("branch", "-m", "another", "renamed")
    measured.treering("undo")
    measured.treering("undo")
    measured.treering("redo")
    measured.treering("branch", "-d", "another")
    measured.treering("log", "-n", "10")
    measured.must_be("commits of all branches", len(measured.treering("log").value), count + 1)
    operations = measured.treering("op", "log", "-n", "3").value
    measured.must_be("operations listed", len(operations), 3)
    measured.treering("import", place.base, "-b", "b00001", "-m", "again", "--allow-empty")
    measured.treering("gc")
    measured.treering("branch", "packed", "main")
    measured.treering("branch", "-d", "packed")
    measured.treering("undo")
    measured.check()
    measured.through_the_mount("names in branches/", lambda top: _listed(measured, top, count))
    everything = measured.treering("op", "log").value
    first = everything[-1]["id"]
    measured.treering("op", "restore", first, label="op restore FIRST, which removes all")
    measured.must_be("branches left", len(measured.treering("branch").value), 1)
    measured.treering("undo", label="undo, which brings all back")
    measured.must_be("branches come back", len(measured.treering("branch").value), count + 2)
    measured.check()
    measured.treering("gc", "--expire", "now")
    measured.check()
    yield from measured.findings
    yield from remove_all(place, 600)


def _listed(measured: Measured, top: Path, count: int) -> None:
    names = os.listdir(top / "branches")
    measured.must_be("names in branches/", len(names), count + 2)
    measured.must_be("a branch's files", (top / "branches" / names[-1] / "etc/passwd").exists(), True)
