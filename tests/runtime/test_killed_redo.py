"""A redo that was killed between its steps goes on, or is taken back and done again, whatever came in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import removal
from runtime.check import check_containers
from tests.support.undoing import World, after_each_kill
from vcs.check import check
from vcs.takingback import stacks


class Several(World):
    """Several commands that are one operation."""

    def do(self, *args: str) -> None:
        if self.store.operations.current != self.begun:
            super().do(*args)
            self.begun = self.store.operations.current

    begun = "none"


def _remove_both(world: World) -> None:
    for name in ("web", "db"):
        removal.remove(world.containers, world.containers.find(name), world.author, discard=False)


def _change_both(world: World) -> None:
    world.rename("web", "other")
    world.update("db", "host")
    world.rollback("db", world.base)


def _commit_all(world: World) -> None:
    for container in world.containers.all():
        world.commit(container.name)


BETWEEN: tuple[Callable[[World], object], ...] = (
    lambda _: None,
    _commit_all,
    lambda world: world.branch("new", world.base),
    lambda world: world.create("new"),
)


def depth(world: World) -> int:
    """How often undo can be said."""
    return len(stacks(world.store.operations.read())[0])


@pytest.mark.parametrize("change", [_remove_both, _change_both])
def test_a_redo_that_was_killed(tmp_path: Path, change: Callable[[World], None]) -> None:
    """Wherever that is: said again at once, it does the rest; and undo takes back what came then, and what it did, so
    that all of it can be done again."""
    path = tmp_path / "store"
    world = World(path)
    for name in ("web", "db"):
        world.create(name)
        world.write(name, f"of {name}")
    several = Several.of(world.store)
    several.do("several")
    change(several)
    done = world.look()
    world.undo()
    undone, first = world.look(), depth(world)
    world.store.close()
    partial = 0
    for again, _ in after_each_kill(path, tmp_path / "errors", World.redo):
        if again.store.operations.read()[-1].is_partial:
            how, partial = partial % (len(BETWEEN) + 1), partial + 1
            if how < len(BETWEEN):
                BETWEEN[how](again)
                while depth(again) > first:
                    again.undo()
                assert again.look() == undone
            again.redo()
        elif depth(again) == first:
            again.redo()
        assert (again.look(), depth(again)) == (done, first + 1)
        again.undo()
        assert (again.look(), depth(again)) == (undone, first)
        assert check_containers(again.store) == []
        assert check(again.store).problems == []
    assert partial > 2 * len(BETWEEN)
