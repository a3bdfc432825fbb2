"""Operations on containers taken back: names, settings, heads and states, in any order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from runtime import forking, removal
from runtime.branches import merging
from runtime.branches.forgetting import forget
from runtime.branches.undoing import Plan, carry_out, plan_inverse, plan_restore
from runtime.check import check_containers
from runtime.containers import CONTAINERS, Container, Containers
from runtime.generations import forget_left
from runtime.pastcontainers import PastContainers
from runtime.settings import Settings
from runtime.states import States
from tests.support.collecting import NOW, noise, write
from tests.support.killing import killed_anywhere
from vcs.check import check
from vcs.collect import collect
from vcs.errors import AlreadyExists, BadInput, Conflict, NotFound
from vcs.history import BRANCHES, Author
from vcs.model import CommitId
from vcs.past import as_of
from vcs.reflogs import lines_of, log_path
from vcs.retention import Rules
from vcs.store import Store
from vcs.takingback import next_redo, next_undo, restoring, stacks

AUTHOR = Author("tester", "tester@localhost", 1_800_000_000)
MAIN = BRANCHES + "main"


class World:
    """A store with a commit on main, and commands on its containers."""

    def __init__(self, path: Path) -> None:
        self.store = Store.create(path)
        self.author = AUTHOR
        root = write(self.store, {"noise": noise(0, 500)})
        self.base = self.store.add_commit(root, {"config": {}}, "base\n", self.author)
        self.store.history.move(MAIN, self.base, None, "made", self.author)
        self._open()

    @classmethod
    def of(cls, store: Store) -> World:
        """What is in a store."""
        world = cls.__new__(cls)
        world.store, world.base = store, next(reversed(list(store.history.log([store.branches()["main"]])))).id
        world._open()
        return world

    def _open(self) -> None:
        self.author = AUTHOR
        self.containers = Containers(self.store)
        self.states = States(self.containers)

    def do(self, *args: str) -> None:
        """Begin a command, a minute after the one before."""
        author = self.author = Author(self.author.name, self.author.email, self.author.time + 60)
        self.store.operations.begin(args, lambda: author)

    def create(self, name: str) -> Container:
        self.do("create", name)
        return self.containers.create("main", self.base, Settings(args=("true",)), self.author, name)

    def write(self, name: str, text: str) -> None:
        """What a run of the container would have left."""
        upper = self.containers.find(name).upper
        upper.mkdir(mode=0o755, exist_ok=True)
        (upper / "text").write_text(text)

    def text(self, name: str) -> str | None:
        """What the container's file says now."""
        container = self.containers.find(name)
        file = container.upper / "text"
        if file.exists():
            return file.read_text()
        snapshot = self.store.snapshot_of(container.base)
        try:
            entry = snapshot.lookup(b"text")
        except NotFound:
            return None
        return snapshot.read(entry.content).decode()  # type: ignore[arg-type]

    def commit(self, name: str, branch: str | None = None) -> CommitId:
        self.do("commit", name)
        return self.states.commit(self.containers.find(name), f"commit of {name}", self.author, branch=branch).commit

    def rollback(self, name: str, commit: CommitId) -> None:
        self.do("rollback", name)
        self.states.rollback(self.containers.find(name), commit, self.author)

    def rename(self, name: str, new: str) -> None:
        self.do("rename", name, new)
        self.containers.rename(self.containers.find(name), new)

    def update(self, name: str, host: str) -> None:
        self.do("update", name)
        with self.containers.changing(self.containers.find(name)) as now:
            changed = msgspec.structs.replace(now.record.settings, hostname=host)
            self.containers.replace(now, msgspec.structs.replace(now.record, settings=changed))

    def remove(self, name: str, *, discard: bool = False) -> None:
        self.do("rm", name)
        removal.remove(self.containers, self.containers.find(name), self.author, discard=discard)

    def fork(self, name: str, count: int) -> None:
        self.do("fork", name)
        forking.fork(self.containers, self.containers.find(name), forking.Plan(count, name), self.author)

    def promote(self, name: str, branch: str, *, force: bool) -> None:
        self.do("promote", name)
        forking.promote(self.containers, self.containers.find(name), branch, "promoted", self.author, force=force)

    def branch(self, name: str, commit: CommitId) -> None:
        self.do("branch", "-f", name)
        self.store.history.move(BRANCHES + name, commit, None, "moved", self.author, force=True)

    def rename_branch(self, old: str, new: str) -> None:
        self.do("branch", "-m", "-f", old, new)
        commit = self.store.branches().get(old)
        if commit is None or old == new:
            raise NotFound("no such branch")
        self.store.history.move(BRANCHES + new, commit, None, "renamed", self.author, force=True)
        self.store.history.delete(BRANCHES + old)

    def tag(self, name: str, commit: CommitId, text: str | None) -> None:
        self.do("tag", "-f", name)
        self.store.history.tag(name, commit, text, self.author, force=True)

    def bring(self, how: str, branch: str, commit: CommitId) -> None:
        self.do(how, branch)
        wish = merging.Wish(branch, favour="ours")
        if how == "merge":
            merging.merge(self.store, commit, "other", wish, self.author)
        else:
            step = merging.revert if how == "revert" else merging.cherry_pick
            step(self.store, commit, wish, self.author)

    def forget(self, branch: str) -> None:
        self.do("forget", branch)
        forget(self.containers, [branch], Rules(last=1), self.author)

    def restore(self, operation: str) -> None:
        point = self.store.operations.find(operation)
        moves = restoring(self.store.operations.read(), point.id)
        plan = plan_restore(self.store, point, moves)
        carry_out(self.containers, plan, ["op", "restore"], self.author)

    def undo(self) -> Plan:
        self.do("undo")
        plan = plan_inverse(self.containers, next_undo(self.store.operations), "undo")
        carry_out(self.containers, plan, ["undo"], self.author)
        return plan

    def redo(self) -> None:
        self.do("redo")
        plan = plan_inverse(self.containers, next_redo(self.store.operations), "redo")
        carry_out(self.containers, plan, ["redo"], self.author)

    def look(self) -> dict[str, object]:
        """Branches and tags, and of each container all but what is in its files."""
        return look(self.store, self.containers)

    def reflogs(self) -> dict[str, list[bytes]]:
        """Of the branches."""
        return {
            ref: lines_of(log_path(self.store.repository, ref)) for ref in map(BRANCHES.__add__, self.store.branches())
        }


def look(store: Store, containers: Containers) -> dict[str, object]:
    """Branches and tags, and of each container all but what is in its files."""
    found: dict[str, object] = {**store.branches()}
    found |= {f"tag {name}": store.history.target(f"refs/tags/{name}") for name in store.tags()}
    for one in containers.all():
        found[one.id] = one.name, one.record.settings, States(containers).head(one)
    return found


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
    for text in reversed(texts):
        world.undo()
        assert world.text("web") == text
    for text in (*texts[1:], None):
        world.redo()
        assert world.text("web") == text


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

    def work(arm: Callable[[], None]) -> None:
        with Store.open(path) as store:
            world = World.of(store)
            arm()
            CHANGES[change](world)

    for number, _ in enumerate(killed_anywhere(work, tmp_path / "errors")):
        with Store.open(path) as store:
            again = World.of(store)
            while len(stacks(store.operations.read())[0]) > depth:
                again.undo()
            while len(stacks(store.operations.read())[0]) < depth:
                again.redo()
            assert again.look() == before, number
            assert again.text("web") == "mine"
            assert check(store).problems == []
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
    for _ in killed_anywhere(work, tmp_path / "errors"):
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


def after_each_kill(store: Path, errors: Path, work: Callable[[World], object]) -> Iterator[tuple[World, bool]]:
    """Kill something at each of its calls; then what is there, and whether it had been done. No store is open then."""

    def armed(arm: Callable[[], None]) -> None:
        with Store.open(store) as opened:
            world = World.of(opened)
            arm()
            work(world)

    for is_done in killed_anywhere(armed, errors):
        with Store.open(store) as opened:
            yield World.of(opened), is_done


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

    def work(arm: Callable[[], None]) -> None:
        with Store.open(path) as store:
            world = World.of(store)
            arm()
            CHANGES[change](world)

    found = []
    for _ in killed_anywhere(work, tmp_path / "errors"):
        with Store.open(path) as store:
            world = World.of(store)
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


class Commands(RuleBasedStateMachine):
    """Random commands on containers and branches, with a model: what there was after each."""

    names = st.sampled_from(["a", "b", "c"])
    texts = st.text("xyz", min_size=1, max_size=2)
    branches = st.sampled_from(["work", "main"])
    numbers = st.integers(0, 99)

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.world = World(Path(self.directory.name) / "store")
        self.before: list[dict[str, object]] = []
        self.ahead: list[dict[str, object]] = []
        self.commits: list[CommitId] = []
        self.seen: dict[str, dict[str, object]] = {}
        """What there was after each operation."""

    @initialize()
    def begin(self) -> None:
        for name, branch in (("a", "main"), ("b", "work")):
            self.world.create(name)
            for text in ("first", "second"):
                self.world.write(name, text + name)
                self.world.commit(name, branch)
        self.before = [self.world.look()]
        self.commits = [self.world.base]
        self.note()

    def note(self) -> None:
        self.seen[self.world.store.operations.find("@").id] = self.before[-1]
        self.commits += [commit for commit in self.world.store.branches().values() if commit not in self.commits]

    def attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except (AlreadyExists, BadInput, Conflict, NotFound):
            assert self.world.look() == self.before[-1]
            return
        newest = self.world.store.operations.find("@")
        if newest.id == self.world.store.operations.current:
            self.before.append(self.world.look())
            self.ahead = []
            self.note()
        assert self.world.look() == self.before[-1]

    @rule(name=names)
    def create(self, name: str) -> None:
        self.attempt(lambda: self.world.create(name))

    @rule(name=names, text=texts)
    def write(self, name: str, text: str) -> None:
        if name in {one.name for one in self.world.containers.all()}:
            self.world.write(name, text)

    @rule(name=names, branch=st.sampled_from([None, "work", "main"]))
    def commit(self, name: str, branch: str | None) -> None:
        self.attempt(lambda: self.commits.append(self.world.commit(name, branch)))

    @rule(name=names, number=st.integers(0, 9))
    def rollback(self, name: str, number: int) -> None:
        commit = self.commits[number % len(self.commits)]
        self.attempt(lambda: self.world.rollback(name, commit))

    @rule(name=names)
    def undo_rollback(self, name: str) -> None:
        def work() -> None:
            self.world.do("rollback", "--undo")
            self.world.states.undo_rollback(self.world.containers.find(name))

        self.attempt(work)

    @rule(name=names, new=names)
    def rename(self, name: str, new: str) -> None:
        self.attempt(lambda: self.world.rename(name, new))

    @rule(name=names, host=texts)
    def update(self, name: str, host: str) -> None:
        self.attempt(lambda: self.world.update(name, host))

    @rule(name=names, discard=st.booleans())
    def remove(self, name: str, discard: bool) -> None:
        self.attempt(lambda: self.world.remove(name, discard=discard))

    @rule(name=branches)
    def delete_branch(self, name: str) -> None:
        def work() -> None:
            self.world.do("branch", "-d", name)
            self.world.store.history.delete(BRANCHES + name)

        reflogs = self.world.reflogs()
        count = len(self.before)
        self.attempt(work)
        if len(self.before) > count:
            self.undo()
            assert self.world.reflogs() == reflogs
            self.redo()

    def commit_of(self, number: int) -> CommitId:
        return self.commits[number % len(self.commits)]

    @rule(name=branches, number=numbers)
    def branch(self, name: str, number: int) -> None:
        self.attempt(lambda: self.world.branch(name, self.commit_of(number)))

    @rule(old=branches, new=branches)
    def rename_branch(self, old: str, new: str) -> None:
        self.attempt(lambda: self.world.rename_branch(old, new))

    @rule(name=st.sampled_from(["v1", "v2"]), number=numbers, text=st.none() | texts)
    def tag(self, name: str, number: int, text: str | None) -> None:
        self.attempt(lambda: self.world.tag(name, self.commit_of(number), text))

    @rule(how=st.sampled_from(["merge", "revert", "cherry-pick"]), name=branches, number=numbers)
    def bring(self, how: str, name: str, number: int) -> None:
        self.attempt(lambda: self.world.bring(how, name, self.commit_of(number)))

    @rule(name=branches)
    def forget(self, name: str) -> None:
        self.attempt(lambda: self.world.forget(name))

    @rule(name=names, count=st.integers(1, 2))
    def fork(self, name: str, count: int) -> None:
        self.attempt(lambda: self.world.fork(name, count))

    @rule(name=names, branch=branches, force=st.booleans())
    def promote(self, name: str, branch: str, force: bool) -> None:
        self.attempt(lambda: self.world.promote(name, branch, force=force))

    @rule(number=numbers)
    def restore(self, number: int) -> None:
        everything = self.world.store.operations.read()
        self.attempt(lambda: self.world.restore(everything[number % len(everything)].id))

    @rule(number=numbers)
    def look_back(self, number: int) -> None:
        """What --at-op shows is what there was."""
        if self.seen:
            operation = list(self.seen)[number % len(self.seen)]
            with as_of(self.world.store.path, operation) as past:
                assert look(past, PastContainers(past)) == self.seen[operation]

    @rule()
    def undo(self) -> None:
        if len(self.before) == 1:
            return
        texts = {one.name: self.world.text(one.name) for one in self.world.containers.all()}
        plan = self.world.undo()
        self.ahead.append(self.before.pop())
        assert self.world.look() == self.before[-1]
        self.note()
        if not (plan.made or plan.removed or plan.changed):
            assert texts == {one.name: self.world.text(one.name) for one in self.world.containers.all()}

    @rule()
    def redo(self) -> None:
        if not self.ahead:
            with pytest.raises(NotFound, match="nothing to redo"):
                self.world.redo()
            return
        self.world.redo()
        self.before.append(self.ahead.pop())
        assert self.world.look() == self.before[-1]
        self.note()

    @rule()
    def collect(self) -> None:
        collect(self.world.store, since=0, commits=self.world.containers.bases)

    def teardown(self) -> None:
        try:
            if self.commits:
                assert check(self.world.store).problems == []
                while len(self.before) > 1:
                    self.undo()
        finally:
            self.world.store.close()
            self.directory.cleanup()


TestCommands = Commands.TestCase
TestCommands.settings = settings(
    max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
