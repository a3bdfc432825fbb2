"""The reflogs of deleted refs: kept with the operation, given back whole, removed with it; and none that is damaged
goes unnoticed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.killing import killed_anywhere
from tests.support.operations import AUTHOR, MAIN, WORK, add, do, redo, refs, undo
from vcs.check import check
from vcs.collect import collect
from vcs.model import CommitId
from vcs.past import as_of
from vcs.reflogs import is_damaged, lines_of, log_path
from vcs.repair import repair
from vcs.store import Store
from vcs.takingback import next_undo

OTHER = "refs/containers/c/0"


def moved(store: Store, ref: str, *commits: CommitId) -> list[bytes]:
    """Move a ref through some commits; returns its reflog."""
    for commit in commits:
        do(store, "move", ref)
        store.history.move(ref, commit, store.history.target(ref), f"to {commit[:6]}", AUTHOR)
    return log(store, ref)


def log(store: Store, ref: str) -> list[bytes]:
    return lines_of(log_path(store.repository, ref))


def kept(store: Store) -> list[Path]:
    directory = store.path / "operations.reflogs"
    return sorted(directory.iterdir()) if directory.exists() else []


def delete(store: Store, *names: str) -> None:
    do(store, "delete", *names)
    store.history.delete_all(names)


def test_the_lines_come_back_as_they_were_and_sealed(store: Store) -> None:
    one, two = add(store, 1), add(store, 2)
    before = moved(store, WORK, one, two, one)
    delete(store, WORK)
    assert log(store, WORK) == []
    undo(store)
    assert log(store, WORK) == before
    assert not any(map(is_damaged, before))
    redo(store)
    moved(store, WORK, two)
    undo(store)  # of what has the name now, nothing is mixed in
    delete(store, MAIN)
    assert check(store).problems == []


def test_a_line_tells_of_it_where_the_reflog_led_elsewhere(store: Store) -> None:
    one, two = add(store, 1), add(store, 2)
    before = moved(store, WORK, one)
    (store.repository / WORK).write_text(f"{two}\n")  # as a program does that writes no reflog
    delete(store, WORK)
    undo(store)
    found = log(store, WORK)
    assert found[:-1] == before
    assert found[-1].startswith(f"{one} {two} ".encode())
    assert not is_damaged(found[-1])


def test_of_other_refs_only_those_that_say_something_are_kept(store: Store) -> None:
    one, two = add(store, 1), add(store, 2)
    moved(store, OTHER, one)
    delete(store, OTHER)
    assert kept(store) == []
    moved(store, OTHER, one, two)
    before = log(store, OTHER)
    delete(store, OTHER)
    assert len(kept(store)) == 1
    undo(store)
    assert log(store, OTHER) == before


def test_nothing_is_kept_of_what_was_not_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    moved(store, WORK, add(store, 1))

    def refused(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr("vcs.history.drop_refs", refused)
    with pytest.raises(Exception, match="cannot be used"):
        delete(store, WORK)
    assert kept(store) == []
    monkeypatch.undo()
    with store.operations.silent():
        store.history.delete(WORK)
    assert kept(store) == []


def test_a_long_name_and_a_name_below_another(store: Store) -> None:
    one = add(store, 1)
    long = "refs/heads/" + "/".join(["x" * 200] * 3)
    before = moved(store, long, one)
    delete(store, long)
    undo(store)
    assert log(store, long) == before


def test_gc_keeps_what_the_lines_name_and_removes_them_with_the_operation(store: Store) -> None:
    one, two, three = add(store, 1), add(store, 2), add(store, 3)
    moved(store, MAIN, three)
    before = moved(store, WORK, one, two)
    delete(store, WORK)
    saved = store.operations.path.read_bytes()
    now = time.time()
    collect(store, since=now - 1000)
    assert store.history.has(one)
    undo(store)
    assert log(store, WORK) == before
    store.operations.path.write_bytes(saved)
    with store.operations.silent():
        store.history.delete(WORK)
    (left,) = kept(store)
    left.with_name("0123456789ab-" + "0" * 32).write_bytes(left.read_bytes())  # of a process that was killed
    collect(store, since=now + 1000)
    assert kept(store) == []
    assert store.operations.read() == []
    assert not store.history.has(one)
    assert check(store).problems == []


def test_old_lines_go_before_the_operation_does(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = add(store, 1), add(store, 2)
    moved(store, WORK, one, two)
    path = log_path(store.repository, WORK)
    delete(store, WORK)
    (file,) = kept(store)
    lines = lines_of(file)
    then = int(lines[0].split(b"> ")[1].split()[0])
    old = [line.replace(str(then).encode(), b"1000000000") for line in lines]
    file.write_bytes(b"".join(line[: line.rindex(b" #")] + b"\n" for line in old))
    monkeypatch.setattr(store.operations, "read", lambda: [next_undo(type(store.operations)(store.operations.path))])
    collect(store, since=2_000_000_000 - 1_000_000_000 + 1)
    (line,) = lines_of(file)
    assert line.startswith(b"0" * 40 + f" {two} ".encode())
    assert not path.exists()


def test_a_changed_byte_is_noticed_and_mended(store: Store) -> None:
    one, two = add(store, 1), add(store, 2)
    moved(store, WORK, one, two)
    delete(store, WORK)
    (file,) = kept(store)
    whole = file.read_bytes()
    for position in range(0, len(whole) - 1, 23):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert [problem.kind for problem in check(store).problems] == ["operation"], position
    store.close()
    repair(store.path)
    assert file.read_bytes() == whole


def test_a_killed_undo_brings_the_reflog_back_as_well(tmp_path: Path) -> None:
    path, first = tmp_path / "store", tmp_path / "first"
    with Store.create(first) as store:
        one, two = add(store, 1), add(store, 2)
        moved(store, MAIN, one)
        before = moved(store, WORK, one, two)
        delete(store, WORK)
    shutil.copytree(first, path)

    def work(arm: Callable[[], None]) -> None:
        with Store.open(path) as store:
            store.history.refs("refs/heads/")
            arm()
            undo(store)

    seen = []
    for _ in killed_anywhere(work, tmp_path / "errors"):
        with Store.open(path) as store:
            is_back = WORK in refs(store)
            seen.append(is_back)
            assert log(store, WORK) == (before if is_back else [])
            assert check(store).problems == []
        shutil.rmtree(path)
        shutil.copytree(first, path)
    assert seen.count(True) > 5
    assert seen.count(False) > 3


def test_what_is_looked_at_has_the_reflogs_of_then(store: Store) -> None:
    one, two, three = add(store, 1), add(store, 2), add(store, 3)
    told: dict[str, tuple[dict[str, str | None], dict[str, list[bytes]]]] = {}

    def note() -> None:
        names = refs(store)
        told[store.operations.find("@").id] = names, {ref: log(store, ref) for ref in names}

    for ref, commit in [(MAIN, one), (WORK, one), (MAIN, two), (WORK, three), (MAIN, one), (MAIN, three)]:
        moved(store, ref, commit)
        note()
    for ref in (WORK, MAIN):
        delete(store, ref)
        note()
    for _ in range(3):
        undo(store)
        note()
    delete(store, WORK)
    note()
    moved(store, WORK, two)
    note()
    before = sorted(os.listdir(store.path))
    for operation, (names, logs) in told.items():
        with as_of(store.path, operation) as past:
            assert refs(past) == names, operation
            for ref, lines in logs.items():
                assert lines_of(log_path(past.repository, ref)) == lines, (operation, ref)
                now = past.history.resolve(f"{ref}@{{{len(lines) - 1}}}")
                assert now == lines[0].split()[1].decode()
    assert sorted(os.listdir(store.path)) == before
