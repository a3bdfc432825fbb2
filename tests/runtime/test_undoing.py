"""Operations on containers taken back: names, settings, heads and states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import removal
from runtime.branches.undoing import carry_out, plan_inverse, plan_restore
from runtime.check import check_containers
from runtime.settings import Settings
from tests.support.collecting import NOW
from tests.support.undoing import AUTHOR, World
from vcs.check import check
from vcs.collect import collect
from vcs.errors import AlreadyExists, Conflict, NotFound
from vcs.history import BRANCHES
from vcs.store import Store
from vcs.takingback import next_undo, restoring


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "store")
    yield made
    assert check(made.store).problems == []
    made.store.close()


def test_a_container_that_was_made_is_removed_and_its_state_kept(world: World) -> None:
    before = world.look()
    made = world.create("web")
    after = world.look()
    world.write("web", "mine")
    world.undo()
    assert world.look() == before
    assert len(world.store.history.refs("refs/removed/")) == 1
    world.redo()
    assert world.look() == after
    assert world.text("web") == "mine"
    assert world.containers.find("web").id == made.id


def test_a_container_that_was_removed_is_there_again_with_all_its_states(world: World) -> None:
    world.create("web")
    world.write("web", "first")
    world.rollback("web", world.base)
    world.write("web", "second")
    before = world.look()
    world.remove("web")
    world.undo()
    assert world.look() == before
    assert world.text("web") == "second"
    world.states.undo_rollback(world.containers.find("web"))
    assert world.text("web") == "first"


def test_a_removal_is_done_again_later(world: World) -> None:
    """The commit that keeps its last state is another one then: it is of another time."""
    world.create("web")
    world.write("web", "mine")
    world.remove("web")
    after = world.look()
    world.undo()
    world.redo()
    assert world.look() == after
    world.undo()
    assert world.text("web") == "mine"


def test_what_was_discarded_stays_discarded(world: World) -> None:
    world.create("web")
    world.write("web", "first")
    world.commit("web")
    world.write("web", "second")
    before = world.look()
    world.remove("web", discard=True)
    world.undo()
    assert world.look() == before
    assert world.text("web") == "first"


def test_after_a_commit_is_taken_back_its_changes_are_changes_again(world: World) -> None:
    world.create("web")
    world.write("web", "mine")
    before, changes = world.look(), len(world.states.changes(world.containers.find("web")))
    made = world.commit("web", branch="work")
    after = world.look()
    plan = world.undo()
    assert plan.moves.keys() == {BRANCHES + "work", world.containers.find("web").ref}
    assert world.look() == before
    assert world.text("web") == "mine"
    assert len(world.states.changes(world.containers.find("web"))) == changes == 1
    collect(world.store, since=NOW, commits=world.containers.bases)
    assert world.text("web") == "mine"
    again = world.commit("web", branch="work")
    assert world.store.commit(again).parents == world.store.commit(made).parents == (world.base,)
    assert world.look().keys() == after.keys()


def test_two_rollbacks_are_taken_back_and_done_again(world: World) -> None:
    world.create("web")
    texts = []
    for text in ("first", "second", "third"):
        world.write("web", text)
        texts.append(world.text("web"))
        world.rollback("web", world.base)
    for before in reversed(texts):
        world.undo()
        assert world.text("web") == before
    for after in (*texts[1:], None):
        world.redo()
        assert world.text("web") == after


def test_a_container_that_has_changed_since_is_a_conflict(world: World) -> None:
    world.create("web")
    world.rename("web", "web2")
    with world.store.operations.silent():
        world.rename("web2", "web3")
    before = world.look()
    with pytest.raises(Conflict, match="'web3' is not as the operation left it; nothing was changed"):
        world.undo()
    world.remove("web3")
    world.do("create")
    with world.store.operations.silent():
        world.create("web3")
    with pytest.raises(Conflict, match="there is a container 'web3' already"):
        plan_inverse(world.containers, world.store.operations.find("@"), "undo")
    assert len(before) == len(world.look())


def test_a_last_state_that_gc_has_removed_cannot_come_back(world: World) -> None:
    world.create("web")
    world.write("web", "mine")
    world.remove("web")
    saved = world.store.operations.path.read_bytes()
    removal.forget_states(world.store, [f"refs/removed/{name}" for name in world.store.history.refs("refs/removed/")])
    collect(world.store, since=NOW)
    world.store.operations.path.write_bytes(saved)
    with pytest.raises(NotFound, match="the last state of 'web' is gone"):
        world.undo()
    assert world.containers.all() == []


def test_gc_keeps_the_last_state_that_an_operation_needs(world: World) -> None:
    world.create("web")
    world.write("web", "mine")
    world.remove("web")
    removal.forget_states(world.store, [f"refs/removed/{name}" for name in world.store.history.refs("refs/removed/")])
    collect(world.store, since=0)
    world.undo()
    assert world.text("web") == "mine"


def test_what_goes_at_its_end_is_no_operation(world: World) -> None:
    world.do("run", "--rm")
    before = world.store.operations.read()
    made = world.containers.create("main", world.base, Settings(remove=True), AUTHOR, "once")
    removal.remove_ended(world.store, made.id, AUTHOR)
    assert world.containers.all() == []
    assert world.store.operations.read() == before


def test_restoring_leaves_containers_alone(world: World) -> None:
    point = world.store.operations.find("@")
    world.create("web")
    world.write("web", "mine")
    world.commit("web", branch="work")
    containers = {key: value for key, value in world.look().items() if len(key) == 64}
    moves = restoring(world.store.operations.read(), point.id)
    carry_out(world.containers, plan_restore(world.store, point, moves), ["op", "restore"], AUTHOR)
    assert world.look() == {"main": world.base, **containers}
    world.undo()
    assert world.store.branches().keys() == {"main", "work"}


def test_earlier_states_go_back_too_when_forgetting_is_taken_back(world: World) -> None:
    world.create("web")
    for text in ("first", "second"):
        world.write("web", text)
        world.commit("web", "main")
    before = world.look()
    world.rollback("web", world.base)
    world.forget("main")
    world.undo()
    world.undo()
    assert world.look() == before
    assert world.text("web") == "second"


@pytest.mark.parametrize("ends", ["after the undo", "before it", "while it is planned", "never, and gc comes"])
def test_a_container_that_comes_back_before_its_removal_has_ended(tmp_path: Path, ends: str) -> None:
    """Another command takes it back as soon as it is in the log: it comes back with its refs, whenever they go."""
    world = World(tmp_path / "store")
    world.create("web")
    before = world.look()
    world.do("rm", "web")
    with world.containers.changing(world.containers.find("web")) as web:
        world.containers.take_away(web)
    with Store.open(tmp_path / "store") as store:
        other = World.of(store)
        if ends == "before it":
            world.containers.finish_removing([web])
        elif ends == "never, and gc comes":
            world.containers.forget_gone()
        other.do("undo")
        plan = plan_inverse(other.containers, next_undo(store.operations), "undo")
        if ends == "while it is planned":
            world.containers.finish_removing([web])
        carry_out(other.containers, plan, ["undo"], other.author)
    if ends == "after the undo":
        world.containers.finish_removing([web])
    assert world.look() == before
    assert check_containers(world.store) == []
    with pytest.raises(AlreadyExists):
        world.create("web")
