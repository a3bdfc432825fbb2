"""The process that makes or mends a plain copy, killed at each of its calls: a copy is whole, or there is none."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.collecting import NOW
from tests.support.killing import killed_anywhere
from tests.support.values import file as entry_of
from tests.support.values import root as make_root
from vcs import plain
from vcs.blobs import put_data
from vcs.check import check
from vcs.collect import collect
from vcs.history import BRANCHES, Author
from vcs.plain import Plain, bytes_path, digest_of_copy, sums_path
from vcs.plainwriter import mend, save_plain
from vcs.store import Store

AUTHOR = Author("A", "a@example.org", 1_700_000_000)
BYTES = random.Random(3).randbytes(50_000)
Work = Callable[[Store, Plain], object]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A store that has the file, and nothing wrong in the end."""
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            top = make_root(batch, {"file": entry_of(put_data(batch, BYTES))})
        commit = store.add_commit(top, {}, "one\n", AUTHOR)
        store.history.move(BRANCHES + "main", commit, None, "one", AUTHOR)
    yield tmp_path / "store"
    with Store.open(tmp_path / "store") as again:
        assert not check(again).problems


def content_of(store: Store) -> Plain:
    entry = store.snapshot(store.commit(store.branches()["main"]).root).lookup(b"file")
    found = entry.content
    assert isinstance(found, Plain)
    return found


def killed(place: Path, work: Work) -> Iterator[tuple[Store, Plain]]:
    """The store after each kill, and after the one that came to its end."""

    def action(arm: Callable[[], None]) -> None:
        with Store.open(place) as store:
            content = content_of(store)
            arm()
            work(store, content)

    for _ in killed_anywhere(action, place.parent / "errors", afresh=place):
        with Store.open(place) as store:
            yield store, content_of(store)


def test_making(place: Path) -> None:
    kills = 0
    for store, content in killed(place, lambda store, content: save_plain(store, store.caches, content)):
        kills += 1
        digest = digest_of_copy(content)
        if plain.is_copied(store.caches, digest, content.size):
            assert bytes_path(store.caches, digest).read_bytes() == BYTES
        assert not check(store).problems
        save_plain(store, store.caches, content)
        assert plain.is_whole(store.caches, digest)
        collect(store, since=NOW)
        assert sorted(path.name for path in store.caches.rglob("*") if path.is_file()) == sorted(
            [sums_path(store.caches, digest).name, bytes_path(store.caches, digest).name]
        )
    assert kills > 5


def test_mending(place: Path) -> None:
    with Store.open(place) as store:
        content = content_of(store)
        save_plain(store, store.caches, content)
        path = bytes_path(store.caches, digest_of_copy(content))
        path.chmod(0o600)
        path.write_bytes(bytes(100) + BYTES[100:20_000] + b"x" * 40_000)
    kills = 0
    for store, content in killed(place, lambda store, content: mend(store, store.caches, digest_of_copy(content))):
        kills += 1
        digest = digest_of_copy(content)
        assert plain.is_copied(store.caches, digest, content.size) or bytes_path(store.caches, digest).exists()
        mend(store, store.caches, digest)
        assert plain.is_whole(store.caches, digest)
        assert bytes_path(store.caches, digest).read_bytes() == BYTES
        assert bytes_path(store.caches, digest).stat().st_mode & 0o777 == 0o400
    assert kills > 10
