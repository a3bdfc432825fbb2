"""The index, used by a process with an error at each of its reads: it stays, and its seal is right, or there is none.

To make it anew would be no loss, but others may have it open: what they do to its log, by name, they do to the new
one's.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
from dataclasses import replace
from itertools import count
from pathlib import Path

from tests.support.alone import alone
from tests.torture.calls import READS
from tests.torture.tracer import Strike, traced
from vcs.check import check
from vcs.errors import TreeringError
from vcs.store import Store

STRIKE = Strike(0, errno.EIO, READS)


def test_reads_that_fail(tmp_path: Path) -> None:
    alone(lambda: strike_everywhere(tmp_path), tmp_path / "wrong")


def strike_everywhere(place: Path) -> None:
    """Write to a store and close it with a strike at the first read, then at the second, and check it after each."""
    with Store.create(place / "store") as store, store.batch() as batch:
        batch.put_chunk(b"first")
    struck = place / "struck"

    def attempt() -> int:
        try:
            with Store.open(struck) as store, store.batch() as batch:
                for number in range(300):
                    batch.put_chunk(b"chunk %d" % number)
        except (TreeringError, OSError, MemoryError, sqlite3.Error):
            return 4
        return 0

    for number in count():
        shutil.copytree(place / "store", struck)
        (held := place / "held").hardlink_to(struck / "index.db")
        done = traced(attempt, place, replace(STRIKE, number=number))
        assert done.code in (0, 4), (number, done.at, done.err)
        assert held.samefile(struck / "index.db"), (number, done.at, done.code)
        held.unlink()
        with Store.open(struck) as store:
            assert check(store, read_data=True).problems == [], (number, done.at, done.code)
        shutil.rmtree(struck)
        if not done.at:
            assert number > 10, "what there is to strike at"
            assert done.code == 0, done.err
            return
