"""Making plain copies: whole or not at all, by one process at a time, and within the room that there is."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.collecting import NOW
from tests.support.values import file as entry_of
from tests.support.values import root as make_root
from tests.vcs.plain.copies import (
    AUTHOR,
    aside,
    bytes_of,
    content,
    damaged,
    is_none,
    is_right,
    parts,
    room,
    saved,
    sums_of,
    there,
    written,
)
from vcs import plain, plainwriter
from vcs.blobreader import list_items
from vcs.check import check
from vcs.collect import collect
from vcs.errors import Corrupt, Missing
from vcs.history import BRANCHES
from vcs.model import Chunked, Data
from vcs.plain import (
    PAGE,
    Plain,
    digest_of_copy,
)
from vcs.plainwriter import allowed, save_plain
from vcs.store import Store
from vcs.testing import MemoryStore

# -- making them


def test_nobody_makes_what_is_there_or_being_made(store: Store, file: Plain) -> None:
    new = aside(sums_of(store, file))
    with new.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not save_plain(store, store.caches, file)
        collect(store, since=NOW)
        assert there(store.caches) == [new.name]
    path = saved(store, file)  # what the dead one has left is taken over
    before = path.stat().st_ino, sums_of(store, file).stat().st_ino
    assert not save_plain(store, store.caches, file)
    assert (path.stat().st_ino, sums_of(store, file).stat().st_ino) == before
    assert there(store.caches) == parts(file)


def three_others(store: Store) -> list[Plain]:
    """Copied files, that which was used longest ago last."""
    others = []
    for age in range(3):
        with store.batch() as batch:
            others.append(written(batch, [content(1_000_000 + age)]))
        saved(store, others[-1])
        os.utime(sums_of(store, others[-1]), (1_000_000_000 - age, 1_000_000_000 - age))
    return others


def without(store: Store, file: Plain) -> int:
    """The bytes that the copy of a file has, when it is made; it is not there."""
    saved(store, file)
    size = room(store, file)
    plain.remove(store.caches, digest_of_copy(file))
    assert is_none(store, file)
    return size


@pytest.mark.parametrize(("more", "kept"), [(0, 1), (1_100_000, 2), (-1, 0)])
def test_those_used_longest_ago_make_room(store: Store, file: Plain, more: int, kept: int) -> None:
    """As many as have to, to the byte."""
    others, size = three_others(store), without(store, file)
    assert save_plain(store, store.caches, file, size + room(store, others[0]) + more)
    assert there(store.caches) == parts(*others[:kept], file)


def hold(store: Store, file: Plain) -> Path:
    """Give a copy's bytes another name, as for an overlay."""
    link = store.path / "run" / digest_of_copy(file).hex()
    link.hardlink_to(bytes_of(store, file))
    return link


def test_copies_that_are_held_do_not_make_room(store: Store, file: Plain) -> None:
    """Not even if they were used longest ago; what they have counts."""
    others, size = three_others(store), without(store, file)
    link = hold(store, others[2])
    assert save_plain(store, store.caches, file, size + room(store, others[2]))
    assert there(store.caches) == parts(others[2], file)
    link.unlink()
    plain.remove(store.caches, digest_of_copy(file))
    assert save_plain(store, store.caches, file, size)
    assert there(store.caches) == parts(file)


def test_nothing_makes_room_if_too_much_is_held(store: Store, file: Plain) -> None:
    """Neither the held ones nor the others, if these are not enough."""
    others, size = three_others(store), without(store, file)
    hold(store, others[0])
    hold(store, others[1])
    before = there(store.caches)
    assert before == parts(*others)
    assert not save_plain(store, store.caches, file, size + room(store, *others[:2]) - 1)
    assert there(store.caches) == before
    assert is_right(store, others[2])
    hold(store, others[2])
    assert not save_plain(store, store.caches, file, size + room(store, *others) - 1)
    assert there(store.caches) == before
    assert save_plain(store, store.caches, file, size + room(store, *others))
    assert there(store.caches) == parts(*others, file)


def test_what_is_too_large_is_not_copied(store: Store, file: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    size = without(store, file)
    assert not save_plain(store, store.caches, file, size - 1)
    assert not save_plain(store, store.caches, file, file.size)
    assert not save_plain(store, store.caches, file, 0)
    monkeypatch.setattr(plainwriter, "LEFT_FREE", 1.0)
    assert not save_plain(store, store.caches, file)
    assert there(store.caches) == []
    monkeypatch.undo()
    assert save_plain(store, store.caches, file, size)


@pytest.mark.parametrize("lost", [Chunked(1_234_567, bytes(32), 1_234_567), Data(1_234, bytes(32))])
def test_what_cannot_be_read_leaves_nothing(store: Store, lost: Plain) -> None:
    with pytest.raises(Missing):
        save_plain(store, store.caches, lost)
    assert there(store.caches) == []


class Breaking(MemoryStore):
    """Objects of which one cannot be had."""

    broken = b""
    error: BaseException = Missing("it is not there")

    def __init__(self, caches: Path) -> None:
        super().__init__()
        self.caches = caches

    def get(self, digest: bytes) -> bytes:
        if digest == self.broken:
            assert any(path.stat().st_size for path in self.caches.glob("plain/*.new")), "some of it is written"
            raise self.error
        return super().get(digest)


def test_all_chunks_are_expected_before_they_are_asked_for(tmp_path: Path) -> None:
    told: list[bytes] = []
    asked: list[bytes] = []
    untold: list[bytes] = []

    class Noting(MemoryStore):
        def get(self, digest: bytes) -> bytes:
            (asked if digest in told else untold).append(digest)
            return super().get(digest)

    store = Noting()
    made = written(store, [content(11_000_000), 5_000_000, content(2_000_000)])
    assert isinstance(made, Chunked)
    chunks = [item.digest for item in list_items(store, made.list) if item.digest]
    untold.clear()
    assert save_plain(store, tmp_path, made, expect=told.extend)
    assert untold == [made.list]
    assert list(dict.fromkeys(told)) == chunks
    assert list(dict.fromkeys(asked)) == chunks


@pytest.mark.parametrize("error", [Missing("it is not there"), KeyboardInterrupt()])
def test_who_is_interrupted_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    store = Breaking(tmp_path)
    made = written(store, [content(3_000_000)])
    assert isinstance(made, Chunked)
    store.broken, store.error = list(list_items(store, made.list))[-1].digest, error
    with pytest.raises(type(error)):
        save_plain(store, tmp_path, made)
    assert there(tmp_path) == []
    store.broken = b""
    assert save_plain(store, tmp_path, made)
    assert damaged(tmp_path, store) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a small disk is mounted")
@pytest.mark.parametrize("size", [1 << 20, (2 << 20) + PAGE])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """One on which not even the bytes find room, and one on which the sums do not."""
    monkeypatch.setattr(plainwriter, "LEFT_FREE", -100.0)
    store, disk = MemoryStore(), tmp_path / "disk"
    made = written(store, [content(2 << 20)])
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "treering-test", str(disk)], check=True)
    try:
        with pytest.raises(OSError, match="No space"):
            save_plain(store, disk, made)
        assert there(disk) == []
        subprocess.run(["mount", "-o", "remount,size=3m", str(disk)], check=True)
        assert save_plain(store, disk, made)
        assert damaged(disk, store) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("more", [-5, 5, -PAGE, PAGE])
def test_a_list_that_is_not_as_long_as_its_file_is_not_copied(store: Store, large: Chunked, more: int) -> None:
    """As nobody can read that file: overlays would have its bytes, too many or too few."""
    wrong = Chunked(large.size + more, large.list, large.size + more)
    with pytest.raises(Corrupt):
        save_plain(store, store.caches, wrong)
    assert is_none(store, wrong)
    assert there(store.caches) == []


def test_what_cannot_be_put_in_its_place_leaves_nothing(store: Store, file: Plain) -> None:
    sums_of(store, file).mkdir()
    with pytest.raises(IsADirectoryError):
        save_plain(store, store.caches, file)
    assert there(store.caches) == []
    sums_of(store, file).rmdir()


def test_the_process_makes_a_copy_as_far_as_the_setting_allows(store: Store, file: Plain) -> None:
    size = without(store, file)
    set_room(store, str(size - 1))
    assert plainwriter.begin(store.path, [file]).wait() == 0
    assert there(store.caches) == []
    set_room(store, str(size))
    assert plainwriter.begin(store.path, [file]).wait() == 0
    assert is_right(store, file)
    assert there(store.caches) == parts(file)
    assert not check(store).problems


def test_the_process_makes_the_copies_of_many_files(store: Store) -> None:
    """Of both kinds, without those that it cannot make."""
    with store.batch() as batch:
        files = [written(batch, [content(size)]) for size in (1, 700_000, PAGE, 600_000, 20_000)]
        top = make_root(batch, {str(number): entry_of(file) for number, file in enumerate(files)})
    store.history.move(BRANCHES + "main", store.add_commit(top, {}, "one\n", AUTHOR), None, "one", AUTHOR)
    lost: list[Plain] = [Chunked(700_000, bytes(32), 700_000), Data(5, bytes(32)), Data(5 << 30, b"\1" * 32)]
    assert plainwriter.begin(store.path, iter([*files[:2], *lost, *files[2:]])).wait() == 0
    assert all(is_right(store, file) for file in files)
    assert there(store.caches) == parts(*files)
    assert plainwriter.begin(store.path, iter([])).wait() == 0
    assert not check(store).problems


def set_room(store: Store, size: str) -> None:
    history = store.path / "history.git"
    subprocess.run(["git", "-C", str(history), "config", plainwriter.SETTING, size], check=True)


def test_settings() -> None:
    assert [allowed(text) for text in ("0", "1", "3k", "2M", "1g", "", "-1", "1.5g", "off")] == [
        0, 1, 3 << 10, 2 << 20, 1 << 30, 0, 0, 0, 0,
    ]  # fmt: skip
