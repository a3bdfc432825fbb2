"""HEAD's reflog, which git's library writes when it moves HEAD's branch: a right line or none, whatever it fails at."""

from __future__ import annotations

import errno
import shutil
from itertools import count
from pathlib import Path

import pytest

from tests.support.alone import alone
from tests.support.values import root
from tests.torture.calls import DESCRIPTORS, LOOKS, ROOM
from tests.torture.tracer import Strike, traced
from vcs.history import Author
from vcs.model import CommitId
from vcs.reflogs import is_damaged, lines_of
from vcs.store import Store

ANA = Author("Ana", "ana@example.org", 1_700_000_000)
MAIN = "refs/heads/main"


@pytest.fixture
def commits(tmp_path: Path) -> tuple[CommitId, CommitId]:
    """A store whose main is at the first of them, and has the other too."""
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            made = root(batch, {"a": b"a"})
        first = store.add_commit(made, {}, "one\n", ANA)
        second = store.add_commit(made, {}, "two\n", ANA, (first,))
        store.history.move(MAIN, first, None, "one", ANA)
    return first, second


def sweep(place: Path, commits: tuple[CommitId, CommitId], strike: Strike) -> None:
    """Have the move fail at each of its calls, one after another; raises if a line is not right."""
    first, second = commits

    def move() -> int:
        with Store.open(place / "struck") as store:
            store.history.move(MAIN, second, first, "two", ANA)
        return 0

    for number in count():
        shutil.copytree(place / "store", place / "struck")
        done = traced(move, place, Strike(number, strike.errno, strike.calls))
        logs = [lines_of(place / "struck/history.git/logs" / ref) for ref in ("HEAD", MAIN)]
        with Store.open(place / "struck") as store:
            found = store.history.target(MAIN)
        for line in logs[0]:
            assert line[-10:-8] == b" #", f"{number}, {done.at}: {line!r}"
            assert not is_damaged(line), f"{number}, {done.at}: {line!r}"
        assert done.code or (found == second and logs[0] == logs[1]), f"{number}, {done.at}: {logs}"
        assert found == first or second.encode() in logs[1][-1], f"{number}, {done.at}: {logs}"
        shutil.rmtree(place / "struck")
        if not done.at:
            return


@pytest.mark.parametrize(
    "strike",
    [Strike(0, errno.EMFILE, DESCRIPTORS), Strike(0, errno.ENOSPC, ROOM), Strike(0, errno.ENOMEM, LOOKS)],
    ids=["no descriptor", "full", "blind"],
)
def test_heads_reflog_has_a_right_line_or_none(
    tmp_path: Path, commits: tuple[CommitId, CommitId], strike: Strike
) -> None:
    alone(lambda: sweep(tmp_path, commits, strike), tmp_path / "wrong")
