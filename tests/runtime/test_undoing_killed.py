"""Commands on containers, and their undo, killed anywhere: what the log tells is taken back, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.check import check_containers
from runtime.containers import CONTAINERS
from runtime.generations import forget_left
from tests.support.killing import killed_anywhere
from tests.support.undoing import World, after_each_kill
from vcs.check import check
from vcs.store import Store
from vcs.takingback import stacks

CHANGES: dict[str, Callable[[World], object]] = {
    "create": lambda world: world.create("new"),
    "rename": lambda world: world.rename("web", "other"),
    "update": lambda world: world.update("web", "host"),
    "commit": lambda world: world.commit("web", branch="work"),
    "rollback": lambda world: world.rollback("web", world.base),
    "rm": lambda world: world.remove("web"),
    "undo": lambda world: world.undo(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_killed_command_can_be_taken_back(tmp_path: Path, change: str) -> None:
    """All that the log tells of it is taken back, and everything is as it was; wherever it is killed."""
    path = tmp_path / "store"
    world = World(path)
    world.create("web")
    world.write("web", "mine")
    if change == "undo":
        world.rename("web", "other")
        world.rename("other", "web")
        world.commit("web", branch="work")
    before, depth = world.look(), len(stacks(world.store.operations.read())[0])
    world.store.close()

    for number, (again, _) in enumerate(after_each_kill(path, tmp_path / "errors", CHANGES[change])):
        while len(stacks(again.store.operations.read())[0]) > depth:
            again.undo()
        while len(stacks(again.store.operations.read())[0]) < depth:
            again.redo()
        assert again.look() == before, number
        assert again.text("web") == "mine"
        assert check(again.store).problems == []
    assert number > 3


def test_containers_come_back_with_their_refs_or_not_at_all(tmp_path: Path) -> None:
    """Wherever the undo of a removal is killed, and whatever is asked first afterwards."""
    path = tmp_path / "store"
    world = World(path)
    world.create("web")
    world.write("web", "committed")
    world.commit("web", branch="work")
    world.write("web", "mine")
    before = world.look()
    world.remove("web")
    removed = world.look()
    world.store.close()

    def work(arm: Callable[[], None]) -> None:
        with Store.open(path) as store:
            world = World.of(store)
            arm()
            world.undo()

    seen = []
    for _ in killed_anywhere(work, tmp_path / "errors", path):
        with Store.open(path) as store:
            assert check_containers(store) == []
            again = World.of(store)
            seen.append(again.look() == before)
            assert seen[-1] or again.look() == removed
            if not seen[-1]:
                again.undo()
            assert (again.look(), again.text("web")) == (before, "mine")
            assert check(store).problems == []
            assert check_containers(store) == []
            assert not list(path.glob("containers/.back-*"))
            again.redo()
            assert again.look() == removed
    assert seen.count(False) > 10
    assert seen.count(True) > 10


def test_an_undo_that_was_killed_goes_on(tmp_path: Path) -> None:
    """Where it has several steps, the same command makes the rest of them, and redo takes all of it back."""
    path = tmp_path / "store"
    world = World(path)
    world.create("web")
    world.write("web", "mine")
    before = world.look()
    world.fork("web", 3)
    forked, depth = world.look(), len(stacks(world.store.operations.read())[0])
    world.store.close()
    partial = 0
    for again, is_done in after_each_kill(path, tmp_path / "errors", World.undo):
        is_partial = again.store.operations.read()[-1].is_partial
        partial += is_partial
        if not is_done and (is_partial or again.look() != before):
            again.undo()
        assert again.look() == before
        assert check_containers(again.store) == []
        again.redo()
        assert again.look() == forked
        assert len(stacks(again.store.operations.read())[0]) == depth
    assert partial > 5


def test_redo_does_all_again_of_an_undo_that_went_on_after_another_command(tmp_path: Path) -> None:
    """What was done before it was killed is another operation then: two make the one that is done again."""
    path = tmp_path / "store"
    world = World(path)
    world.create("web")
    world.write("web", "mine")
    before = world.look()
    world.fork("web", 2)
    for name in ("web-1", "web-2"):
        world.write(name, "more")
        world.commit(name)
        world.undo()
    forked, logs = world.look(), fork_logs(world)
    world.store.close()
    partial = 0
    for again, is_done in after_each_kill(path, tmp_path / "errors", World.undo):
        if is_done or not again.store.operations.read()[-1].is_partial:
            if again.look() == before:
                again.redo()
            continue
        partial += 1
        again.branch("new", again.base)
        again.undo()
        again.undo()
        assert again.look() == before
        again.redo()
        assert again.look() == forked
        assert fork_logs(again) == logs
        assert check_containers(again.store) == []
    assert partial > 5


def fork_logs(world: World) -> dict[str, list[str]]:
    """Where the forks' refs came from and went to."""
    forks = [container for container in world.containers.all() if container.name != "web"]
    logs = world.store.path / "history.git/logs"
    return {one.id: [line[:81] for line in (logs / one.ref).read_text().splitlines()] for one in forks}


@pytest.mark.parametrize("change", ["commit", "rollback"])
def test_a_generation_that_no_record_has_goes_with_garbage(tmp_path: Path, change: str) -> None:
    """Wherever what begins another one is killed."""
    path = tmp_path / "store"
    world = World(path)
    world.create("web")
    world.write("web", "mine")
    world.store.close()

    found = []
    for world, _ in after_each_kill(path, tmp_path / "errors", CHANGES[change]):
        store = world.store
        (web,) = world.containers.all()
        there = (len(store.history.refs(CONTAINERS)), len(list(path.glob("containers/*/gen/*"))))
        forget_left(world.containers)
        count = len(web.record.generations)
        found.append(there != (count, count))
        assert len(store.history.refs(CONTAINERS)) == len(list(path.glob("containers/*/gen/*"))) == count
        assert check_containers(store) == []
        assert web.paths.generation(web.record.current).exists()
        world.write("web", f"mine {len(found)}")
    assert any(found)
