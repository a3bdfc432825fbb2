"""A check while others commit and collect garbage: it finds nothing, and is in nobody's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.values import root
from vcs.check import Report, examine
from vcs.collect import collect
from vcs.history import Author
from vcs.store import Store

MAIN = "refs/heads/main"
REPOSITORY = Path(__file__).parents[2]
CHECKS, COMMITS = 12, 40


def write(path: Path, number: int) -> None:
    """Commit, and now and then collect garbage; commits that are on no branch any more are some of it."""
    author = Author("tester", "tester@localhost", 1_700_000_000 + number)
    with Store.open(path) as store:
        with store.writing():
            with store.batch() as batch:
                made = root(batch, {"d": {f"{name}": b"%d" % (name + number) * 500 for name in range(30)}})
            before = store.history.target(MAIN)
            commit = store.add_commit(made, {}, f"{number}\n", author, (before,) if before and number % 5 else ())
            store.history.move(MAIN, commit, before, "test", author)
        if number % 4 == 3:
            collect(store, since=float("inf"))


def test_a_check_beside_writers_finds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    Store.create(path).close()
    write(path, 0)
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from tests.system.test_check_beside_writers import *\n"
        "for number in range(1, COMMITS): write(Path(sys.argv[1]), number)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    found: list[Report] = []
    while writer.poll() is None or len(found) < CHECKS:
        found.append(examine(path))
    assert writer.returncode == 0
    assert [report.problems for report in found] == [[]] * len(found)
    assert found[-1].commits == COMMITS % 5 or found[-1].commits == 5
