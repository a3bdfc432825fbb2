"""Merges that wait in a container: what is left, what continuing does, and what is left of who is killed in between."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from runtime.branches import merging
from runtime.branches.forgetting import forget
from runtime.branches.resolving import abort, find, finish, left
from runtime.branches.undoing import carry_out, plan_inverse
from runtime.containers import Container, Containers
from runtime.forking import promote
from runtime.records import Merging
from runtime.states import States
from tests.support.collecting import NOW, write
from tests.support.killing import killed_anywhere
from tests.support.values import Spec
from vcs.check import check
from vcs.collect import collect
from vcs.errors import AlreadyExists, BadInput, Conflict, NotFound
from vcs.history import BRANCHES, Author
from vcs.model import CommitId
from vcs.retention import Rules
from vcs.store import Store
from vcs.takingback import next_redo, next_undo

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

AUTHOR = Author("tester", "tester@localhost", 1_800_000_000)
BASE = {"text": b"1\n2\n3\n", "data": b"\0base", "etc": {"gone": b"old\n"}}
OURS = {**BASE, "text": b"1\nour\n3\n", "data": b"\0ours", "etc": {}}
THEIRS = {**BASE, "text": b"1\ntheir\n3\n", "data": b"\0theirs", "etc": {"gone": b"new\n"}, "new": b"new\n"}
CONFLICTS = {
    b"/data": (b"/data.ours", b"/data.theirs", b"/data.base"),
    b"/etc/gone": (b"/etc/gone.theirs", b"/etc/gone.base"),
    b"/text": (b"/text.ours", b"/text.theirs", b"/text.base"),
}


class World:
    """A store in which `main` and `try` have both changed the same files, and what is done with their merge."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.containers = Containers(store)
        self.states = States(self.containers)

    @classmethod
    def make(cls, path: Path, *, config: tuple[dict[str, str], ...] = ({}, {}, {})) -> World:
        world = cls(Store.create(path))
        base = world.commit(BASE, (), "main", config[0])
        world.commit(OURS, (base,), "main", config[1])
        world.commit(THEIRS, (base,), "try", config[2])
        return world

    def commit(self, spec: Spec, parents: tuple[CommitId, ...], branch: str, config: dict[str, str]) -> CommitId:
        commit = self.store.add_commit(write(self.store, spec), {"config": config}, f"{branch}\n", AUTHOR, parents)
        self.store.history.move(BRANCHES + branch, commit, None, "made", AUTHOR, force=True)
        return commit

    def do(self, *args: str) -> None:
        self.store.operations.begin(args, lambda: AUTHOR)

    def begin(self, name: str = "m", **wish: object) -> merging.Outcome:
        self.do("merge", "try", "--into", name)
        asked = merging.Wish("main", into=name, **wish)  # type: ignore[arg-type]
        return merging.merge(self.store, self.tip("try"), "branch 'try'", asked, AUTHOR)

    def tip(self, branch: str) -> CommitId:
        return self.store.branches()[branch]

    def find(self) -> tuple[Container, Merging]:
        return find(self.containers, None)

    def left(self) -> dict[bytes, tuple[tuple[bytes, ...], bool]]:
        return {one.conflict.path: (one.files, one.has_markers) for one in left(self.containers, *self.find())}

    def settle(self, *, data: str = "theirs") -> None:
        """What somebody would do in the container."""
        self.write("text", b"1\nboth\n3\n")
        self.write("data", f"\0{data}".encode())
        for files in CONFLICTS.values():
            for file in files:
                self.remove(file.decode()[1:])

    def write(self, path: str, data: bytes) -> None:
        file = self._in_upper(path)
        file.write_bytes(data)

    def remove(self, path: str) -> None:
        os.mknod(self._in_upper(path), stat.S_IFCHR, 0)

    def _in_upper(self, path: str) -> Path:
        upper = self.find()[0].upper
        upper.mkdir(mode=0o755, exist_ok=True)
        file = upper / path
        file.parent.mkdir(mode=0o755, exist_ok=True)
        file.unlink(missing_ok=True)
        return file

    def finish(self, **how: object) -> CommitId | None:
        self.do("merge", "--continue")
        done = finish(self.containers, *self.find(), AUTHOR, **how)  # type: ignore[arg-type]
        return done.result.commit if done.result else None

    def undo(self) -> None:
        plan = plan_inverse(self.containers, next_undo(self.store.operations), "undo")
        carry_out(self.containers, plan, ["undo"], AUTHOR)

    def redo(self) -> None:
        plan = plan_inverse(self.containers, next_redo(self.store.operations), "redo")
        carry_out(self.containers, plan, ["redo"], AUTHOR)

    def text(self, revision: str, path: str) -> bytes:
        snapshot = self.store.snapshot_of(self.store.history.resolve(revision))
        return snapshot.read(snapshot.lookup(path.encode()).content)  # type: ignore[arg-type]

    def is_under_way(self) -> bool:
        return any(one.record.merging for one in self.containers.all())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World.make(tmp_path / "store")
    yield made
    assert check(made.store).problems == []
    made.store.close()


def test_what_a_merge_begins_with(world: World) -> None:
    ours, theirs = world.tip("main"), world.tip("try")
    outcome = world.begin()
    assert (outcome.how, outcome.container, world.tip("main")) == ("conflicts", "m", ours)
    assert world.left() == {path: (files, path == b"/text") for path, files in CONFLICTS.items()}
    container, merging = world.find()
    assert world.store.commit(container.base).parents == (ours, theirs)
    assert merging.parents == (ours, theirs)
    base, start = merging.base, container.base
    assert world.text(start, "text").decode().splitlines() == [
        "1", "<<<<<<< ours (main)", "our", f"||||||| base ({base[:12]})", "2", "=======", "their",
        f">>>>>>> theirs ({theirs[:12]})", "3",
    ]  # fmt: skip
    assert world.text(start, "new") == b"new\n", "what only one side changed is merged"
    for name, side in (("ours", OURS), ("theirs", THEIRS), ("base", BASE)):
        assert (world.text(start, f"data.{name}"), world.text(start, f"text.{name}")) == (side["data"], side["text"])
    assert (world.text(start, "data"), world.text(start, "etc/gone.theirs")) == (OURS["data"], b"new\n")


def test_nothing_is_committed_while_something_is_left(world: World) -> None:
    world.begin()
    ours = world.tip("main")
    world.settle()
    world.write("text", b"1\nboth\n" + f">>>>>>> theirs ({world.tip('try')[:12]})".encode())
    assert world.left() == {b"/text": ((), True)}, "a marker, at the end and without a newline"
    assert world.finish() is None
    world.write("text", b"1\nboth\n")
    world.write("data.theirs", b"\0theirs")
    assert world.left() == {b"/data": ((b"/data.theirs",), False)}
    assert world.finish() is None
    assert world.tip("main") == ours


def test_continuing_makes_a_commit_with_both_parents(world: World) -> None:
    world.begin()
    parents = world.tip("main"), world.tip("try")
    world.settle()
    commit = world.finish()
    assert commit == world.tip("main") == world.states.head(world.containers.find("m"))
    info = world.store.commit(commit)
    assert info.parents == parents
    assert info.message.startswith("Merge branch 'try' into main\n\nContainer: m\n")
    assert "Conflicts: 3, settled in m\n" in info.message
    assert (world.text("main", "text"), world.text("main", "data")) == (b"1\nboth\n3\n", b"\0theirs")
    names = [path for path, _ in world.store.snapshot_of(commit).walk()]
    assert names == [b"/", b"/data", b"/etc", b"/new", b"/text"]
    assert not world.is_under_way()
    with pytest.raises(NotFound, match="no merge is under way"):
        world.finish()


def test_undo_and_redo(world: World) -> None:
    ours = world.tip("main")
    world.begin()
    world.settle()
    commit = world.finish()
    world.undo()
    assert (world.tip("main"), world.is_under_way(), world.left()) == (ours, True, {})
    world.redo()
    assert (world.tip("main"), world.is_under_way()) == (commit, False)
    world.undo()
    again = world.finish(message="once more")
    assert again is not None
    assert world.store.commit(again).root == world.store.commit(commit or "").root
    world.undo()
    world.undo()
    assert world.containers.all() == []
    world.redo()
    assert world.left() == {}, "what was settled is kept with the container that undo removed"


def test_giving_up_leaves_no_trace_but_for_undo(world: World) -> None:
    before = world.store.branches()
    world.begin()
    world.settle()
    world.do("merge", "--abort")
    abort(world.containers, world.find()[0], AUTHOR)
    assert world.containers.all() == []
    assert world.store.branches() == before
    world.undo()
    assert world.left() == {}
    assert world.finish() == world.tip("main")


def test_a_branch_that_has_moved(world: World) -> None:
    world.begin()
    world.settle()
    ours = world.tip("main")
    other = world.commit(OURS, (ours,), "main", {})
    with pytest.raises(Conflict, match="branch 'main' is at") as caught:
        world.finish()
    assert caught.value.facts["start"] == ours
    assert (world.tip("main"), world.is_under_way()) == (other, True)
    world.store.history.move(BRANCHES + "main", ours, other, "back", AUTHOR)
    assert world.finish() == world.tip("main")


def test_commits_in_between_go_to_no_branch(world: World) -> None:
    world.begin()
    world.write("text", b"1\nboth\n3\n")
    container = world.find()[0]
    saved = world.states.commit(container, "half of it", AUTHOR).commit
    assert world.store.history.target(container.ref) is None  # a generation further
    for work in (
        lambda: world.states.commit(world.find()[0], "all of it", AUTHOR, branch="main"),
        lambda: promote(world.containers, world.find()[0], "main", "all of it", AUTHOR, force=True),
        lambda: world.states.rollback(world.find()[0], world.tip("main"), AUTHOR),
        lambda: forget(world.containers, ["main"], Rules(last=1), AUTHOR),
    ):
        with pytest.raises(Conflict, match="a merge into 'main' is under way"):
            work()
    world.states.rollback(world.find()[0], saved, AUTHOR)
    world.settle()
    commit = world.finish()
    assert commit == world.tip("main")
    assert not world.store.history.is_ancestor(saved, commit)


def test_gc_keeps_what_a_merge_needs(world: World) -> None:
    world.begin()
    world.settle()
    world.store.history.delete(BRANCHES + "try")
    collect(world.store, since=NOW, commits=world.containers.bases)
    assert world.finish() == world.tip("main")


def test_gc_after_who_continued_was_killed(world: World) -> None:
    """The container stands on the merge already, whose parents the commit that lists its conflicts is not among."""
    world.begin()
    world.settle()
    container, merging = world.find()
    commit = world.finish()
    with world.containers.changing(container) as now:
        world.containers.replace(now, msgspec.structs.replace(now.record, merging=merging))
    collect(world.store, since=NOW, commits=world.containers.bases)
    assert world.left() == {}
    assert world.finish() == commit == world.tip("main")
    assert not world.is_under_way()


def test_conflicts_of_the_image_config(tmp_path: Path) -> None:
    configs = ({"User": "a"}, {"User": "b"}, {"User": "c", "WorkingDir": "/srv"})
    world = World.make(tmp_path / "store", config=configs)
    world.begin()
    world.settle()
    assert list(world.left()) == [b"config.User"]
    assert world.finish() is None
    commit = world.finish(favour="theirs", changes=[lambda config: {**config, "author": "me"}])
    assert world.store.history.config(commit or "") == {
        "config": {"User": "c", "WorkingDir": "/srv"}, "author": "me",
    }  # fmt: skip
    world.store.close()


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_favoured_side_leaves_nothing_to_settle(world: World, side: str) -> None:
    assert world.begin(favour=side).how == "prepared"
    assert world.left() == {}
    assert world.finish() == world.tip("main")
    assert f"Conflicts: 3, {side}\n" in world.store.commit(world.tip("main")).message
    assert world.text("main", "text") == {"ours": OURS, "theirs": THEIRS}[side]["text"]


def test_which_merge_is_meant(world: World) -> None:
    with pytest.raises(NotFound, match="no merge is under way in any container"):
        find(world.containers, None)
    world.begin("one")
    with pytest.raises(AlreadyExists):
        world.begin("one")
    world.begin("two")
    with pytest.raises(BadInput, match="one, two"):
        find(world.containers, None)
    assert find(world.containers, "two")[0].name == "two"


STEPS: dict[str, Callable[[World], object]] = {
    "begin": lambda world: world.begin(),
    "continue": lambda world: world.finish(),
    "abort": lambda world: abort(world.containers, world.find()[0], AUTHOR),
}


@pytest.mark.parametrize("step", STEPS)
def test_who_is_killed_can_go_on(tmp_path: Path, step: str) -> None:
    """Wherever: there is a merge, or there is none, and it can be brought to its end."""
    path = tmp_path / "store"
    made = World.make(path)
    ours, theirs = made.tip("main"), made.tip("try")
    made.store.close()

    def work(arm: Callable[[], None]) -> None:
        with Store.open(path) as store:
            world = World(store)
            if step != "begin":
                world.begin()
                world.settle()
            world.do(step)
            arm()
            STEPS[step](world)

    for number, is_done in enumerate(killed_anywhere(work, tmp_path / "errors", path)):
        with Store.open(path) as store:
            again = World(store)
            if step == "abort" and not again.is_under_way():
                again.undo()
            assert check(store).problems == [], number
            if step == "begin" and not again.is_under_way():
                assert not is_done
                assert again.tip("main") == ours
            elif again.is_under_way():
                if step == "begin":
                    again.settle()
                assert again.finish() == again.tip("main")
            tip = again.tip("main")
            if tip != ours:
                assert store.commit(tip).parents == (ours, theirs)
                assert again.text("main", "text") == b"1\nboth\n3\n"
            assert not again.is_under_way()
            assert check(store).problems == [], number
    assert number > 3
