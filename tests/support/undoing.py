"""A store with containers, and commands on them that are noted, taken back and done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from runtime import forking, removal
from runtime.branches import merging
from runtime.branches.forgetting import forget
from runtime.branches.undoing import Plan, carry_out, plan_inverse, plan_restore
from runtime.containers import Container, Containers
from runtime.settings import Settings
from runtime.states import States
from tests.support.collecting import noise, write
from tests.support.killing import killed_anywhere
from vcs.errors import NotFound
from vcs.history import BRANCHES, Author
from vcs.model import CommitId
from vcs.reflogs import lines_of, log_path
from vcs.retention import Rules
from vcs.store import Store
from vcs.takingback import next_redo, next_undo, restoring

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


def after_each_kill(store: Path, errors: Path, work: Callable[[World], object]) -> Iterator[tuple[World, bool]]:
    """Kill something at each of its calls; then what is there, and whether it had been done. No store is open then, and
    it begins with what is in it now each time."""

    def armed(arm: Callable[[], None]) -> None:
        with Store.open(store) as opened:
            world = World.of(opened)
            arm()
            work(world)

    for is_done in killed_anywhere(armed, errors, store):
        with Store.open(store) as opened:
            yield World.of(opened), is_done
