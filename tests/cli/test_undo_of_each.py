"""Each verb that changes refs or containers is an operation, and is taken back exactly, and done again exactly."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.cli.program import VERBS
from runtime.containers import Containers
from runtime.states import States
from tests.cli.conftest import Cli, remove_containers
from vcs.check import check
from vcs.errors import NotFound
from vcs.reflogs import lines_of, log_path
from vcs.store import Store

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: containers that run")


@dataclass(frozen=True)
class Case:
    """A command, and what is done before it."""

    command: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    keeps: bool = True
    """Whether what is in containers' files, beyond their commits, is there again as well."""
    steps: int = 1
    """How many operations it is."""


def case(command: str, *before: str, keeps: bool = True, steps: int = 1) -> Case:
    return Case(tuple(command.split()), tuple(tuple(one.split()) for one in before), keeps, steps)


CASES: dict[str, Case] = {
    "import": case("import FILES -b main -m next"),
    "import to a new branch": case("import FILES -b made -m next"),
    "branch": case("branch made main"),
    "branch -f": case("branch -f other main"),
    "branch -m": case("branch -m other made"),
    "branch -m -f": case("branch -m -f other main"),
    "branch -m to a name below another": case("branch -m other made/sub"),
    "branch -d": case("branch -d other", "branch -f other main", "branch -f other main~1"),
    "branch -d HEAD's": case("branch -d main"),
    "tag": case("tag made main"),
    "tag -m": case("tag made main -m why"),
    "tag -f": case("tag -f v1 other"),
    "tag -d": case("tag -d v1"),
    "merge": case("merge other"),
    "merge into a branch": case("merge main --on other", "branch side main"),
    "merge that only moves": case("merge main --on side", "branch side main~1"),
    "revert": case("revert main"),
    "merge --into": case("merge other --into made"),
    "merge --abort": case("merge --abort made", "merge other --into made"),
    "merge --continue": case("merge --continue made", "merge other --into made"),
    "cherry-pick": case("cherry-pick other"),
    "rebase": case("rebase main other"),
    "rebase --onto": case("rebase --onto other main~1 main"),
    "squash": case("squash main~1 -m why"),
    "stash": case("stash web"),
    "stash pop": case("stash pop", "stash web"),
    "stash apply": case("stash apply 1 --into web", "stash web"),
    "stash drop": case("stash drop 1", "stash web"),
    "stash clear": case("stash clear", "stash web"),
    "note add": case("note add -m why main"),
    "note append": case("note append -m why main", "note add -m first main"),
    "note remove": case("note remove main", "note add -m why main"),
    "forget": case("forget main --keep-last 1"),
    "op restore": case("op restore @~2", "branch -d other", "branch made main"),
    "create": case("create --name made main true"),
    "rename": case("rename web made"),
    "update": case("update --memory 64m web"),
    "commit": case("commit web -m why"),
    "commit -b": case("commit web -m why -b made"),
    "commit -b onto a branch": case("commit web -m why -b main"),
    "commit again": case("commit web -m why --allow-empty", "commit web -m first -b made"),
    "commit --squash": case("commit web -m why --squash --allow-empty", "commit web -m first"),
    "commit -c": Case(("commit", "web", "-m", "why", "-c", "ENV a=b")),
    "rollback": case("rollback web main~1"),
    "rollback after a commit": case("rollback web main", "commit web -m why"),
    "rollback --undo": case("rollback web --undo", "rollback web main~1"),
    "rollback to its reflog": case("rollback web @{1}", "commit web -m why"),
    "fork": case("fork web"),
    "fork -n 3": case("fork web -n 3 --name made"),
    "promote": case("promote web -b main"),
    "promote to a new branch": case("promote web -b made"),
    "promote --force": case("promote web -b other --force"),
    "rm": case("rm web"),
    "rm of one with commits": case("rm web", "commit web -m why -b made"),
    "rm of one that was rolled back": case("rm web", "rollback web main~1"),
    "rm of several": case("rm web second", "create --name second other true"),
    "rm --discard": case("rm --discard web", "commit web -m why", keeps=False),
}
RUNS: dict[str, Case] = {
    "run": case("run --name made main true"),
    "run with commits at its end": case("run --name made --autocommit exit main sh -c echo>/new", keeps=False, steps=2),
    "fork --wait": case("fork web -n 2 --wait"),
    "rm -f": case("rm -f made", "run -d --name made main sleep 600"),
}
NONE = {
    "init", "export", "start", "stop", "restart", "kill", "pause", "unpause", "wait", "exec", "cp", "inspect", "top",
    "ps", "logs", "attach", "stats", "metrics", "network", "port", "status", "compare", "log", "show", "diff", "blame",
    "grep", "reflog", "undo", "redo", "ls", "cat", "sbom", "mount", "umount", "unshare", "fsck", "du", "gc", "service",
    "completion", "bisect", "verify-commit", "verify-tag", "save", "push", "pull", "build",
}  # fmt: skip
"""Verbs that change neither what refs name nor what is kept of containers, or are not to be taken back."""


def state(cli: Cli) -> dict[str, object]:
    """Refs and where their reflogs end; of each container what is kept of it, its head, and what is in its file."""
    found: dict[str, object] = {}
    with Store.open(cli.store) as store:
        for prefix in ("refs/heads/", "refs/tags/", "refs/stashes/", "refs/notes/"):
            for name in store.history.refs(prefix):
                target = store.history.target(prefix + name)
                found[prefix + name] = target
                ends = lines_of(log_path(store.repository, prefix + name))[-1].split()[1]
                assert ends.decode() == target, name
        containers = Containers(store)
        states = States(containers)
        for one in containers.all():
            record = one.record
            previous = record.generation.previous  # what `rollback --undo` goes back to
            found[one.id] = (record.name, record.image, record.settings, record.created, previous, states.head(one))
            assert store.history.reflog(one.ref)[0].new == states.head(one)
    return found


def texts(cli: Cli) -> dict[str, str]:
    """What the file that web has written says, in each container that has one."""
    found = {}
    with Store.open(cli.store) as store:
        for one in Containers(store).all():
            file = one.upper / "text"
            if file.exists():
                found[one.name] = file.read_text()
                continue
            snapshot = store.snapshot_of(one.base)
            try:
                found[one.name] = snapshot.read(snapshot.lookup(b"/text").content).decode()  # type: ignore[arg-type]
            except NotFound:
                continue
    return found


def count(cli: Cli) -> int:
    return len(json.loads(cli("op", "log", "--format", "json").stdout))


@pytest.fixture(scope="module")
def ready(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a container that has written something. Not to be changed."""
    cli = Cli(tmp_path_factory.mktemp("ready") / "store")
    shutil.copytree(prepared, cli.store, symlinks=True)
    cli("create", "--name", "web", "main", "true")
    with Store.open(cli.store) as store:
        upper = Containers(store).find("web").upper
        upper.mkdir(mode=0o755, exist_ok=True)
        (upper / "text").write_text("mine")
    (cli.store.parent / "files").mkdir()
    (cli.store.parent / "files/file").write_text("new\n")
    return cli.store


@pytest.fixture
def box(ready: Path, tmp_path: Path) -> Iterator[Cli]:
    """Commands on a copy of it."""
    cli = Cli(tmp_path / "store")
    shutil.copytree(ready.parent, tmp_path, symlinks=True, dirs_exist_ok=True)
    yield cli
    remove_containers(cli)


def run(cli: Cli, words: tuple[str, ...]) -> None:
    """In a process of its own: what starts a container leaves others behind."""
    done = cli.process(*(str(cli.store.parent / "files") if word == "FILES" else word for word in words))
    assert done.returncode == 0, done.stderr.decode()


def check_case(cli: Cli, one: Case) -> None:
    for command in one.before:
        run(cli, command)
    before, written, number = state(cli), texts(cli), count(cli)
    run(cli, one.command)
    after = state(cli)
    assert count(cli) == number + one.steps
    assert after != before
    for _ in range(2):
        for _ in range(one.steps):
            cli("undo")
        assert state(cli) == before
        assert not one.keeps or texts(cli) == written
        for _ in range(one.steps):
            cli("redo")
        assert state(cli) == after
    with Store.open(cli.store) as store:
        assert check(store).problems == []


@pytest.mark.parametrize("name", CASES)
def test_it_is_taken_back_exactly(box: Cli, name: str) -> None:
    check_case(box, CASES[name])


@needs_root
@pytest.mark.parametrize("name", RUNS)
def test_what_runs_is_taken_back_exactly(box: Cli, name: str) -> None:
    check_case(box, RUNS[name])


def test_every_verb_is_in_the_table() -> None:
    """A verb is either shown to be taken back, or changes nothing that could be."""
    shown = {one.command[0] for one in (*CASES.values(), *RUNS.values())}
    assert (shown | NONE) - {"op"} == VERBS.keys() - {"op"}
    assert not shown & NONE
