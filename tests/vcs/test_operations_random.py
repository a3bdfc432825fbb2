"""Commands on refs taken back and done again in any order, beside a model."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.support.operations import AUTHOR, add, do, redo, refs, undo
from vcs.check import check
from vcs.collect import collect
from vcs.errors import AlreadyExists, Conflict, NotFound
from vcs.history import BRANCHES, TAGS
from vcs.model import CommitId
from vcs.store import Store


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
