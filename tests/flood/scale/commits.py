"""A hundred thousand commits on one branch; every thousandth changes a file that is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pygit2

from tests.flood.place import Place
from tests.flood.scale.measured import AUTHOR, Measured
from tests.flood.verdict import remove_all
from tests.support.collecting import git_fsck
from tests.support.values import root as written
from vcs.history import BRANCHES, Author
from vcs.model import CommitId
from vcs.store import Store

COUNT = 100_000
_BATCH = 1000
"""So many commits are made under one lease, and the branch moves once for them; each has a root of its own."""


def commits(place: Place, part: float) -> Iterator[str]:
    """Made, listed, searched, packed, checked, looked at through the mount, taken back and removed."""
    count = max(1, int(COUNT * part) // _BATCH) * _BATCH
    measured = Measured(place)
    measured.begin(f"{count:,} commits")
    with measured.timed("made through the API, not synced"), Store.open(place.store) as store:
        _make(store, count)
    _asked(measured, count)
    measured.treering("gc", "--dry-run")
    measured.treering("gc")
    _asked(measured, count)
    _moved(measured, count)
    measured.treering("reflog", "main")
    measured.treering("blame", "main:data/seldom")
    measured.treering("grep", "9$", "main")
    measured.treering("du")
    measured.treering("du", "main")
    measured.check()
    measured.through_the_mount("names in commits/", lambda top: _listed(measured, top, count))
    measured.through_the_mount("names in branches/", lambda top: _branches(measured, top, count))
    measured.through_the_mount("at/TIME/main", lambda top: _at(measured, top))
    _forgotten(measured, count)
    measured.treering("gc", "--expire", "now")
    _checked(measured)
    measured.treering("gc", "--repack", "--expire", "now")
    _checked(measured)
    measured.must_be("all commits", len(measured.treering("log", "--oneline", "main").value), count)
    left: list[str] = []
    with measured.timed("everything removed"):
        left += remove_all(place, 600)
    yield from measured.findings
    yield from left


def _moved(measured: Measured, count: int) -> None:
    """A branch far from the tip: made, moved, merged, and each taken back."""
    measured.treering("branch", "early", f"main~{count // 2}")
    measured.treering("branch", "-f", "early", f"main~{count // 2 + 1}")
    measured.treering("undo")
    measured.treering("merge", "main", "--on", "early", label="merge main --on early (moves it)")
    measured.treering("undo")
    measured.treering("redo")
    measured.treering("undo")
    measured.treering("op", "log", "-n", "3")


def _forgotten(measured: Measured, count: int) -> None:
    """Half of all commits, which writes the others again; taken back, done again, and taken back."""
    measured.treering("forget", "--keep-last", "10", "--dry-run", "main")
    measured.treering("forget", "--keep-last", str(count // 2), "main")
    for verb, expected in (("undo", count), ("redo", count // 2), ("undo", count)):
        measured.treering(verb, label=f"{verb} of the forget")
        measured.must_be("commits", len(measured.treering("log", "--oneline", "main").value), expected)


def _checked(measured: Measured) -> None:
    measured.check()
    with Store.open(measured.place.store) as store:
        measured.must_be("what git fsck says", git_fsck(store), "")


def _make(store: Store, count: int) -> None:
    pygit2.settings.enable_fsync_gitdir(False)
    try:
        tip: CommitId | None = None
        for start in range(0, count, _BATCH):
            with store.writing():
                with store.batch() as batch:
                    roots = [
                        written(batch, {"data": {"often": b"%d" % number, "seldom": b"%d" % start}})
                        for number in range(start, start + _BATCH)
                    ]
                before = tip
                for number, root in enumerate(roots, start):
                    author = Author(AUTHOR.name, AUTHOR.email, AUTHOR.time + number)
                    tip = store.add_commit(root, {}, f"number {number}\n", author, (tip,) if tip else ())
                assert tip is not None
                store.history.move(f"{BRANCHES}main", tip, before, "made", AUTHOR, durable=False)
    finally:
        pygit2.settings.enable_fsync_gitdir(True)


def _asked(measured: Measured, count: int) -> None:
    measured.must_be("the newest", len(measured.treering("log", "-n", "10", "main").value), 10)
    measured.must_be("all commits", len(measured.treering("log", "--oneline", "main").value), count)
    found = measured.treering("log", "--oneline", "main", "--", "/data/seldom").value
    measured.must_be("commits that changed a path", len(found), count // _BATCH)
    measured.treering("branch", "tip", "main")
    measured.treering("undo")
    measured.treering("diff", f"main~{count - 1}", "main")
    measured.treering("show", f"main~{count - 1}")


def _listed(measured: Measured, top: Path, count: int) -> None:
    names = os.listdir(top / "commits")
    measured.must_be("names in commits/", len(names), count)
    told = (top / "commits" / names[len(names) // 2] / "data/often").read_text()
    measured.must_be("a commit's file is a number", told.isdigit(), True)


def _branches(measured: Measured, top: Path, count: int) -> None:
    measured.must_be("names in branches/", sorted(os.listdir(top / "branches")), ["early", "main"])
    told = (top / "branches/main/data/often").read_text()
    measured.must_be("the newest commit's file", told, str(count - 1))


def _at(measured: Measured, top: Path) -> None:
    """As the branch was before its reflog begins: by the commits' own times."""
    time = datetime.fromtimestamp(AUTHOR.time + _BATCH // 2, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    measured.must_be("names in at/TIME", sorted(os.listdir(top / "at" / time)), ["early", "main"])
    told = (top / "at" / time / "main/data/often").read_text()
    measured.must_be("a file at a time", told, str(_BATCH // 2))
