"""Commands on containers taken back and done again in any order, beside a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from runtime.pastcontainers import PastContainers
from tests.support.undoing import World, look
from vcs.check import check
from vcs.collect import collect
from vcs.errors import AlreadyExists, BadInput, Conflict, NotFound
from vcs.history import BRANCHES
from vcs.model import CommitId
from vcs.past import as_of


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
