"""Plain copies: every range comes back, verified; what is damaged, foreign, stale or too much is not used."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.collecting import NOW
from tests.support.values import file as entry_of
from tests.support.values import root as make_root
from vcs import plain
from vcs.blobs import BlobWriter
from vcs.check import check
from vcs.collect import collect
from vcs.errors import Missing
from vcs.history import BRANCHES, Author
from vcs.model import Chunked
from vcs.plain import PAGE, allowed, open_plain, plain_path, save_plain
from vcs.store import Store
from vcs.testing import MemoryStore

AUTHOR = Author("A", "a@example.org", 1_700_000_000)
PIECES = st.lists(st.tuples(st.booleans(), st.integers(1, 1 << 20)), min_size=1, max_size=4)
"""Bytes, and holes of so many bytes."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as opened:
        yield opened
    with Store.open(tmp_path / "store") as again:
        assert [problem for problem in check(again).problems if problem.kind != "cache"] == []


def chunked(sink: object, pieces: list[bytes | int]) -> Chunked:
    """A file of these bytes and holes."""
    writer = BlobWriter(sink)  # type: ignore[arg-type]
    for piece in pieces:
        if isinstance(piece, int):
            writer.hole(piece)
        else:
            writer.feed(piece)
    made = writer.finish()
    assert isinstance(made, Chunked)
    return made


@pytest.fixture
def file(store: Store) -> Chunked:
    """A file that `main` has. Its last page is not full."""
    with store.batch() as batch:
        made = chunked(batch, [content(1_234_567)])
        top = make_root(batch, {"large": entry_of(made)})
    commit = store.add_commit(top, {}, "one\n", AUTHOR)
    store.history.move(BRANCHES + "main", commit, None, "one", AUTHOR)
    return made


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def saved(store: Store, file: Chunked) -> Path:
    assert save_plain(store, store.caches, file.list, file.size)
    return plain_path(store.caches, file.list)


@given(pieces=PIECES, chance=st.randoms(use_true_random=False))
def test_every_range_comes_back(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bool, int]], chance: random.Random
) -> None:
    caches, store = tmp_path_factory.mktemp("caches"), MemoryStore()
    data = [size if is_hole else content(size) for is_hole, size in pieces]
    made = chunked(store, [*data, content(600_000)])
    whole = b"".join(bytes(piece) if isinstance(piece, int) else piece for piece in data) + content(600_000)
    assert save_plain(store, caches, made.list, made.size)
    copy = open_plain(plain_path(caches, made.list), made.size)
    assert copy is not None
    assert copy.size == len(whole)
    assert copy.read(0, len(whole)) == memoryview(whole)
    for _ in range(20):
        offset, size = chance.randrange(len(whole) + PAGE), chance.randrange(3 * PAGE)
        assert copy.read(offset, size) == memoryview(whole[offset : offset + size])
    copy.close()
    copy.close()


def test_holes_take_no_room(tmp_path: Path) -> None:
    store = MemoryStore()
    made = chunked(store, [b"a", 200 << 20, content(600_000)])
    save_plain(store, tmp_path, made.list, made.size)
    assert plain_path(tmp_path, made.list).stat().st_blocks * 512 < 4 << 20


@pytest.mark.parametrize("place", [PAGE, 3 * PAGE - 1, -1])
def test_a_page_that_is_not_what_it_was_is_not_given(store: Store, file: Chunked, place: int) -> None:
    """In a page, or in its sum; the others are given."""
    path = saved(store, file)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    number = (place if place >= 0 else PAGE + file.size) // PAGE - 1
    copy = open_plain(path, file.size)
    assert copy is not None
    assert copy.read(number * PAGE + 5, 10) is None
    assert copy.read((number - 1 if number else 1) * PAGE, PAGE) is not None
    assert copy.read(0, file.size) is None
    copy.close()


@pytest.mark.parametrize("size", [0, 50, 97, 110, PAGE, -1, -8, -PAGE])
def test_what_is_cut_off_is_no_copy(store: Store, file: Chunked, size: int) -> None:
    path = saved(store, file)
    path.write_bytes(path.read_bytes()[:size])
    assert open_plain(path, file.size) is None


def test_what_is_something_else_is_no_copy(store: Store, file: Chunked) -> None:
    path = plain_path(store.caches, file.list)
    assert open_plain(path, file.size) is None
    path.write_bytes(os.urandom(50_000))
    assert open_plain(path, file.size) is None
    path.unlink()
    path.mkdir()
    assert open_plain(path, file.size) is None
    path.rmdir()
    os.mkfifo(path)
    assert open_plain(path, file.size) is None
    path.unlink()


def test_nobody_makes_what_is_there_or_being_made(store: Store, file: Chunked) -> None:
    aside = store.caches / f"plain-{file.list.hex()}.new"
    with aside.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not save_plain(store, store.caches, file.list, file.size)
        collect(store, since=NOW)
        assert aside.exists()
    path = saved(store, file)  # what the dead one has left is taken over
    before = path.stat().st_ino
    assert not save_plain(store, store.caches, file.list, file.size)
    assert path.stat().st_ino == before
    assert [one.name for one in store.caches.glob("plain-*")] == [path.name]


def test_those_used_longest_ago_make_room(store: Store, file: Chunked) -> None:
    size = saved(store, file).stat().st_size
    others = []
    for age in range(3):
        with store.batch() as batch:
            others.append(chunked(batch, [content(1_000_000 + age)]))
        os.utime(saved(store, others[-1]), (1_000_000_000 - age, 1_000_000_000 - age))
    plain_path(store.caches, file.list).unlink()
    assert save_plain(store, store.caches, file.list, file.size, size + 1_100_000)
    there = [one for one in (*others, file) if plain_path(store.caches, one.list).exists()]
    assert there == [others[0], file]


def test_what_is_too_large_is_not_copied(store: Store, file: Chunked, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not save_plain(store, store.caches, file.list, file.size, file.size)
    assert not save_plain(store, store.caches, file.list, file.size, 0)
    monkeypatch.setattr(plain, "LEFT_FREE", 1.0)
    assert not save_plain(store, store.caches, file.list, file.size)
    assert list(store.caches.glob("plain-*")) == []


def test_what_cannot_be_read_leaves_nothing(store: Store, file: Chunked) -> None:
    with pytest.raises(Missing):
        save_plain(store, store.caches, bytes(32), file.size)
    assert list(store.caches.glob("plain-*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a small disk is mounted")
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "LEFT_FREE", -100.0)
    store, disk = MemoryStore(), tmp_path / "disk"
    made = chunked(store, [content(2 << 20)])
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "treering-test", str(disk)], check=True)
    try:
        with pytest.raises(OSError, match="No space"):
            save_plain(store, disk, made.list, made.size)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_gc_takes_the_copies_of_files_that_go(store: Store, file: Chunked) -> None:
    path = saved(store, file)
    with store.batch() as batch:
        gone = chunked(batch, [content(700_000)])
    saved(store, gone)
    (store.caches / f"plain-{gone.list.hex()}.new").write_bytes(b"0" * 64 + b"\n" + bytes(1000))
    collect(store, since=NOW)
    assert [one.name for one in store.caches.iterdir()] == [path.name]
    assert not check(store).problems


@pytest.mark.parametrize("place", [3, 70, 100, 2 * PAGE, -3])
def test_fsck_tells_of_a_damaged_copy(store: Store, file: Chunked, place: int) -> None:
    path = saved(store, file)
    assert not check(store).problems
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    report = check(store)
    assert [problem.kind for problem in report.problems] == ["cache"]
    assert report.caches == {path}


def test_the_process_makes_a_copy_as_far_as_the_setting_allows(store: Store, file: Chunked) -> None:
    path = plain_path(store.caches, file.list)
    set_room(store, "1m")
    assert plain.begin(store.path, file.list, file.size).wait() == 0
    assert not path.exists()
    set_room(store, "2m")
    assert plain.begin(store.path, file.list, file.size).wait() == 0
    copy = open_plain(path, file.size)
    assert copy is not None
    assert copy.read(0, file.size) == memoryview(content(file.size))
    copy.close()
    assert not check(store).problems


def set_room(store: Store, size: str) -> None:
    history = store.path / "history.git"
    subprocess.run(["git", "-C", str(history), "config", plain.SETTING, size], check=True)


def test_settings() -> None:
    assert [allowed(text) for text in ("0", "1", "3k", "2M", "1g", "", "-1", "1.5g", "off")] == [
        0, 1, 3 << 10, 2 << 20, 1 << 30, 0, 0, 0, 0,
    ]  # fmt: skip
