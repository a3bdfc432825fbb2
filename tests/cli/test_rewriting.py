"""rebase and squash, as people give them; git agrees with what comes of it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from runtime.commits import first_line
from tests.cli.conftest import Cli
from tests.runtime.test_rewriting import World, fork

SHORT = 12


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """`main` has gone on since `work` began, which has two commits."""
    world = World(tmp_path / "store")
    fork(world)
    world.store.close()
    return Cli(tmp_path / "store")


def git(cli: Cli, *arguments: str) -> list[str]:
    done = subprocess.run(
        ["git", "-C", str(cli.store / "history.git"), *arguments],
        capture_output=True, text=True, check=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout.splitlines()


def clash(cli: Cli) -> None:
    world = World(cli.store, create=False)
    world.add("main", {"conf": b"one\n2\n3\n4\n5\n", "new": b"mine\n"}, "clash\n")
    world.store.close()


def test_a_rebase(cli: Cli) -> None:
    before, main = git(cli, "rev-parse", "work", "main")
    result = cli("rebase", "main", "work")
    commit = result.stdout.strip()
    assert git(cli, "rev-parse", "work") == [commit]
    assert result.stderr == (
        f"[work {commit[:SHORT]}] 2 commits on {main[:SHORT]}; back: treering branch -f work {before[:SHORT]}\n"
    )
    assert git(cli, "merge-base", "main", "work") == [main]
    assert git(cli, "log", "--graph", "--format=%s %ad %cn", "--date=raw", "work") == [
        "* second 1600000000 +0200 Ada Tester",
        "* first 1600000000 +0200 Ada Tester",
        "* gone on 1600000000 +0200 Ada",
        "* base 1600000000 +0200 Ada",
    ]
    git(cli, "fsck", "--strict")
    cli("fsck", "--read-data")
    again = cli("rebase", "main", "work")
    assert (again.stdout.strip(), again.stderr) == (commit, f"Nothing to do: work stands on {main[:SHORT]} already\n")
    cli("undo")
    assert git(cli, "rev-parse", "work") == [before]
    cli("redo")
    assert git(cli, "rev-parse", "work") == [commit]


def test_what_programs_are_told_of_a_rebase(cli: Cli) -> None:
    before, main, base = git(cli, "rev-parse", "work", "main", "main~1")
    told = cli.json("rebase", "main", "work", "--dry-run")
    assert (told["outcome"], told["commit"], told["commits"][0]["new"]) == ("rebased", None, None)
    assert cli("rebase", "main", "work", "--dry-run").stderr == f"work would have 2 commits on {main[:SHORT]}\n"
    told = cli.json("rebase", "main", "work")
    commits = told.pop("commits")
    (new,) = git(cli, "rev-parse", "work")
    assert told == {
        "outcome": "rebased", "branch": "work", "before": before, "commit": new, "base": base, "onto": main,
        "containers": [],
    }  # fmt: skip
    assert [(one["title"], one["fate"], one["conflicts"]) for one in commits] == [
        ("first", "written", []),
        ("second", "written", []),
    ]
    assert [commits[0]["new"], commits[1]["new"]] == git(cli, "rev-parse", "work~1", "work")


def test_conflicts_are_listed_with_their_commit(cli: Cli) -> None:
    clash(cli)
    refs, layers = git(cli, "for-each-ref"), sorted(os.listdir(cli.store / "layers"))
    (second,) = git(cli, "rev-parse", "work")
    result = cli("rebase", "main", "work", code=1)
    assert [re.split("   +", line) for line in result.stdout.splitlines()] == [
        ["PATH", "CONFLICT", "OURS", "THEIRS", "WHERE"],
        ["/new", "added", "added a file", "added a file", "-"],
    ]
    assert result.stderr.startswith(f"Conflicts of {second[:SHORT]} (second):\n1 conflict: nothing was changed. --ours")
    told = cli.json("rebase", "main", "work", code=1)
    assert (told["outcome"], told["commit"], told["commits"][1]["fate"]) == ("conflicts", None, "conflicts")
    assert told["commits"][1]["conflicts"][0]["path"] == "/new"
    assert (git(cli, "for-each-ref"), sorted(os.listdir(cli.store / "layers"))) == (refs, layers)
    assert "; 1 conflict decided; back:" in cli("rebase", "main", "work", "--theirs").stderr
    assert cli("cat", "work:new").stdout == "new\n"


def test_a_merge_is_refused_with_what_to_do(cli: Cli) -> None:
    cli("merge", "main", "--on", "work")
    clash(cli)
    (merge,) = git(cli, "rev-parse", "work")
    error = cli.error("rebase", "main", "work")
    assert (
        error["message"]
        == f"commit {merge[:SHORT]} is a merge (\"Merge branch 'main' into work\"), which cannot be done again"
    )
    assert f"treering rebase --onto NEWBASE {merge[:SHORT]} BRANCH" in error["advice"]


def test_what_is_there_already_is_told(cli: Cli) -> None:
    cli("cherry-pick", "work~1")
    (first,) = git(cli, "rev-parse", "work~1")
    assert cli("rebase", "main", "work").stderr.splitlines()[0] == (
        f"Dropped {first[:SHORT]} (first): it is there already"
    )
    assert len(git(cli, "log", "--format=%h", "main..work")) == 1


def test_squash(cli: Cli) -> None:
    before, base = git(cli, "rev-parse", "work", "main~1")
    assert cli.json("squash", "main~1", "work", "--dry-run")["commit"] is None
    result = cli("squash", "main~1", "work", "-m", "all of it")
    commit = result.stdout.strip()
    assert result.stderr == (
        f"[work {commit[:SHORT]}] all of it: 2 commits squashed, 2 changed: 1 added, 1 modified; "
        f"back: treering branch -f work {before[:SHORT]}\n"
    )
    assert git(cli, "log", "-1", "--format=%P %s %(trailers:only,unfold,separator=%x2C)", "work") == [
        f"{base} all of it Container: web,Command: make,Changes: A1 M1"
    ]
    assert cli("squash", "main~1", "work").stderr.startswith(
        "Nothing to do: work has fewer than two commits after that"
    )
    told = cli.json("undo")
    assert told["refs"] == [{"ref": "refs/heads/work", "old": commit, "new": before}]
    error = cli.error("squash", "main", "work")
    assert (error["kind"], error["advice"]) == ("BadInput", "`treering log work` lists its commits")


def test_blame_tells_all_commands_of_what_was_squashed(cli: Cli) -> None:
    world = World(cli.store, create=False)
    for number in (1, 2):
        world.add("work", {"conf": b"%d" % number}, f"step {number}\n\nContainer: web\nCommand: step {number}\n")
    world.store.close()
    cli("squash", "work~2", "work")
    (row,) = cli.json("blame", "work", "/conf")
    assert (row["container"], row["command"], row["title"]) == ("web", "step 1; step 2", "Squash of 2 commits")
    (shown,) = cli.json("log", "-n", "1", "work")
    assert shown["trailers"]["Command"] == "step 1; step 2"
    assert first_line(shown["message"]) == "Squash of 2 commits"


@pytest.mark.parametrize("verb", [["rebase", "main", "none"], ["squash", "main", "none"]])
def test_no_such_branch(cli: Cli, verb: list[str]) -> None:
    assert cli.error(*verb)["message"] == "no branch 'none'"


def test_what_excludes_one_another(cli: Cli) -> None:
    assert "exclude one another" in cli.error("rebase", "main", "work", "--ours", "--theirs", code=2)["message"]
    assert "the message is empty" in cli.error("squash", "main~1", "work", "-m", " ", code=2)["message"]
