"""Changes of containers put aside, and brought back."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from runtime.branches.stashes import Applied, Stash, Stashes
from runtime.capturing.capture import Capture
from runtime.containers import Container
from runtime.overlay import prepare_upper
from runtime.settings import Settings
from tests.runtime.overlay_cases import Layers, described, needs_root
from tests.runtime.test_upper_random import STEPS, Hand, Step, make_base
from tests.support.collecting import NOW, git_fsck
from tests.support.killing import killed_anywhere
from tests.support.undoing import AUTHOR, World
from vcs.check import check
from vcs.collect import collect
from vcs.errors import NotFound
from vcs.importer import import_directory
from vcs.merging import Favour
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot
from vcs.store import Store
from vcs.takingback import stacks


class Bench(World):
    """The same, with stashes."""

    @property
    def stashes(self) -> Stashes:
        return Stashes(self.containers)

    def push(self, name: str, text: str | None = None) -> Stash | None:
        self.do("stash", name)
        found = self.stashes.push(self.containers.find(name), text, AUTHOR)
        return found and found[0]

    def bring(  # type: ignore[override]
        self, number: int | None = None, into: str | None = None, favour: Favour = None, *, drop: bool = True
    ) -> Applied:
        self.do("stash", "pop")
        stash = self.stashes.find(number)
        container = self.stashes.owner(stash) if into is None else self.containers.find(into)
        return self.stashes.apply(stash, container, favour, AUTHOR, drop=drop)

    def root(self, name: str) -> Snapshot:
        """The container's state."""
        return state(self.store, self.containers.find(name))

    def changes(self, name: str) -> list[str]:
        """What is not committed in it."""
        found = self.states.changes(self.containers.find(name))
        return [f"{change.letter} {change.path.decode()}" for change in found]

    def file(self, name: str, path: str, text: str) -> None:
        """What a run of the container would have left."""
        file = self.containers.find(name).upper / path
        file.parent.mkdir(mode=0o755, exist_ok=True, parents=True)
        file.write_text(text)

    def numbers(self) -> list[int]:
        return [stash.number for stash in self.stashes.all()]


def state(store: Store, container: Container) -> Snapshot:
    scratch = Scratch(store, keep=1 << 30)
    return Snapshot(scratch, Capture(store, container).now(scratch).root)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "store")
    yield made
    assert check(made.store).problems == []
    assert git_fsck(made.store) == ""
    made.store.close()


def test_put_aside_and_brought_back(world: Bench) -> None:
    world.create("web")
    world.write("web", "mine")
    before = world.root("web").id
    stash = world.push("web", "half of it")
    assert stash is not None
    assert (world.text("web"), world.changes("web"), world.numbers()) == (None, [], [1])
    assert stash.info.message == (
        f"half of it\n\nContainer: web\nCommand: true\nContainer-Id: {world.containers.find('web').id}\nChanges: A1\n"
    )
    assert (stash.base, stash.info.root) == (world.base, before)
    applied = world.bring()
    assert (applied.how, [change.letter for change in applied.changes]) == ("applied", ["A"])
    assert (world.text("web"), world.numbers()) == ("mine", [])
    assert world.changes("web") == ["A /text"]
    assert world.states.head(world.containers.find("web")) == world.base, "it is not committed"
    assert world.root("web").id == before
    collect(world.store, since=NOW, commits=world.containers.bases)
    assert world.text("web") == "mine", "no ref leads to what is below it"
    commit = world.commit("web", branch="main")
    assert world.store.commit(commit).parents == (world.base,)
    assert world.store.commit(commit).root == before


def test_git_shows_a_stash(world: Bench) -> None:
    world.create("web")
    world.write("web", "mine")
    stash = world.push("web")
    assert stash is not None
    assert world.store.history.resolve("stashes/1") == stash.info.id
    assert stash.info.message.startswith(f"Stash of web on {world.base[:12]} base\n\n")
    assert world.store.history.reflog("refs/stashes/1")[0].message == f"stash: Stash of web on {world.base[:12]} base"
    collect(world.store, since=NOW, commits=world.containers.bases)
    assert world.store.snapshot_of(stash.info.id).find(b"text") is not None


def test_each_step_is_taken_back_and_done_again(world: Bench) -> None:
    world.create("web")
    world.write("web", "mine")
    seen = [world.look()]
    texts = [(world.text("web"), world.numbers())]
    for step in (lambda: world.push("web"), world.bring, lambda: world.push("web", "again"), lambda: let_go(world)):
        step()
        seen.append(world.look())
        texts.append((world.text("web"), world.numbers()))
    assert texts == [("mine", []), (None, [1]), ("mine", []), (None, [1]), (None, [])]
    for number in (3, 2, 1, 0):
        world.undo()
        assert (world.look(), world.text("web"), world.numbers()) == (seen[number], *texts[number])
    for number in (1, 2, 3, 4):
        world.redo()
        assert (world.look(), world.text("web"), world.numbers()) == (seen[number], *texts[number])


def let_go(world: Bench) -> None:
    world.do("stash", "clear")
    world.stashes.drop(world.stashes.all())


def test_a_rollback_can_be_undone_after_a_stash_too(world: Bench) -> None:
    """A stash leaves the container as a rollback does."""
    world.create("web")
    world.write("web", "mine")
    world.push("web")
    world.states.undo_rollback(world.containers.find("web"))
    assert (world.text("web"), world.numbers()) == ("mine", [1])


def test_nothing_to_put_aside(world: Bench) -> None:
    world.create("web")
    refs, operations = world.store.history.refs("refs/"), len(world.store.operations.read())
    assert world.push("web") is None
    world.write("web", "mine")
    world.commit("web")
    operations += 1
    assert world.push("web") is None
    assert world.store.history.refs("refs/").keys() - refs.keys() == {
        world.containers.find("web").ref.removeprefix("refs/")
    }
    assert len(world.store.operations.read()) == operations


def test_stashes_keep_their_numbers(world: Bench) -> None:
    world.create("web")
    for text in "abc":
        world.write("web", text)
        world.push("web", text)
    assert world.numbers() == [3, 2, 1]
    world.bring(2)
    assert (world.text("web"), world.numbers()) == ("b", [3, 1])
    world.write("web", "d")
    world.push("web", "d")
    assert [stash.info.message[:1] for stash in world.stashes.all()] == ["d", "c", "a"]
    assert world.numbers() == [4, 3, 1]
    with pytest.raises(NotFound, match="no stash 2"):
        world.bring(2)
    let_go(world)
    with pytest.raises(NotFound, match="there is no stash"):
        world.bring()


def test_into_another_container_on_another_commit(world: Bench) -> None:
    world.create("web")
    world.create("db")
    world.file("db", "data", "data\n")
    on = world.commit("db")
    world.file("db", "more", "not committed\n")
    world.write("web", "mine")
    world.push("web")
    applied = world.bring(into="db", drop=False)
    assert (applied.how, world.numbers()) == ("applied", [1])
    assert world.text("db") == "mine"
    assert set(world.changes("db")) == {"A /more", "A /text"}
    assert world.states.head(world.containers.find("db")) == on
    assert world.bring(into="db").how == "up-to-date"
    assert world.numbers() == [], "it is there, so it is dropped"


def test_times_alone_are_brought_back_too(world: Bench) -> None:
    world.create("web")
    upper = world.containers.find("web").upper
    upper.mkdir(mode=0o755)
    os.utime(upper, (7, 7))
    world.push("web")
    assert (world.bring().how, world.changes("web")) == ("applied", ["M /"])
    assert world.root("web").root.mtime == 7_000_000_000


def test_what_is_deleted_is_deleted_again(world: Bench) -> None:
    world.create("web")
    world.file("web", "d/x", "x")
    world.commit("web", branch="main")
    container = world.containers.find("web")
    container.upper.mkdir(mode=0o755)
    whiteout(container.upper / "d")
    assert world.changes("web")[-2:] == ["D /d", "D /d/x"]
    world.push("web")
    assert world.root("web").find(b"d/x") is not None
    world.file("web", "other", "other")
    world.bring()
    assert world.root("web").find(b"d") is None
    assert world.root("web").find(b"other") is not None


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def test_conflicts_change_nothing_and_keep_the_stash(world: Bench) -> None:
    world.create("web")
    world.write("web", "mine\n")
    world.push("web")
    world.write("web", "other\n")
    before = world.look(), world.store.history.refs("refs/"), world.containers.find("web").record
    applied = world.bring()
    assert applied.how == "conflicts"
    assert [(conflict.kind, conflict.path) for conflict in applied.conflicts] == [("added", b"/text")]
    assert (world.look(), world.store.history.refs("refs/"), world.containers.find("web").record) == before
    assert world.bring(favour="ours").how == "up-to-date"
    world.undo()
    assert world.bring(favour="theirs").how == "applied"
    assert world.text("web") == "mine\n"


def test_a_container_that_was_removed_is_told(world: Bench) -> None:
    world.create("web")
    world.write("web", "mine")
    world.push("web")
    world.rename("web", "other")
    assert world.stashes.owner(world.stashes.find()).name == "other"
    world.remove("other")
    with pytest.raises(NotFound, match="container 'web', of which stash 1 was made, was removed"):
        world.bring()
    world.create("db")
    assert world.bring(into="db").how == "applied"
    assert world.text("db") == "mine"


COMMANDS: dict[str, Callable[[Bench], object]] = {
    "push": lambda world: world.push("web"),
    "pop": lambda world: world.bring(1),
    "drop": let_go,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_anywhere_nothing_is_lost(tmp_path: Path, command: str) -> None:
    """The change is in the container or in the stash, or in both; and what the log tells of it is taken back."""
    path = tmp_path / "store"
    world = Bench(path)
    world.create("web")
    world.write("web", "mine")
    if command != "push":
        world.push("web")
    before, depth = (world.look(), world.text("web"), world.numbers()), len(stacks(world.store.operations.read())[0])
    world.store.close()

    def work(arm: Callable[[], None]) -> None:
        with Store.open(path) as store:
            world = Bench.of(store)
            arm()
            COMMANDS[command](world)  # type: ignore[arg-type]

    for number, _ in enumerate(killed_anywhere(work, tmp_path / "errors")):
        with Store.open(path) as store:
            again = Bench.of(store)
            assert isinstance(again, Bench)
            collect(store, since=0, commits=again.containers.bases)
            assert check(store).problems == []
            assert command == "drop" or again.text("web") == "mine" or again.numbers() == [1]
            while len(stacks(store.operations.read())[0]) > depth:
                again.undo()
            assert (again.look(), again.text("web"), again.numbers()) == before, number
    assert number > 3


# -- by chance


@pytest.fixture(scope="module")
def chances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Layers]]:
    """A store whose commit is of a directory, over which overlays can be mounted."""
    layers = Layers(tmp_path_factory.mktemp("stashes"))
    make_base(layers.lower)
    world = Bench(layers.top / "store")
    with world.store.writing():
        with world.store.batch() as batch:
            root = import_directory(batch, layers.lower).root
        world.base = world.store.add_commit(root, {"config": {}}, "base\n", AUTHOR)
        world.store.history.move("refs/heads/main", world.base, None, "made", AUTHOR, force=True)
    yield world, layers
    assert check(world.store).problems == []
    world.store.close()
    shutil.rmtree(layers.top)


@needs_root
@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_push_and_pop_are_nothing_at_all(chances: tuple[Bench, Layers], steps: list[Step]) -> None:
    """Whatever a container did: modes, owners, extended attributes, deletions, hard links, opaque directories."""
    world, layers = chances
    world.do("create")
    container = world.containers.create("main", world.base, Settings(args=("true",)), AUTHOR)
    prepare_upper(layers.lower, container.upper, container.work)
    layers.upper, layers.work = container.upper, container.work
    with layers.mounted() as merged:
        hand = Hand(merged)
        for operation, pick, other, value in steps:
            try:
                operation(hand, pick, other, value)
            except OSError:
                continue  # what the kernel refuses is no step
    before = state(world.store, container)
    stash = world.push(container.name)
    assert (stash is None) == (before.id == world.store.commit(world.base).root)
    assert world.root(container.name).id == world.store.commit(world.base).root
    if stash is not None:
        assert world.bring().how == "applied"
    assert described(world.root(container.name)) == described(before)
    assert world.root(container.name).id == before.id
    assert world.numbers() == []
    world.remove(container.name, discard=True)
