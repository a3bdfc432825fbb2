"""Forgetting commits: what moves along, what is left alone, and that all of it happens or nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runtime.branches.forgetting import Forgotten, drop_memories, forget
from runtime.containers import Container, Containers
from runtime.settings import Settings
from runtime.states import States
from tests.support.collecting import NOW, git_fsck, noise, write
from vcs.check import check
from vcs.collect import collect
from vcs.errors import BadInput, Conflict, Corrupt, NotFound, UnknownFormat
from vcs.gitobjects import GitObjects
from vcs.history import BRANCHES, Author
from vcs.model import CommitId
from vcs.retention import Rules
from vcs.rewriting import first_parents
from vcs.store import Store
from vcs.usage import statistics

MAIN = BRANCHES + "main"
AUTHOR = Author("tester", "tester@localhost", 1_800_000_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as made:
        yield made
    clean(tmp_path / "store")


def clean(path: Path) -> None:
    """Nothing is damaged, left over or half done."""
    with Store.open(path) as store:
        assert check(store).problems == []
        assert git_fsck(store) == ""
        containers = Containers(store)
        for container in containers.all():
            for generation in container.record.generations:
                head = store.history.target(container.record.ref(generation.number))
                assert head is not None
                assert store.history.is_ancestor(generation.base, head)
    assert not (path / "containers/.moves.json").exists()


def add(store: Store, number: int, *parents: CommitId) -> CommitId:
    root = write(store, {"number": b"%d" % number, "noise": noise(number, 3000)})
    author = Author("tester", "tester@localhost", 1_700_000_000 + number * 86_400)
    return store.add_commit(root, {"config": {"Cmd": [str(number)]}}, f"commit {number}\n", author, parents)


def grow(store: Store, count: int, branch: str = "main", first: int = 0) -> list[CommitId]:
    """Commits on a branch, newest first, a day apart."""
    made: list[CommitId] = []
    for number in range(first, first + count):
        tip = store.history.target(BRANCHES + branch)
        made.insert(0, add(store, number, *([tip] if tip else [])))
        store.history.move(BRANCHES + branch, made[0], tip, f"commit: {number}", AUTHOR)
    return made


def numbers(store: Store, tip: CommitId) -> list[int]:
    return [int(store.commit(commit).message.split()[1]) for commit in first_parents(store.history, tip)]


def of(store: Store, branch: str = "main") -> list[int]:
    return numbers(store, store.branches()[branch])


def container(store: Store, name: str, commit: CommitId) -> Container:
    return Containers(store).create("main", commit, Settings(), AUTHOR, name)


def forgetting(store: Store, *branches: str, **rules: Any) -> Forgotten:
    return forget(Containers(store), branches or ("main",), Rules(**rules), AUTHOR)


# -- what stays


def test_a_branch_has_what_the_rules_keep(store: Store) -> None:
    commits = grow(store, 10)
    roots = {number: store.commit(commit).root for number, commit in zip(range(9, -1, -1), commits, strict=True)}
    done = forgetting(store, last=2, weekly=2)
    assert of(store) == [9, 8, 5]  # of 1,700,000,000 s, a Tuesday, and the days after
    fates = done.branches["main"]
    assert [fate.kept for fate in fates] == [number in (9, 8, 5) for number in range(9, -1, -1)]
    assert fates[4].reasons == ("weekly",)
    for commit in first_parents(store.history, store.branches()["main"]):
        info = store.commit(commit)
        assert info.root == roots[int(info.message.split()[1])]
        assert info.time == 1_700_000_000 + int(info.message.split()[1]) * 86_400
        assert store.history.config(commit) == {"config": {"Cmd": [info.message.split()[1]]}}
    assert {move.ref for move in done.moves} == {MAIN}
    assert done.held == ()


def test_what_nothing_is_forgotten_below_keeps_its_id(store: Store) -> None:
    commits = grow(store, 6)
    store.history.tag("v1", commits[4], None, AUTHOR)
    store.history.tag("v0", commits[5], None, AUTHOR)
    forgetting(store, last=1, tags=("v*",))
    assert first_parents(store.history, store.branches()["main"])[1:] == commits[4:]


def test_nothing_to_forget_changes_nothing(store: Store) -> None:
    (tip, *_) = grow(store, 3)
    done = forgetting(store, last=3)
    assert store.branches() == {"main": tip}
    assert len(store.history.reflog(MAIN)) == 3
    assert done.moves == ()
    assert [fate.now for fate in done.branches["main"]] == first_parents(store.history, tip)


def test_a_forecast_changes_nothing_and_says_the_same(store: Store) -> None:
    commits = grow(store, 6)
    grow(store, 1, "other", first=50)
    store.history.move(BRANCHES + "held", commits[2], None, "x", AUTHOR)
    store.history.tag("kept", commits[0], None, AUTHOR)
    store.history.tag("gone", commits[3], None, AUTHOR)
    before = store.history.refs("refs/")
    forecast = forget(Containers(store), ["main"], Rules(last=2), AUTHOR, dry_run=True)
    assert store.history.refs("refs/") == before
    done = forgetting(store, last=2)
    assert forecast.commits == done.commits == set(commits[2:])
    assert forecast.held == done.held == ("refs/heads/held", "refs/tags/gone")
    assert [fate.reasons for fate in forecast.branches["main"]] == [fate.reasons for fate in done.branches["main"]]


def test_no_rule_and_no_branch_are_errors(store: Store) -> None:
    grow(store, 2)
    with pytest.raises(BadInput):
        forgetting(store)
    with pytest.raises(NotFound):
        forgetting(store, "nothing", last=1)


def test_it_can_be_undone(store: Store) -> None:
    (tip, *_) = grow(store, 5)
    forgetting(store, last=1)
    assert store.history.resolve("main@{1}") == tip
    store.history.move(MAIN, tip, store.branches()["main"], "back", AUTHOR)
    assert of(store) == [4, 3, 2, 1, 0]


def test_gc_frees_it_once_the_reflog_forgets_too(store: Store) -> None:
    grow(store, 40)
    before = statistics(store).layer_bytes
    forgetting(store, last=30)
    collect(store, since=0)
    assert statistics(store).layer_bytes > 0.9 * before
    done = forgetting(store, last=10)  # what was forgotten before is in the reflog still, and goes too
    assert drop_memories(store, done) == 2 * 41  # of the branch, and of HEAD which follows it
    collect(store, since=0)
    assert statistics(store).layer_bytes < 0.27 * before
    assert of(store) == list(range(39, 29, -1))
    (entry,) = store.history.reflog(MAIN)
    assert (entry.old, entry.new) == (None, store.branches()["main"])


# -- several branches


def test_a_commit_of_two_branches_stays_on_both(store: Store) -> None:
    """So they still have it in common."""
    commits = grow(store, 6)
    store.history.move(BRANCHES + "exp", commits[2], None, "x", AUTHOR)
    grow(store, 2, "exp", first=10)
    done = forgetting(store, "main", "exp", last=3)
    assert of(store) == [5, 4, 3]
    assert of(store, "exp") == [11, 10, 3]
    common = set(first_parents(store.history, store.branches()["main"])).intersection(
        first_parents(store.history, store.branches()["exp"])
    )
    assert len(common) == 1
    assert done.branches["main"][2].reasons == ("last",)


def test_what_another_branch_keeps_is_kept(store: Store) -> None:
    commits = grow(store, 4)
    store.history.move(BRANCHES + "exp", commits[2], None, "x", AUTHOR)
    done = forgetting(store, "main", "exp", last=1)
    assert (of(store), of(store, "exp")) == ([3, 1], [1])
    assert done.branches["main"][2].reasons == ("branch exp",)


def test_a_branch_that_is_not_meant_keeps_what_it_has(store: Store) -> None:
    commits = grow(store, 4)
    store.history.move(BRANCHES + "exp", commits[1], None, "x", AUTHOR)
    done = forgetting(store, last=1)
    assert (of(store), of(store, "exp")) == ([3], [2, 1, 0])
    assert done.held == ("refs/heads/exp",)


# -- what stands on commits


def test_tags_follow_with_their_messages(store: Store) -> None:
    commits = grow(store, 4)
    store.history.tag("plain", commits[0], None, AUTHOR)
    store.history.tag("annotated", commits[1], "what it is\n\nand why", AUTHOR)
    old = store.history.target("refs/tags/annotated")
    assert old is not None
    forgetting(store, last=2)
    tip, below = first_parents(store.history, store.branches()["main"])
    assert store.tags() == {"plain": tip, "annotated": below}
    new = store.history.target("refs/tags/annotated")
    assert new is not None
    with closing(GitObjects(store.path / "history.git")) as objects:
        kind, data = objects.read(old)
        assert objects.read(new) == (kind, data.replace(commits[1].encode(), below.encode()))


def test_a_container_follows_and_can_be_committed_to_the_branch(store: Store) -> None:
    commits = grow(store, 5)
    on_tip = container(store, "web", commits[0])
    forgetting(store, last=2)
    now = Containers(store).find("web")
    assert now.base == store.branches()["main"] != on_tip.base
    assert store.history.target(now.ref) == now.base
    result = States(Containers(store)).commit(now, "commit 77", AUTHOR, branch="main", allow_empty=True)
    assert store.branches()["main"] == result.commit
    assert of(store) == [77, 4, 3]


def test_a_container_with_commits_of_its_own_follows(store: Store) -> None:
    commits = grow(store, 5)
    made = container(store, "web", commits[0])
    states = States(Containers(store))
    states.commit(made, "commit 50", AUTHOR, allow_empty=True)
    forgetting(store, last=1)
    now = Containers(store).find("web")
    assert numbers(store, states.head(now)) == [50, 4]
    assert now.base == states.head(now)
    result = states.commit(now, "commit 51", AUTHOR, branch="main", allow_empty=True)
    assert store.branches()["main"] == result.commit
    assert of(store) == [51, 50, 4]


def test_what_a_container_stands_on_is_kept(store: Store) -> None:
    """Its current and its earlier generations, and the states of removed ones."""
    commits = grow(store, 8)
    behind = container(store, "behind", commits[3])
    States(Containers(store)).rollback(behind, commits[5], AUTHOR)
    store.history.move("refs/removed/feed/0", commits[6], None, "x", AUTHOR)
    done = forgetting(store, last=1)
    assert of(store) == [7, 4, 2, 1]
    reasons = [fate.reasons for fate in done.branches["main"]]
    assert (reasons[3], reasons[5], reasons[6]) == (
        ("container behind",), ("container behind",), ("removed container feed",),
    )  # fmt: skip
    now = Containers(store).find("behind")
    chain = first_parents(store.history, store.branches()["main"])
    assert [generation.base for generation in now.record.generations] == [chain[1], chain[2]]
    assert store.history.target("refs/removed/feed/0") == chain[3]


def test_a_state_of_a_removed_container_follows(store: Store) -> None:
    commits = grow(store, 4)
    last = add(store, 60, commits[2])
    store.history.move("refs/removed/feed/0", last, None, "x", AUTHOR)
    forgetting(store, last=1)
    kept = store.history.target("refs/removed/feed/0")
    assert kept is not None
    assert numbers(store, kept) == [60]
    drop_memories(store, forgetting(store, last=1))
    collect(store, since=NOW)
    assert statistics(store).commits == statistics(store).remembered + 2 == 2


def test_a_container_whose_record_is_damaged_stops_nothing(store: Store) -> None:
    commits = grow(store, 3)
    made = container(store, "web", commits[0])
    text = made.paths.record.read_text()
    made.paths.record.write_text("{")
    forgetting(store, last=1)
    assert store.history.target(made.ref) == store.branches()["main"]
    made.paths.record.write_text(text.replace(commits[0], store.branches()["main"]))
    shutil.rmtree(made.paths.directory)  # its record has no digest that fits now


# -- at once or not at all


def everything(store: Store) -> dict[str, object]:
    """What may move: refs with what they name, tag objects not peeled, and the bases of containers."""
    containers = Containers(store)
    refs = {f"refs/{name}": store.history.target(f"refs/{name}") for name in store.history.refs("refs/")}
    bases = {
        f"{found.name} {generation.number}": generation.base
        for found in containers.all()
        for generation in found.record.generations
    }
    return {**refs, **bases}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which everything stands on main."""
    path = tmp_path_factory.mktemp("crowded") / "store"
    with Store.create(path) as store:
        commits = grow(store, 6)
        store.history.tag("plain", commits[0], None, AUTHOR)
        store.history.tag("annotated", commits[1], "why", AUTHOR)
        store.history.move(BRANCHES + "other", commits[4], None, "x", AUTHOR)
        container(store, "web", commits[0])
        container(store, "behind", commits[3])
        States(Containers(store)).rollback(container(store, "own", commits[1]), add(store, 90, commits[2]), AUTHOR)
        store.history.move("refs/removed/feed/0", add(store, 91, commits[4]), None, "x", AUTHOR)
    return path


RULES = Rules(last=2)


def killed(path: Path, at: int) -> bool:
    """Forget in a process that is killed before its step number `at`, or after its last one; whether it was."""
    process = os.fork()
    if not process:
        try:
            _die_before(at)
            with Store.open(path) as store:
                forget(Containers(store), ["main"], RULES, AUTHOR)
            os._exit(0)
        except BaseException:  # whatever happens, the tests must not go on here
            os._exit(1)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


def _die_before(at: int) -> None:
    import pathlib

    import runtime.containers
    import runtime.moves
    from vcs.history import History

    left = at

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*arguments, **more)

        return call

    for owner, name in (
        (GitObjects, "write"), (History, "move"), (runtime.moves, "replace_file"),
        (runtime.containers, "save"), (pathlib.Path, "unlink"),
    ):  # fmt: skip
        setattr(owner, name, dying(getattr(owner, name)))


def test_killed_at_any_step_all_has_moved_or_nothing(crowded: Path, tmp_path: Path) -> None:
    """And to forget again ends where one that was not killed does."""
    whole = shutil.copytree(crowded, tmp_path / "whole", symlinks=True)
    with Store.open(whole) as store:
        old = everything(store)
        forget(Containers(store), ["main"], RULES, AUTHOR)
        new = everything(store)
        assert of(store) == [5, 4, 2]
    clean(whole)
    assert len({key for key in old if old[key] != new[key]}) == 12
    outcomes = []
    for at in range(100):
        path = shutil.copytree(crowded, tmp_path / str(at), symlinks=True)
        was_killed = killed(path, at)
        with Store.open(path) as store:
            found = everything(store)
            assert found in (old, new)
            outcomes.append(found == new)
            forget(Containers(store), ["main"], RULES, AUTHOR)
            assert everything(store) == new
        clean(path)
        if not was_killed:
            break
        shutil.rmtree(path)
    assert outcomes == sorted(outcomes), "nothing until it was written down, all from then on"
    assert outcomes.count(False) >= 5
    assert outcomes.count(True) >= 12


def test_gc_between_a_kill_and_the_next_command_takes_nothing_that_is_needed(crowded: Path, tmp_path: Path) -> None:
    """Even a gc that knows nothing of containers, and so does not first finish the moves."""
    for at in range(6, 100, 3):
        path = shutil.copytree(crowded, tmp_path / str(at), symlinks=True)
        was_killed = killed(path, at)
        with Store.open(path) as store:
            collect(store, since=NOW)
        clean(path)
        with Store.open(path) as store:
            forget(Containers(store), ["main"], RULES, AUTHOR)
            assert of(store) == [5, 4, 2]
        clean(path)
        shutil.rmtree(path)
        if not was_killed:
            return


def test_moves_that_cannot_be_read_are_an_error(store: Store) -> None:
    grow(store, 1)
    path = store.path / "containers/.moves.json"
    path.write_text("{")
    with pytest.raises(Corrupt, match=r"\.moves\.json"):
        Containers(store)
    who = '{"name": "a", "email": "b", "time": 0}'
    path.write_text(f'{{"refs": [], "bases": [], "reason": "x", "author": {who}, "version": 2}}')
    with pytest.raises(UnknownFormat, match="version 2"):
        Containers(store)
    path.unlink()


# -- beside others


def test_commits_go_on_meanwhile(store: Store, tmp_path: Path) -> None:
    """A writer, and a container that is committed, beside one process that forgets all the time: what was acknowledged
    is on the branch, in its order."""
    grow(store, 3)
    path, rounds = store.path, 25
    store.close()
    process = os.fork()
    if not process:
        try:
            with Store.open(path) as mine:
                while not (path / "done").exists():
                    forget(Containers(mine), ["main"], Rules(last=4), AUTHOR)
            os._exit(0)
        except BaseException:
            os._exit(1)
    acknowledged: list[int] = []
    with Store.open(path) as mine:
        containers = Containers(mine)
        states = States(containers)
        containers.create("main", mine.branches()["main"], Settings(), AUTHOR, "web")
        for number in range(100, 100 + rounds):
            while True:
                try:
                    states.commit(containers.find("web"), f"commit {number}", AUTHOR, branch="main", allow_empty=True)
                    break
                except Conflict:  # the container was made on a commit that was rewritten meanwhile
                    with containers.changing(containers.find("web")) as now:
                        assert not mine.history.is_ancestor(mine.branches()["main"], states.head(now))
                    states.rollback(containers.find("web"), mine.branches()["main"], AUTHOR)
            acknowledged.insert(0, number)
    (path / "done").touch()
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    with Store.open(path) as mine:
        found = of(mine)
        assert found[:4] == acknowledged[:4]
        assert found == sorted(found, reverse=True)
    (path / "done").unlink()


def test_git_reads_the_new_history(store: Store) -> None:
    grow(store, 5)
    forgetting(store, last=2)
    log = subprocess.run(
        ["git", "-C", str(store.path / "history.git"), "log", "--format=%s", "main"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert log.stdout.splitlines() == ["commit 4", "commit 3"]
