"""The operation log: what it tells, what survives in it, and that refs go back exactly and together."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.support.collecting import noise, write
from tests.support.killing import killed_anywhere
from vcs import history
from vcs.check import check
from vcs.collect import collect
from vcs.errors import AlreadyExists, Conflict, Corrupt, NoSpace, NotFound, UnknownFormat
from vcs.history import BRANCHES, TAGS, Author, History
from vcs.model import CommitId
from vcs.operationlines import HEADER, Change, Operation, damaged_lines, without_damage
from vcs.reflogs import lines_of
from vcs.store import Store
from vcs.takingback import deleters, inverse, move_all, next_redo, next_undo, restoring, stacks

REPOSITORY = Path(__file__).parents[2]
AUTHOR = Author("tester", "tester@localhost", 1_800_000_000)
MAIN, WORK = BRANCHES + "main", BRANCHES + "work"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as made:
        yield made
    with Store.open(tmp_path / "store") as again:
        assert check(again).problems == []


def add(store: Store, number: int, *parents: CommitId) -> CommitId:
    root = write(store, {"noise": noise(number, 500)})
    return store.add_commit(root, {}, f"commit {number}\n", AUTHOR, parents)


def reflogs_of(store: Store) -> dict[str, list[bytes]]:
    """Every reflog, by the name of its ref."""
    top = store.repository / "logs"
    return {str(path.relative_to(top)): lines_of(path) for path in top.rglob("*") if path.is_file()}


def do(store: Store, *args: str) -> None:
    """Begin an operation, as a command does."""
    store.operations.begin(args, lambda: AUTHOR)


def undo(store: Store) -> Operation:
    return take_back(store, next_undo(store.operations), "undo")


def redo(store: Store) -> Operation:
    return take_back(store, next_redo(store.operations), "redo")


def take_back(store: Store, one: Operation, kind: str) -> Operation:
    store.operations.begin([kind], lambda: AUTHOR, kind, one.id)  # type: ignore[arg-type]
    move_all(
        store.history, store.operations, inverse(one.refs), f"{kind} {one.id}", AUTHOR, one.unsure,
        deleted=deleters([one]),
    )  # fmt: skip
    with store.history.locked():
        store.operations.note_end(AUTHOR)
    return one


def refs(store: Store) -> dict[str, str | None]:
    return {f"refs/{name}": store.history.target(f"refs/{name}") for name in store.history.refs("refs/")}


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
    drop_refs, move = history.drop_refs, History.move
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


def after_each_kill_of_undo(path: Path, errors: Path) -> Iterator[Store]:
    """Kill an undo at each of its calls, and open the store after it."""

    def work(arm: Callable[[], None]) -> None:
        with Store.open(path) as store:
            store.history.refs(BRANCHES)
            arm()
            undo(store)

    for _ in killed_anywhere(work, errors):
        with Store.open(path) as store:
            yield store


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


# -- the file


def make_some(store: Store, count: int) -> None:
    one = add(store, 1)
    for number in range(count):
        do(store, "branch", f"b{number}")
        store.history.move(f"{BRANCHES}b{number}", one, None, "made", AUTHOR)


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


# -- killed, and beside one another


def run_child(code: str, *args: object) -> subprocess.Popen[str]:
    prelude = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\nfrom tests.vcs.test_operations import *\n"
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


def test_a_flip_in_what_is_to_be_moved_moves_nothing(store: Store) -> None:
    one = add(store, 1)
    do(store, "make")
    store.history.move(MAIN, one, None, "made", AUTHOR)
    store.operations.moves.write_bytes(b'{"version":1} #00000000\n')
    with pytest.raises(Corrupt, match=r"operations\.moves is damaged"), Store.open(store.path) as again:
        again.history.refs(BRANCHES)
    store.operations.moves.unlink()


# -- by chance


class Histories(RuleBasedStateMachine):
    """Random commands, with a model: a list of states, and where in it we are."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = Store.create(Path(self.directory.name) / "store")
        self.states: list[dict[str, str | None]] = [{}]
        self.ahead: list[dict[str, str | None]] = []
        self.commits: list[CommitId] = []

    names = st.sampled_from(["a", "b", "c", "a/x", "b/y/z"])
    numbers = st.integers(0, 5)

    @initialize()
    def begin(self) -> None:
        self.commits = [add(self.store, number) for number in range(6)]
        self.store.history.name_all({f"refs/kept/{commit}": commit for commit in self.commits}, "kept", AUTHOR)
        self.states = [refs(self.store)]

    def attempt(self, work: Callable[[], object]) -> None:
        """A command; whatever it did or refused is a state, if it changed anything."""
        do(self.store, "work")
        with contextlib.suppress(AlreadyExists, Conflict, NotFound):
            work()
        now = refs(self.store)
        newest = self.store.operations.read()[-1:]
        if newest and newest[0].id == self.store.operations.current:
            self.states.append(now)
            self.ahead = []
        assert now == self.states[-1]

    @rule(name=names, number=numbers)
    def branch(self, name: str, number: int) -> None:
        ref = BRANCHES + name
        self.attempt(
            lambda: self.store.history.move(ref, self.commits[number], self.store.history.target(ref), "moved", AUTHOR)
        )

    @rule(name=names, number=numbers, text=st.sampled_from([None, "why"]))
    def tag(self, name: str, number: int, text: str | None) -> None:
        self.attempt(lambda: self.store.history.tag(name, self.commits[number], text, AUTHOR, force=True))

    @rule(prefix=st.sampled_from([BRANCHES, TAGS]), name=names)
    def delete(self, prefix: str, name: str) -> None:
        self.attempt(lambda: self.store.history.delete(prefix + name))

    @rule(old=names, new=names)
    def rename(self, old: str, new: str) -> None:
        def work() -> None:
            commit = self.store.history.target(BRANCHES + old)
            if commit and old != new:
                self.store.history.move(
                    BRANCHES + new, commit, self.store.history.target(BRANCHES + new), "renamed", AUTHOR
                )
                self.store.history.delete(BRANCHES + old)

        self.attempt(work)

    @rule(names=st.lists(names, unique=True, min_size=1), number=numbers)
    def many(self, names: list[str], number: int) -> None:
        wanted = {f"refs/containers/{name}": self.commits[number] for name in names if "/" not in name}
        self.attempt(lambda: self.store.history.name_all(wanted, "many", AUTHOR))

    @rule()
    def delete_many(self) -> None:
        self.attempt(lambda: self.store.history.delete_all([f"refs/containers/{name}" for name in "abc"]))

    @rule()
    def pack(self) -> None:
        path = self.store.path / "history.git"
        subprocess.run(["git", "-C", path, "pack-refs", "--all"], check=True, capture_output=True, timeout=60)

    @rule()
    def undo(self) -> None:
        if len(self.states) == 1:
            return
        undo(self.store)
        self.ahead.append(self.states.pop())
        assert refs(self.store) == self.states[-1]

    @rule()
    def redo(self) -> None:
        if not self.ahead:
            with pytest.raises(NotFound, match="nothing to redo"):
                redo(self.store)
            return
        redo(self.store)
        self.states.append(self.ahead.pop())
        assert refs(self.store) == self.states[-1]

    @rule()
    def collect(self) -> None:
        collect(self.store, since=time.time() - 1000)

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = Store.open(self.store.path)

    def teardown(self) -> None:
        try:
            if self.commits:
                assert check(self.store).problems == []
                while len(self.states) > 1:
                    self.undo()
                undo(self.store)
                assert refs(self.store) == {}
        finally:
            self.store.close()
            self.directory.cleanup()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
