"""The operation log: what it tells, and that refs go back exactly and together."""

from __future__ import annotations

import os
import time

import pytest
from blake3 import blake3

from tests.support.operations import AUTHOR, MAIN, WORK, add, do, make_some, redo, reflogs_of, refs, undo
from vcs import history
from vcs.collect import collect
from vcs.errors import AlreadyExists, Conflict, NotFound
from vcs.gitfiles import drop_refs
from vcs.history import BRANCHES, TAGS, History
from vcs.operationlines import Change, Operation
from vcs.store import Store
from vcs.takingback import move_all, restoring, stacks

# -- what is noted


def test_a_command_is_one_operation_whatever_it_changes(store: Store) -> None:
    one, two = add(store, 1), add(store, 2)
    do(store, "import", "x\udcff\ny")
    store.history.move(MAIN, one, None, "made", AUTHOR)
    store.history.move(WORK, one, None, "made", AUTHOR)
    store.history.move(MAIN, two, one, "moved", AUTHOR)
    store.history.delete(WORK)
    (found,) = store.operations.read()
    assert found.args == ("import", "x\\udcff\ny")
    assert found.who == "tester <tester@localhost>"
    assert abs(found.time - time.time()) < 100
    assert found.refs == {MAIN: Change(None, two), WORK: Change(None, None)}
    assert store.operations.find("@") == store.operations.find(found.id[:6]) == found


def test_what_changes_nothing_is_not_noted(store: Store) -> None:
    one = add(store, 1)
    do(store, "import")
    assert not store.operations.path.exists()
    store.history.move(MAIN, one, None, "made", AUTHOR)
    do(store, "branch")
    before = store.operations.path.read_bytes()
    store.history.move(MAIN, one, one, "again", AUTHOR)
    store.history.delete_all([WORK])
    with pytest.raises(Conflict):
        store.history.move(MAIN, one, None, "made", AUTHOR)
    with pytest.raises(AlreadyExists):  # refused by git, once the line is written
        store.history.move(MAIN + "/sub", one, None, "made", AUTHOR)
    with pytest.raises(NotFound):
        store.history.delete(WORK)
    assert store.operations.path.read_bytes() == before


def test_work_that_is_no_command_is_named_after_its_reason(store: Store) -> None:
    one = add(store, 1)
    store.history.move(MAIN, one, None, "made", AUTHOR)
    store.history.name_all({BRANCHES + "a": one, BRANCHES + "b": one}, "two", AUTHOR)
    store.history.delete_all([BRANCHES + "a", BRANCHES + "b", WORK])
    assert [found.args for found in store.operations.read()] == [("made",), ("two",), ("refs removed",)]
    assert [len(found.refs) for found in store.operations.read()] == [1, 2, 2]


def test_an_annotated_tag_comes_back_with_its_message(store: Store) -> None:
    one = add(store, 1)
    do(store, "tag")
    store.history.tag("v1", one, "a release", AUTHOR)
    oid = store.history.target(TAGS + "v1")
    do(store, "tag", "-d")
    store.history.delete(TAGS + "v1")
    undo(store)
    assert store.history.target(TAGS + "v1") == oid != one
    assert b"a release" in store.history.raw(str(oid))


def test_a_line_is_as_the_format_says(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one = add(store, 1)
    monkeypatch.setattr(os, "urandom", lambda count: bytes(range(count)))
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.5)
    do(store, "branch", "wörk\udcff")
    with store.history.locked():
        step = store.operations.noting({WORK: (None, one)}, {"c": ({"name": "a"}, None)}, AUTHOR, "reason")
        with step:
            pass
        with store.operations.noting({WORK: (one, None)}):
            pass
    lines = [
        b'{"op":"000102030405","time":1800000000,"who":"tester <tester@localhost>",'
        b'"args":["branch","w\\u00f6rk\\\\udcff"],'
        b'"refs":{"refs/heads/work":[null,"%s"]},"containers":{"c":[{"name":"a"},null]}}' % one.encode(),
        b'{"op":"000102030405","refs":{"refs/heads/work":["%s",null]}}' % one.encode(),
    ]
    sealed = [line + b" #" + blake3(line).hexdigest()[:8].encode() + b"\n" for line in lines]
    assert store.operations.path.read_bytes() == b"treering operations 1\n" + b"".join(sealed)


# -- what is taken back


def test_undo_goes_back_one_by_one_and_redo_forth(store: Store) -> None:
    one, two = add(store, 1), add(store, 2)
    states = [refs(store)]
    for ref, commit in ((MAIN, one), (WORK, one), (MAIN, two)):
        do(store, "move", ref)
        store.history.move(ref, commit, store.history.target(ref), "moved", AUTHOR)
        states.append(refs(store))
    for state in states[-2::-1]:
        undo(store)
        assert refs(store) == state
    with pytest.raises(NotFound, match="nothing to undo"):
        undo(store)
    for state in states[1:]:
        redo(store)
        assert refs(store) == state
    with pytest.raises(NotFound, match="nothing to redo"):
        redo(store)
    undo(store)
    do(store, "tag")
    store.history.tag("v1", one, None, AUTHOR)
    with pytest.raises(NotFound, match="nothing to redo"):
        redo(store)


def test_each_undo_of_many_is_found_without_comparing_it_with_all(store: Store) -> None:
    compared = 0

    class Id(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        def __ne__(self, other: object) -> bool:
            return not self == other

    count = 500
    done = [Operation(Id(number), 0, "", ()) for number in range(count)]
    undone = [Operation(Id(count + number), 0, "", (), "undo", Id(count - 1 - number)) for number in range(count // 2)]
    undoable, redoable = stacks([*done, *undone])
    assert ([int(one.id) for one in undoable], len(redoable)) == (list(range(count // 2)), count // 2)
    assert compared < 4 * count


def test_what_has_moved_in_another_way_is_a_conflict_and_nothing_changes(store: Store) -> None:
    one, two = add(store, 1), add(store, 2)
    do(store, "two")
    store.history.name_all({MAIN: one, WORK: one}, "two", AUTHOR)
    (store.path / "history.git" / WORK).write_text(f"{two}\n")  # as another program of git's does
    before = refs(store), store.operations.path.read_bytes()
    with pytest.raises(Conflict, match=r"branch 'work' is at .*, and the operation left it at .*nothing was changed"):
        undo(store)
    assert (refs(store), store.operations.path.read_bytes()) == before
    (store.path / "history.git" / WORK).write_text(f"{one}\n")
    undo(store)
    assert refs(store) == {}


def test_a_name_that_is_in_the_way_is_a_conflict(store: Store) -> None:
    one = add(store, 1)
    do(store, "make")
    store.history.move(WORK, one, None, "made", AUTHOR)
    do(store, "rename")
    store.history.delete(WORK)
    store.history.move(WORK + "/sub", one, None, "made", AUTHOR)
    undo(store)  # one makes room for the other
    assert refs(store) == {WORK: one}
    redo(store)
    assert refs(store) == {WORK + "/sub": one}
    undo(store)
    do(store, "delete")
    store.history.delete(WORK)
    with store.operations.silent():
        store.history.move(WORK + "/other", one, None, "made", AUTHOR)
    with pytest.raises(Conflict, match="cannot come back"):
        undo(store)


def test_restoring_makes_branches_and_tags_what_they_were(store: Store) -> None:
    one, two = add(store, 1), add(store, 2)
    do(store, "first")
    store.history.move(MAIN, one, None, "made", AUTHOR)
    point, state = store.operations.find("@"), refs(store)
    for number, commit in enumerate((two, one, two)):
        do(store, "more")
        store.history.move(MAIN, commit, store.history.target(MAIN), "moved", AUTHOR)
        store.history.tag(f"v{number}", commit, None, AUTHOR)
    undo(store)
    do(store, "delete")
    store.history.delete(MAIN)
    store.operations.begin(["restore"], lambda: AUTHOR, "restore", point.id)
    moves = restoring(store.operations.read(), point.id)
    move_all(store.history, store.operations, moves, "restore", AUTHOR, force=True)
    assert refs(store) == state
    undo(store)
    assert refs(store) == {TAGS + "v0": two, TAGS + "v1": one}


def test_many_refs_go_and_come_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their reflogs. One at a time, each would wait for the disk several times."""
    one, two = add(store, 1), add(store, 2)
    do(store, "first")
    store.history.move(MAIN, one, None, "made", AUTHOR)
    point = store.operations.find("@")
    make_some(store, 20)
    for number in range(20):
        store.history.move(f"{BRANCHES}b{number}", two, store.history.target(f"{BRANCHES}b{number}"), "moved", AUTHOR)
        store.history.tag(f"v{number}", one, None, AUTHOR)
    store.history.tag("told", one, "of a tag object", AUTHOR)
    state, logs = refs(store), reflogs_of(store)
    dropped: list[int] = []
    moved: list[str] = []
    move = History.move
    monkeypatch.setattr(history, "drop_refs", lambda *args, **more: dropped.append(1) or drop_refs(*args, **more))
    monkeypatch.setattr(History, "move", lambda self, ref, *args: moved.append(ref) or move(self, ref, *args))
    for _ in range(2):
        store.operations.begin(["restore"], lambda: AUTHOR, "restore", point.id)
        moves = restoring(store.operations.read(), point.id)
        move_all(store.history, store.operations, moves, "restore", AUTHOR, force=True)
        assert refs(store) == {MAIN: one}
        assert not reflogs_of(store).keys() - {"HEAD", MAIN}
        undo(store)
        assert refs(store) == state
        assert {ref: lines[: len(logs[ref])] for ref, lines in reflogs_of(store).items()} == logs
    assert dropped == [1, 1]
    assert moved == [TAGS + "told"] * 2


# -- gc


def test_gc_keeps_what_an_operation_needs_until_it_expires(store: Store) -> None:
    one, two = add(store, 1), add(store, 2)
    store.history.move(MAIN, one, None, "made", AUTHOR)
    do(store, "branch")
    store.history.move(WORK, two, None, "made", AUTHOR)
    do(store, "branch", "-d")
    store.history.delete(WORK)
    collect(store, since=time.time() - 1000)
    undo(store)
    assert store.branches()["work"] == two
    redo(store)
    done = collect(store, since=time.time() + 1000)
    assert done.operations == 5
    assert done.commits == 1
    assert store.operations.read() == []
    with pytest.raises(NotFound, match="nothing to undo"):
        undo(store)


def test_what_is_gone_cannot_come_back(store: Store) -> None:
    two = add(store, 2)
    do(store, "branch")
    store.history.move(WORK, two, None, "made", AUTHOR)
    do(store, "branch", "-d")
    store.history.delete(WORK)
    saved = store.operations.path.read_bytes()
    store.operations.path.unlink()
    collect(store, since=time.time() + 1000)
    store.operations.path.write_bytes(saved)
    with pytest.raises(NotFound, match="which gc has removed since"):
        undo(store)
