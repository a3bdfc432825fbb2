"""Commits of a branch written again: rebase and squash."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings

from runtime.branches.rewriting import rebase as rebasing
from runtime.branches.rewriting import squash as squashing
from runtime.containers import Containers
from runtime.settings import Settings
from tests.runtime.overlay_cases import described
from tests.support.collecting import NOW, git_fsck
from tests.support.killing import killed_anywhere
from tests.support.values import Spec, root
from tests.vcs.test_merging_random import Model, bases, operations
from vcs.check import check
from vcs.collect import collect
from vcs.errors import BadInput, Conflict, NotFound
from vcs.history import BRANCHES, Author
from vcs.merging import Favour
from vcs.model import CommitId
from vcs.scratch import Scratch
from vcs.store import Store

ADA = Author("Ada", "ada@example.org", 1_600_000_000, 120)
BEN = Author("Ben", "ben@example.org", 1_700_000_000, -90)
CONFIG = {"config": {"Cmd": ["sh"]}}


class World:
    """A store, with branches that grow."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.store = Store.create(path) if create else Store.open(path)
        self.containers = Containers(self.store)

    def add(
        self,
        branch: str,
        spec: Spec,
        message: str = "change\n",
        *,
        merged: Sequence[CommitId] = (),
        config: Mapping[str, object] = CONFIG,
    ) -> CommitId:
        """A commit of a whole root, on top of what a branch has."""
        with self.store.writing():
            with self.store.batch() as batch:
                made = root(batch, spec)
            old = self.store.history.target(BRANCHES + branch)
            commit = self.store.add_commit(made, dict(config), message, ADA, (*([old] if old else []), *merged))
            self.store.history.move(BRANCHES + branch, commit, old, message, ADA)
        return commit

    def branch(self, name: str, commit: CommitId) -> None:
        self.store.history.move(BRANCHES + name, commit, None, "branched", ADA)

    def tip(self, branch: str) -> CommitId:
        return self.store.branches()[branch]

    def titles(self, branch: str) -> list[str]:
        return [info.message.split("\n")[0] for info in self.store.history.log([self.tip(branch)])]

    def text(self, branch: str, path: bytes) -> str:
        snapshot = self.store.snapshot_of(self.tip(branch))
        return snapshot.read(snapshot.lookup(path).content).decode()  # type: ignore[arg-type]

    def rebase(
        self, upstream: str, branch: str, onto: str | None = None, favour: Favour = None, *, dry_run: bool = False
    ) -> rebasing.Outcome:
        start = self.store.history.resolve(upstream)
        target = start if onto is None else self.store.history.resolve(onto)
        wish = rebasing.Wish(branch, start, target, favour, dry_run)
        self.store.operations.begin(["rebase"], lambda: BEN)
        return rebasing.rebase(self.containers, wish, BEN)

    def squash(self, after: str, branch: str, text: str | None = None, *, dry_run: bool = False) -> squashing.Outcome:
        self.store.operations.begin(["squash"], lambda: BEN)
        commit = self.store.history.resolve(after)
        return squashing.squash(self.containers, commit, branch, text, BEN, dry_run=dry_run)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.store.path / "history.git"), *arguments],
            capture_output=True, text=True, check=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout

    def everything(self) -> tuple[str, list[str]]:
        """All refs and all layers."""
        return self.git("for-each-ref"), sorted(os.listdir(self.store.path / "layers"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "store")
    yield made
    assert check(made.store).problems == []
    assert git_fsck(made.store) == ""
    made.store.close()


def fork(world: World) -> None:
    """`main` has gone on since `work` began, which has two commits."""
    base = world.add("main", {"conf": b"1\n2\n3\n4\n5\n"}, "base\n")
    world.branch("work", base)
    world.add("work", {"conf": b"1\n2\n3\n4\nfive\n"}, "first\n\nContainer: web\nCommand: make\nChanges: M1\n")
    world.add("work", {"conf": b"1\n2\n3\n4\nfive\nsix\n", "new": b"new\n"}, "second\n\nChanges: A1 M1\n")
    world.add("main", {"conf": b"one\n2\n3\n4\n5\n", "more": b"more\n"}, "gone on\n")


def test_commits_are_done_again_with_their_authors_dates_and_messages(world: World) -> None:
    fork(world)
    messages = world.git("log", "-2", "--format=%B", "work")
    before = world.tip("work")
    outcome = world.rebase("main", "work")
    assert (outcome.how, outcome.before, outcome.commit) == ("rebased", before, world.tip("work"))
    assert [step.fate for step in outcome.steps] == ["written", "written"]
    assert world.text("work", b"conf") == "one\n2\n3\n4\nfive\nsix\n", "the second builds on what the first came to"
    assert world.text("work", b"new") == "new\n"
    assert world.text("work", b"more") == "more\n"
    assert world.titles("work") == ["second", "first", "gone on", "base"]
    assert world.git("log", "-2", "--format=%B", "work") == messages
    assert (
        world.git("log", "-2", "--format=%an %ae %ad|%cn %cd", "--date=raw", "work").splitlines()
        == ["Ada ada@example.org 1600000000 +0200|Ben 1700000000 -0130"] * 2
    )
    assert world.git("merge-base", "main", "work").strip() == world.tip("main")
    reason = f"rebase (finish): refs/heads/work onto {world.tip('main')}"
    assert world.store.history.reflog(BRANCHES + "work")[0].message == reason


def test_a_rebase_is_one_layer_one_step_and_can_be_taken_back(world: World) -> None:
    fork(world)
    before, layers = world.tip("work"), len(os.listdir(world.store.path / "layers"))
    world.rebase("main", "work")
    assert len(os.listdir(world.store.path / "layers")) == layers + 1
    (*_, operation) = world.store.operations.read()
    assert operation.refs == {BRANCHES + "work": (before, world.tip("work"))}


def test_again_there_is_nothing_to_do(world: World) -> None:
    fork(world)
    world.rebase("main", "work")
    before = world.everything()
    outcome = world.rebase("main", "work")
    assert (outcome.how, [step.fate for step in outcome.steps]) == ("up-to-date", ["kept", "kept"])
    assert outcome.commit == world.tip("work")
    assert world.everything() == before


def test_what_is_there_already_is_dropped_and_what_was_empty_is_kept(world: World) -> None:
    base = world.add("main", {"a": b"1"}, "base\n")
    world.branch("work", base)
    world.add("work", {"a": b"1", "fix": b"fix"}, "the same fix\n")
    world.add("work", {"a": b"1", "fix": b"fix"}, "a mark\n")
    world.add("work", {"a": b"1", "fix": b"fix", "own": b"own"}, "own\n")
    world.add("main", {"a": b"2", "fix": b"fix"}, "fixed\n")
    outcome = world.rebase("main", "work")
    assert [step.fate for step in outcome.steps] == ["dropped", "written", "written"]
    assert world.titles("work") == ["own", "a mark", "fixed", "base"]


def test_a_branch_with_nothing_of_its_own_is_moved(world: World) -> None:
    base = world.add("main", {"a": b"1"})
    world.branch("work", base)
    tip = world.add("main", {"a": b"2"})
    outcome = world.rebase("main", "work")
    assert (outcome.how, outcome.steps) == ("moved", ())
    assert world.tip("work") == tip == outcome.commit


def test_onto_another_commit(world: World) -> None:
    """`work` stands on `feature`, which is not wanted below it any more."""
    base = world.add("main", {"a": b"1"}, "base\n")
    world.branch("feature", base)
    feature = world.add("feature", {"a": b"1", "feature": b"f"}, "feature\n")
    world.branch("work", feature)
    world.add("work", {"a": b"1", "feature": b"f", "work": b"w"}, "work\n")
    world.add("main", {"a": b"2"}, "gone on\n")
    outcome = world.rebase("feature", "work", "main")
    assert (outcome.how, outcome.base) == ("rebased", feature)
    assert world.titles("work") == ["work", "gone on", "base"]
    assert [path for path, _ in world.store.snapshot_of(world.tip("work")).walk()] == [b"/", b"/a", b"/work"]


def test_the_image_config_is_done_again_too(world: World) -> None:
    base = world.add("main", {"a": b"1"})
    world.branch("work", base)
    world.add("work", {"a": b"1"}, config={"config": {"Cmd": ["sh"], "User": "web"}})
    world.add("main", {"a": b"1"}, config={"config": {"Cmd": ["sh"], "WorkingDir": "/srv"}})
    assert world.rebase("main", "work").how == "rebased"
    assert world.store.history.config(world.tip("work")) == {
        "config": {"Cmd": ["sh"], "User": "web", "WorkingDir": "/srv"}
    }


def test_conflicts_change_nothing_and_are_told_with_their_commit(world: World) -> None:
    fork(world)
    world.add("main", {"conf": b"one\n2\n3\n4\n5\n", "new": b"mine\n"}, "clash\n")
    before = world.everything()
    outcome = world.rebase("main", "work")
    assert (outcome.how, outcome.commit) == ("conflicts", None)
    assert [(step.fate, step.info.message[:6]) for step in outcome.steps] == [
        ("written", "first\n"),
        ("conflicts", "second"),
    ]
    assert [(conflict.kind, conflict.path) for conflict in outcome.steps[-1].conflicts] == [("added", b"/new")]
    assert world.everything() == before


@pytest.mark.parametrize(("favour", "text"), [("ours", "mine\n"), ("theirs", "new\n")])
def test_a_side_for_conflicts_only(world: World, favour: Favour, text: str) -> None:
    fork(world)
    world.add("main", {"conf": b"one\n2\n3\n4\n5\n", "new": b"mine\n"}, "clash\n")
    outcome = world.rebase("main", "work", favour=favour)
    assert (outcome.how, len(outcome.steps[1].conflicts)) == ("rebased", 1)
    assert world.text("work", b"new") == text
    assert world.text("work", b"conf") == "one\n2\n3\n4\nfive\nsix\n", "no conflict"


def test_a_dry_run_writes_nothing(world: World) -> None:
    fork(world)
    before = world.everything()
    outcome = world.rebase("main", "work", dry_run=True)
    assert (outcome.how, outcome.commit, [step.now for step in outcome.steps]) == ("rebased", None, [None, None])
    assert world.everything() == before


def test_a_merge_is_refused_by_name(world: World) -> None:
    fork(world)
    merge = world.add("work", {"conf": b"x"}, "Merge it\n", merged=[world.tip("main")])
    world.add("main", {"conf": b"y"}, "further\n")
    world.add("work", {"conf": b"z"}, "after it\n")
    before = world.everything()
    with pytest.raises(BadInput, match=f"{merge[:12]} is a merge .'Merge it'.") as error:
        world.rebase("main", "work")
    assert error.value.facts["rebasing"] == merge[:12]
    assert world.everything() == before
    assert world.rebase(merge, "work", "main", "theirs").how == "rebased", "what the advice says"


def test_what_cannot_be_rebased(world: World) -> None:
    fork(world)
    world.add("alone", {"a": b"1"})
    with pytest.raises(NotFound, match="no branch 'none'"):
        world.rebase("main", "none")
    with pytest.raises(NotFound, match="no commit in common"):
        world.rebase("alone", "work")


def test_containers_stay_and_are_named(world: World) -> None:
    fork(world)
    tip = world.tip("work")
    for name, commit in (
        ("on-tip", tip),
        ("below", world.store.commit(tip).parents[0]),
        ("on-main", world.tip("main")),
    ):
        world.containers.create("work", commit, Settings(args=("true",)), ADA, name)
    assert world.rebase("main", "work").containers == ("below", "on-tip")
    collect(world.store, since=NOW, commits=world.containers.bases)
    assert world.containers.find("on-tip").base == tip
    assert world.store.snapshot_of(tip).find(b"new") is not None


def test_a_branch_that_moves_meanwhile_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fork(world)
    real = Store.add_commit
    moved: list[CommitId] = []

    def add_commit(store: Store, *arguments: object) -> CommitId:
        monkeypatch.setattr(Store, "add_commit", real)
        moved.append(world.add("work", {"conf": b"other"}, "somebody else's\n"))
        return real(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "add_commit", add_commit)
    with pytest.raises(Conflict, match="has moved"):
        world.rebase("main", "work")
    assert [world.tip("work")] == moved


@pytest.mark.parametrize("what", ["rebase", "squash"])
def test_killed_anywhere_the_branch_is_old_or_new(tmp_path: Path, what: str) -> None:
    path = tmp_path / "store"
    made = World(path)
    fork(made)
    old = made.tip("work")
    made.store.close()
    times = 0

    def work(arm: object) -> None:
        world = World(path, create=False)
        arm()  # type: ignore[operator]
        world.rebase("main", "work") if what == "rebase" else world.squash("work~2", "work")

    for _ in killed_anywhere(work, tmp_path / "errors"):
        times += 1
        world = World(path, create=False)
        assert check(world.store).problems == []
        tip = world.tip("work")
        assert world.titles("work") in (
            ["second", "first", "base"],
            ["second", "first", "gone on", "base"] if what == "rebase" else ["Squash of 2 commits", "base"],
        )
        if tip != old:
            world.store.history.move(BRANCHES + "work", old, tip, "back", ADA)
        collect(world.store, since=NOW)
        world.store.close()
    assert times > 3


# -- squash


def test_commits_become_one_with_the_last_ones_state(world: World) -> None:
    fork(world)
    before = world.store.commit(world.tip("work"))
    layers = os.listdir(world.store.path / "layers")
    outcome = world.squash("main~1", "work")
    now = world.store.commit(world.tip("work"))
    assert (now.root, now.parents, outcome.commit) == (before.root, (world.store.history.resolve("main~1"),), now.id)
    assert now.message == (
        "Squash of 2 commits\n\n* first\n* second\n\nContainer: web\nCommand: make\nChanges: A1 M1\n"
    )
    assert (now.author, now.time) == (BEN.name, BEN.time)
    assert [info.message[:6] for info in outcome.squashed] == ["first\n", "second"]
    assert os.listdir(world.store.path / "layers") == layers, "everything is there"
    assert world.store.history.reflog(BRANCHES + "work")[0].message == "squash: Squash of 2 commits"
    assert git_fsck(world.store) == ""


def test_a_message_and_all_commands_are_kept(world: World) -> None:
    world.add("main", {}, "base\n")
    for number, command in enumerate(("apt update", "apt install x", "apt update")):
        text = f"{number}\n\nContainer: web\nCommand: {command}\nExit-Code: 0\nDuration: 1.0s\nChanges: A1\n"
        world.add("main", {"a": b"%d" % number}, text)
    world.squash("main~3", "main", "x is there")
    assert world.store.commit(world.tip("main")).message == (
        "x is there\n\nContainer: web\nCommand: apt update\nCommand: apt install x\nChanges: A1\n"
    )


def test_one_commit_gets_another_message_or_nothing_is_done(world: World) -> None:
    fork(world)
    before = world.everything()
    assert world.squash("work~1", "work").squashed == ()
    assert world.squash("work", "work", "x").squashed == ()
    assert world.everything() == before
    world.squash("work~1", "work", "better")
    assert world.titles("work") == ["better", "first", "base"]


def test_what_was_merged_in_stays_a_parent(world: World) -> None:
    fork(world)
    main = world.tip("main")
    world.add("work", {"conf": b"x"}, "Merge main\n", merged=[main])
    world.add("work", {"conf": b"y"}, "after\n")
    outcome = world.squash("main~1", "work")
    assert outcome.parents == (world.store.history.resolve("main~1"), main)
    assert world.store.history.merge_base([main, world.tip("work")]) == main, "it is merged still"
    assert sorted(info.message.split("\n")[0] for info in outcome.squashed) == [
        "Merge main",
        "after",
        "first",
        "second",
    ]


def test_a_side_branch_of_what_is_squashed_is_squashed_too(world: World) -> None:
    fork(world)
    other = world.add("other", {"o": b"o"}, "outside\n")
    first = world.store.history.resolve("work~1")
    world.branch("side", first)
    world.add("side", {"s": b"1"}, "Merge outside\n", merged=[other])
    side = world.add("side", {"s": b"2"}, "side\n")
    world.add("work", {"s": b"2"}, "Merge side\n", merged=[side])
    outcome = world.squash("main~1", "work")
    assert outcome.parents == (world.store.history.resolve("main~1"), other), "what came in through the side stays"
    assert {info.message.split("\n")[0] for info in outcome.squashed} == {
        *("first", "second", "Merge outside", "side", "Merge side")
    }  # fmt: skip


def test_only_what_the_branch_was_at_can_be_squashed_after(world: World) -> None:
    fork(world)
    main = world.tip("main")
    world.add("work", {"conf": b"x"}, "Merge main\n", merged=[main])
    world.add("alone", {})
    for commit in ("main", "alone"):
        with pytest.raises(BadInput, match="is not one that branch 'work' was at"):
            world.squash(commit, "work")


def test_a_dry_run_of_squash_writes_nothing(world: World) -> None:
    fork(world)
    world.containers.create("work", world.tip("work"), Settings(args=("true",)), ADA, "web")
    before = world.everything()
    outcome = world.squash("main~1", "work", dry_run=True)
    assert (outcome.commit, len(outcome.squashed), outcome.containers) == (None, 2, ("web",))
    assert world.everything() == before


# -- by chance

Step = tuple[str, str, str, int]


@settings(max_examples=60)
@given(bases, operations, operations, operations)
def test_a_stack_on_a_disjoint_change_is_that_change_applied(
    base: list[Step], one: list[Step], two: list[Step], three: list[Step]
) -> None:
    """Each commit of the stack, done again, is what it was, and what upstream did besides; squashed, it is the same."""
    models = [Model("base")]
    for operation in base:
        models[0].do(*operation)
    for name, done in (("one", one), ("two", two), ("three", three)):
        models.append(models[-1].copy(name))
        for operation in done:
            models[-1].do(*operation)
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory) / "store")
        stack = [_committed(world, "work", model) for model in models]
        world.branch("main", stack[0])
        _committed(world, "main", _with_upstream(models[0]))
        outcome = world.rebase("main", "work")
        assert outcome.how == "rebased"
        assert {step.fate for step in outcome.steps} <= {"written"}, "an empty one was empty before"
        for step, model in zip(outcome.steps, models[1:], strict=True):
            assert step.now is not None
            scratch = Scratch(world.store, keep=sys.maxsize)
            wanted = _with_upstream(model).snapshot(scratch)  # type: ignore[arg-type]
            assert described(world.store.snapshot_of(step.now)) == described(wanted)
        root_before = world.store.commit(world.tip("work")).root
        world.squash("main", "work")
        assert world.store.commit(world.tip("work")).root == root_before
        assert world.titles("work")[1:] == world.titles("main")
        assert check(world.store).problems == []
        world.store.close()


def _with_upstream(model: Model) -> Model:
    """A change at paths that no operation touches."""
    found = model.copy("upstream")
    found.do("create", "z/up", "a", 1)
    found.do("create", "z/other", "a", 3)
    return found


def _committed(world: World, branch: str, model: Model) -> CommitId:
    with world.store.writing():
        scratch = Scratch(world.store, keep=sys.maxsize)
        made = model.snapshot(scratch).id  # type: ignore[arg-type]
        with world.store.batch() as batch:
            scratch.copy_to(batch)
        old = world.store.history.target(BRANCHES + branch)
        commit = world.store.add_commit(made, dict(CONFIG), f"{model.side}\n", ADA, (old,) if old else ())
        world.store.history.move(BRANCHES + branch, commit, old, "added", ADA)
    return commit
