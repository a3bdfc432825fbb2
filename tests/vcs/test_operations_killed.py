"""Commands and their undo, killed anywhere, and beside one another: no operation is lost, and none is half done."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.killing import killed_anywhere
from tests.support.operations import (
    AUTHOR,
    MAIN,
    WORK,
    add,
    after_each_kill_of_undo,
    do,
    make_some,
    redo,
    reflogs_of,
    refs,
    undo,
)
from vcs.check import check
from vcs.history import BRANCHES, TAGS
from vcs.store import Store
from vcs.takingback import stacks

REPOSITORY = Path(__file__).parents[2]


def test_many_refs_that_come_back_do_so_together_wherever_the_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcs.takingback._MANY", 2)
    path = tmp_path / "store"
    with Store.create(path) as store:
        one, two = add(store, 1), add(store, 2)
        for ref in (MAIN, WORK, WORK + "-2", TAGS + "v1"):
            store.history.move(ref, one, None, "made", AUTHOR)
            store.history.move(ref, two, one, "moved", AUTHOR)
        before, logs = refs(store), reflogs_of(store)
        do(store, "delete")
        store.history.delete_all(before)

    seen = []
    for store in after_each_kill_of_undo(path, tmp_path / "errors"):
        assert refs(store) in ({}, before)
        assert check(store).problems == []
        seen.append(refs(store) == before)
        if seen[-1]:
            assert {ref: lines[: len(logs[ref])] for ref, lines in reflogs_of(store).items()} == logs
            redo(store)
    assert seen.count(False) > 2
    assert seen.count(True) > 10


def run_child(code: str, *args: object) -> subprocess.Popen[str]:
    prelude = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_undo_is_done_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store.create(path) as store:
        one, two = add(store, 1), add(store, 2)
        do(store, "make")
        store.history.name_all({MAIN: one, WORK: one}, "made", AUTHOR)
        before = refs(store)
        do(store, "change")
        store.history.move(MAIN, two, one, "moved", AUTHOR)
        store.history.delete(WORK)
        store.history.tag("v1", two, None, AUTHOR)
        done = refs(store)

    seen = []
    for store in after_each_kill_of_undo(path, tmp_path / "errors"):
        now = refs(store)
        assert (now, store.operations.read()[-1].kind) in ((done, ""), (done, "redo"), (before, "undo"))
        assert not store.operations.moves.exists()
        assert check(store).problems == []
        if now == before:
            redo(store)
        seen.append(now == before)
    assert seen.count(False) > 3
    assert seen.count(True) > 10


def test_a_killed_command_leaves_no_change_that_the_log_does_not_tell(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store.create(path) as store:
        one, two = add(store, 1), add(store, 2)
        do(store, "make")
        store.history.move(MAIN, one, None, "made", AUTHOR)
        before = refs(store)

    def work(arm: Callable[[], None]) -> None:
        with Store.open(path) as store:
            store.history.refs(BRANCHES)
            arm()
            do(store, "work")
            store.history.move(MAIN, two, one, "moved", AUTHOR)
            store.history.move(WORK, one, None, "made", AUTHOR)
            store.history.delete(WORK)

    count = 0
    for _ in killed_anywhere(work, tmp_path / "errors"):
        count += 1
        with Store.open(path) as store:
            for ref, now in refs(store).items():
                if now != before.get(ref):
                    told = [one for one in store.operations.read() if ref in one.refs]
                    assert now in (told[-1].refs[ref].new, told[-1].unsure.get(ref))
            while len(stacks(store.operations.read())[0]) > 1:
                undo(store)
            assert refs(store) == before
            assert check(store).problems == []
    assert count > 10


def test_commands_beside_one_another_lose_no_operation(store: Store) -> None:
    make_some(store, 1)
    store.operations.flush()
    code = """
        from pathlib import Path
        from tests.support.operations import AUTHOR, do
        from vcs.history import BRANCHES
        from vcs.store import Store
        with Store.open(Path(sys.argv[1])) as store:
            one = store.branches()["b0"]
            for number in range(25):
                do(store, "branch", sys.argv[2], str(number))
                ref = f"{BRANCHES}{sys.argv[2]}-{number}"
                store.history.move(ref, one, None, "made", AUTHOR)
                store.history.move(ref + "x", one, None, "made", AUTHOR)
                if number % 3 == 0:
                    store.history.delete(ref)
    """
    children = [run_child(code, store.path, name) for name in ("p", "q", "r")]
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors
    found = store.operations.read()
    assert len(found) == 76
    for name in ("p", "q", "r"):
        assert [one.args[2] for one in found if one.args[1] == name] == [str(number) for number in range(25)]
    for _ in range(75):
        undo(store)
    assert refs(store).keys() == {BRANCHES + "b0"}
