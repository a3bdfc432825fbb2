"""The process that makes or mends a plain copy, with an error or a short write at each of its calls: a copy is whole,
or there is none; and what an error has left is no hindrance to the next."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tests.support.alone import alone
from tests.support.collecting import NOW
from tests.torture.calls import DESCRIPTORS, DISK, LOOKS, MEMORY, READS, ROOM, SIZES
from tests.torture.tracer import SHORT, Strike, traced
from tests.vcs.plain.copies import content, on_main
from vcs import plain
from vcs.check import check
from vcs.collect import collect
from vcs.errors import TreeringError
from vcs.plain import Plain, bytes_path, digest_of_copy, sums_path
from vcs.plainwriter import mend, save_plain
from vcs.store import Store

SIZE = 50_000
BYTES = content(SIZE)
STRIKES = {
    "full": Strike(0, errno.ENOSPC, ROOM, on=True),
    "disk": Strike(0, errno.EIO, DISK),
    "descriptors": Strike(0, errno.EMFILE, DESCRIPTORS),
    "memory": Strike(0, errno.ENOMEM, MEMORY),
    "short": Strike(0, SHORT, frozenset(SIZES)),
    "blind": Strike(0, errno.ENOMEM, LOOKS),
    "unread": Strike(0, errno.EIO, READS),
}
Work = Callable[[Store, Plain], bool]


@pytest.fixture
def file(tmp_path: Path) -> Plain:
    """The only file of a store that nobody has open."""
    with Store.create(tmp_path / "store") as store:
        return on_main(store, SIZE)


def strike_everywhere(place: Path, file: Plain, strike: Strike, work: Work) -> None:
    """Do the work with a strike at its first call, then at its second, and look at the store after each."""
    struck = place / "struck"

    def attempt() -> int:
        try:
            with Store.open(struck) as store:
                return 0 if work(store, file) else 3
        except (TreeringError, OSError, MemoryError, sqlite3.Error):
            return 4

    for number in count():
        shutil.copytree(place / "store", struck)
        done = traced(attempt, place, replace(strike, number=number))
        try:
            look(struck, file, done.code)
        except AssertionError as error:
            raise AssertionError(f"{number}, {done.at}, which ended with {done.code}: {error} {done.err}") from error
        shutil.rmtree(struck)
        if not done.at:
            assert number, "there is nothing to strike at"
            assert done.code == 0, done.err
            return


def look(path: Path, file: Plain, code: int) -> None:
    """Raises unless a success has made a whole copy, and all is well after another attempt, whatever went wrong."""
    digest = digest_of_copy(file)
    assert code in (0, 3, 4)
    with Store.open(path) as store:
        caches = store.caches
        if code == 0:
            assert plain.is_whole(caches, digest)
        if plain.is_copied(caches, digest, file.size) and not plain.is_whole(caches, digest):
            assert mend(store, caches, digest)
        save_plain(store, caches, file)
        assert plain.is_whole(caches, digest)
        assert bytes_path(caches, digest).read_bytes() == BYTES
        assert bytes_path(caches, digest).stat().st_mode & 0o777 == 0o400
        collect(store, since=NOW)
        left = sorted(each for each in caches.rglob("*") if each.is_file())
        assert left == sorted([sums_path(caches, digest), bytes_path(caches, digest)])
        assert not check(store, read_data=True).problems


@pytest.mark.parametrize("strike", STRIKES)
def test_making(tmp_path: Path, file: Plain, strike: str) -> None:
    def make(store: Store, file: Plain) -> bool:
        return save_plain(store, store.caches, file)

    alone(lambda: strike_everywhere(tmp_path, file, STRIKES[strike], make), tmp_path / "wrong")


@pytest.mark.parametrize("strike", STRIKES)
def test_mending(tmp_path: Path, file: Plain, strike: str) -> None:
    with Store.open(tmp_path / "store") as store:
        save_plain(store, store.caches, file)
        path = bytes_path(store.caches, digest_of_copy(file))
        path.chmod(0o600)
        path.write_bytes(bytes(100) + BYTES[100:20_000] + b"x" * 40_000)

    def mended(store: Store, file: Plain) -> bool:
        return mend(store, store.caches, digest_of_copy(file))

    alone(lambda: strike_everywhere(tmp_path, file, STRIKES[strike], mended), tmp_path / "wrong")
