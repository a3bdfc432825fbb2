"""The index, used by a process with an error at each of its reads or looks: it stays, its seal is right, or there is
none, and who asks it gets an error of ours.

To make it anew would be no loss, but others may have it open: what they do to its log, by name, they do to the new
one's.
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tests.support.alone import alone
from tests.torture.calls import LOOKS, READS
from tests.torture.tracer import Strike, traced
from vcs.check import check
from vcs.errors import TreeringError
from vcs.store import Store

STRIKES = {"unread": Strike(0, errno.EIO, READS), "blind": Strike(0, errno.ENOMEM, LOOKS)}


@pytest.mark.parametrize("strike", STRIKES)
def test_calls_that_fail(tmp_path: Path, strike: str) -> None:
    alone(lambda: strike_everywhere(tmp_path, STRIKES[strike]), tmp_path / "wrong")


def strike_everywhere(place: Path, strike: Strike) -> None:
    """Read from a store, write to it and close it with a strike at the first call, then at the second, and check it
    after each."""
    with Store.create(place / "store") as store, store.batch() as batch:
        first = batch.put_chunk(b"first")
    struck = place / "struck"

    def attempt() -> int:
        try:
            with Store.open(struck) as store:
                assert store.get(first) == b"first"
                with store.batch() as batch:
                    for number in range(300):
                        batch.put_chunk(b"chunk %d" % number)
                assert store.get(first) == b"first"
        except (TreeringError, OSError, MemoryError):
            return 4
        return 0

    for number in count():
        shutil.copytree(place / "store", struck)
        (held := place / "held").hardlink_to(struck / "index.db")
        done = traced(attempt, place, replace(strike, number=number))
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
