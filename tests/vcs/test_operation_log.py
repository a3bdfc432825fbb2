"""The file of operations: what survives in it, damaged, unfinished, of another version or on a full disk."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support.operations import AUTHOR, MAIN, add, do, make_some
from vcs.check import check
from vcs.errors import Corrupt, NoSpace, UnknownFormat
from vcs.history import BRANCHES
from vcs.operationlines import HEADER, damaged_lines, without_damage
from vcs.store import Store


def test_an_unfinished_line_is_passed_over_and_cut_off(store: Store) -> None:
    make_some(store, 3)
    path = store.operations.path
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for length in range(1, len(last)):
        path.write_bytes(whole + last[:length])
        assert len(store.operations.read()) == 3
    do(store, "tag")
    store.history.tag("v1", store.branches()["b0"], None, AUTHOR)
    assert path.read_bytes().startswith(whole)
    assert [one.args[0] for one in store.operations.read()] == ["branch"] * 3 + ["tag"]


def test_a_changed_byte_is_noticed_and_mended(store: Store) -> None:
    make_some(store, 3)
    path = store.operations.path
    whole = path.read_bytes()
    for position in range(len(HEADER), len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        assert list(damaged_lines(path)), position
        if position < len(whole) - 1:
            with pytest.raises(Corrupt, match="a line of it is not as it was written"):
                store.operations.read()
        if position % 29 == 0 or position == len(whole) - 1:
            lost = without_damage(path)
            assert list(damaged_lines(path)) == []
            if whole[position : position + 1] != b"\n" or position == len(whole) - 1:
                assert (path.read_bytes(), lost) == (whole, 0)
    path.write_bytes(b"f" + whole[1:])
    assert any(problem.kind == "operation" for problem in check(store).problems)
    with pytest.raises(Corrupt, match="does not begin as an operation log"):
        store.operations.read()
    assert without_damage(path) == 0
    assert path.read_bytes() == whole


def test_another_version_is_refused_and_left_alone(store: Store) -> None:
    make_some(store, 1)
    path = store.operations.path
    whole = path.read_bytes()
    other = whole.replace(HEADER, b"treering operations 9\n")
    path.write_bytes(other)
    with pytest.raises(UnknownFormat, match="version 9, this program knows 1"):
        store.operations.read()
    with pytest.raises(UnknownFormat):
        store.history.delete(BRANCHES + "b0")
    assert path.read_bytes() == other
    assert store.branches().keys() == {"b0"}
    path.write_bytes(whole)


def test_it_is_flushed_once_and_only_if_something_was_noted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make_some(store, 3)
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
    store.operations.flush()
    store.operations.flush()
    assert synced == [str(store.operations.path)]


def test_on_a_full_disk_what_goes_goes_and_nothing_else(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one = add(store, 1)
    make_some(store, 2)
    before = store.operations.path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        do(store, "more")
        with pytest.raises(NoSpace):
            store.history.move(MAIN, one, None, "made", AUTHOR)
        store.history.delete(BRANCHES + "b0")
    assert store.branches().keys() == {"b1"}
    assert store.operations.path.read_bytes() == before


def test_a_flip_in_what_is_to_be_moved_moves_nothing(store: Store) -> None:
    one = add(store, 1)
    do(store, "make")
    store.history.move(MAIN, one, None, "made", AUTHOR)
    store.operations.moves.write_bytes(b'{"version":1} #00000000\n')
    with pytest.raises(Corrupt, match=r"operations\.moves is damaged"), Store.open(store.path) as again:
        again.history.refs(BRANCHES)
    store.operations.moves.unlink()
