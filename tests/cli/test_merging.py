"""merge, revert and cherry-pick, as people give them; git agrees with what comes of it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from vcs.history import Author
from vcs.model import CommitId
from vcs.store import Store

Write = Callable[..., str]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """An empty store."""
    found = Cli(tmp_path / "store")
    found("init")
    return found


@pytest.fixture
def write(cli: Cli, tmp_path: Path) -> Write:
    """Commit some files to a branch, on top of what it has; None removes one. Returns the commit's id."""

    def make(branch: str, files: Mapping[str, bytes | None], message: str = "change", start: str | None = None) -> str:
        top = tmp_path / f"root-{branch}"
        if start:
            cli("branch", branch, start)
        if not top.exists():
            if cli("branch").stdout:
                cli("export", start or branch, str(top))
            else:
                top.mkdir()
        for path, data in files.items():
            file = top / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if data is None:
                file.unlink()
            else:
                file.write_bytes(data)
                os.utime(file, (1, 1))
        cli("import", str(top), "-b", branch, "-m", message)
        return git(cli, "rev-parse", branch).strip()

    return make


@pytest.fixture
def sides(write: Write) -> None:
    """`main` and `try` have each changed something, and `main/conf` both, in lines far apart."""
    write("main", {"conf": b"1\n2\n3\n4\n", "old": b"old\n"}, "base")
    write("try", {"conf": b"1\n2\n3\nfour\n", "new": b"new\n"}, "tried", start="main")
    write("main", {"conf": b"one\n2\n3\n4\n", "old": None}, "gone on")


def git(cli: Cli, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(cli.store / "history.git"), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_a_merge(cli: Cli, sides: None) -> None:
    before, theirs = git(cli, "rev-parse", "main", "try").split()
    result = cli("merge", "try")
    commit = result.stdout.strip()
    assert cli("cat", "main:conf").stdout == "one\n2\n3\nfour\n"
    assert [line.split()[-1] for line in cli.lines("ls", "main:/")] == ["conf", "new"]
    assert result.stderr == (
        f"[main {commit[:12]}] Merge branch 'try' into main: 2 changed: 1 added, 1 modified; "
        f"back: treering branch -f main {before[:12]}\n"
    )
    (shown,) = cli.json("log", "-n", "1", "main")
    assert shown["parents"] == [before, theirs]
    assert shown["title"] == "Merge branch 'try' into main"
    assert shown["trailers"] == {"Changes": "A1 M1"}
    assert cli.json("reflog", "main")[0]["message"] == "merge try: Merge made"
    cli("fsck", "--read-data")


def test_git_agrees(cli: Cli, sides: None) -> None:
    base = git(cli, "merge-base", "main", "try").strip()
    told = cli.json("merge", "try")
    assert told["base"] == base
    assert git(cli, "merge-base", "main", "try").strip() == told["theirs"], "try is merged now"
    assert git(cli, "log", "--graph", "--format=%s", "main").splitlines() == [
        "*   Merge branch 'try' into main",
        "|\\  ",
        "| * tried",
        "* | gone on",
        "|/  ",
        "* base",
    ]
    git(cli, "fsck", "--strict")
    assert git(cli, "log", "-1", "--format=%P", "main").split() == [told["before"], told["theirs"]]


def test_what_is_merged_already_is_not_merged_again(cli: Cli, sides: None) -> None:
    first = cli("merge", "try").stdout
    again = cli("merge", "try")
    assert (again.stdout, again.stderr) == (first, "Nothing to do: main has it already\n")
    assert cli.json("merge", "main~1")["outcome"] == "up-to-date"


def test_fast_forward_unless_it_is_not_wanted(cli: Cli, write: Write) -> None:
    write("main", {"a": b"1"}, "base")
    tip = write("try", {"a": b"2"}, start="main")
    told = cli.json("merge", "try", "--dry-run")
    assert (told["outcome"], told["commit"]) == ("fast-forward", tip)
    assert git(cli, "rev-parse", "main").strip() != tip, "a dry run"
    cli("branch", "other", "main")
    assert cli("merge", "try").stdout.strip() == tip == git(cli, "rev-parse", "main").strip()
    assert cli.json("reflog", "main")[0]["message"] == "merge try: Fast-forward"
    told = cli.json("merge", "try", "--on", "other", "--no-ff", "-m", "on purpose")
    assert told["outcome"] == "merged"
    assert git(cli, "log", "-1", "--format=%s %P", "other").split() == ["on", "purpose", told["before"], tip]


def test_names_in_messages_are_gits(cli: Cli, sides: None) -> None:
    cli("tag", "v1", "try")
    commit = git(cli, "rev-parse", "try").strip()
    for name, title in (("v1", "tag 'v1'"), ("try~0", "commit 'try~0'"), (commit, f"commit '{commit[:12]}'")):
        cli("branch", "-f", "here", "main")
        cli("merge", name, "--on", "here")
        assert git(cli, "log", "-1", "--format=%s", "here").strip() == f"Merge {title} into here"


def test_conflicts_change_nothing(cli: Cli, sides: None, write: Write) -> None:
    write("main", {"new": b"mine\n", "etc/passwd": b"a:x:101:101::/:\n"})
    write("try", {"etc/passwd": b"b:x:101:101::/:\n", "log": b"1\n"})
    refs = git(cli, "for-each-ref")
    layers = sorted(os.listdir(cli.store / "layers"))
    result = cli("merge", "try", code=1)
    rows = [re.split("   +", line) for line in result.stdout.splitlines()]
    assert rows == [
        ["PATH", "CONFLICT", "OURS", "THEIRS", "WHERE"],
        ["/etc/passwd", "added", "added a file", "added a file", "a and b have the same number"],
        ["/new", "added", "added a file", "added a file", "-"],
    ]
    assert result.stderr.startswith("2 conflicts: nothing was changed. --ours or --theirs decides")
    told = cli.json("merge", "try", code=1)
    assert (told["outcome"], told["commit"]) == ("conflicts", None)
    assert told["conflicts"][1] == {
        "path": "/new", "kind": "added", "ours": "added a file", "theirs": "added a file", "detail": None,
        "taken": None,
    }  # fmt: skip
    assert git(cli, "for-each-ref") == refs
    assert sorted(os.listdir(cli.store / "layers")) == layers


@pytest.mark.parametrize(("side", "text"), [("ours", "mine\n"), ("theirs", "new\n")])
def test_a_side_for_conflicts_only(cli: Cli, sides: None, write: Write, side: str, text: str) -> None:
    write("main", {"new": b"mine\n"})
    result = cli("merge", "try", f"--{side}")
    assert f"; 1 conflict decided for {side}; back:" in result.stderr
    assert cli("cat", "main:new").stdout == text
    assert cli("cat", "main:conf").stdout == "one\n2\n3\nfour\n", "no conflict"
    assert cli.json("log", "-n", "1", "main")[0]["trailers"]["Conflicts"] == f"1, {side}"


def test_a_dry_run_writes_nothing(cli: Cli, sides: None) -> None:
    refs, layers = git(cli, "for-each-ref"), sorted(os.listdir(cli.store / "layers"))
    result = cli("merge", "try", "--dry-run")
    assert result.stdout == ""
    assert result.stderr == (
        "main would have a new commit, \"Merge branch 'try' into main\": 2 changed: 1 added, 1 modified\n"
    )
    assert cli.json("merge", "try", "--dry-run")["commit"] is None
    assert (git(cli, "for-each-ref"), sorted(os.listdir(cli.store / "layers"))) == (refs, layers)


def test_stale_files_are_told_with_their_command(cli: Cli, write: Write) -> None:
    write("main", {"etc/ld.so.cache": b"\0001"})
    write("try", {"etc/ld.so.cache": b"\0002"}, start="main")
    write("main", {"etc/ld.so.cache": b"\0003", "x": b""})
    told = cli.json("merge", "try", "--dry-run")
    assert told["stale"] == [{"path": "/etc/ld.so.cache", "command": "ldconfig"}]
    assert cli("merge", "try").stderr.splitlines()[-1] == (
        "warning: stale, since both changed it: /etc/ld.so.cache; in a container on it, run: ldconfig"
    )


def test_the_image_config_is_merged(cli: Cli, write: Write) -> None:
    base = write("main", {"a": b"1"})
    with Store.open(cli.store) as store:
        root, author = store.commit(base).root, Author("Ada", "ada@example.org", 0)
        for branch, config in (("main", {"Cmd": ["sh"], "Env": ["A=2"]}), ("try", {"Cmd": ["nginx"], "Env": ["A=1"]})):
            commit = store.add_commit(root, {"config": config}, branch, author, (CommitId(base),))
            store.history.move(f"refs/heads/{branch}", commit, None, branch, author, force=True)
    told = cli.json("merge", "try", code=1)
    assert {conflict["path"]: conflict["kind"] for conflict in told["conflicts"]} == {
        "config.Cmd": "config",
        "config.Env.A": "config",
    }
    assert "\nconfig.json: config.Cmd " in cli("merge", "try", code=1).stdout
    cli("merge", "try", "--theirs")
    assert cli.json("show", "main")["config"]["config"] == {"Cmd": ["nginx"], "Env": ["A=1"]}


def test_histories_without_a_common_commit(cli: Cli, sides: None, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    cli("import", str(tmp_path / "alone"), "-b", "alone", "-m", "alone")
    error = cli.error("merge", "alone")
    assert error["kind"] == "NotFound"
    assert "no commit in common" in error["message"]
    assert "treering diff" in error["advice"]


def test_what_is_not_there(cli: Cli, sides: None) -> None:
    assert cli.error("merge", "nothing")["kind"] == "NotFound"
    assert cli.error("merge", "try", "--on", "nothing")["message"] == "no branch 'nothing'"
    assert cli.error("merge", "try", "--ours", "--theirs", code=2)["kind"] == "UsageError"
    assert cli.error("merge", "try", "-m", " ", code=2)["kind"] == "UsageError"


# -- revert and cherry-pick


def test_revert(cli: Cli, sides: None, write: Write) -> None:
    write("main", {"later": b"stays\n"})
    gone_on = git(cli, "rev-parse", "main~1").strip()
    result = cli("revert", "main~1")
    assert cli("cat", "main:conf").stdout == "1\n2\n3\n4\n"
    assert cli("cat", "main:old").stdout == "old\n"
    assert cli("cat", "main:later").stdout == "stays\n"
    assert git(cli, "log", "-1", "--format=%B", "main").strip() == (
        f'Revert "gone on"\n\nThis reverts commit {gone_on}.\n\nChanges: A1 M1'
    )
    assert result.stderr.startswith(f'[main {result.stdout[:12]}] Revert "gone on": 2 changed')
    again = cli.json("revert", gone_on)
    assert again["outcome"] == "up-to-date", "it is reverted"
    assert len(cli.json("log", "main")) == 4


def test_revert_of_what_others_build_on_is_a_conflict(cli: Cli, sides: None, write: Write) -> None:
    write("main", {"conf": b"ONE\n2\n3\n4\n"})
    told = cli.json("revert", "main~1", code=1)
    assert [(conflict["path"], conflict["detail"]) for conflict in told["conflicts"]] == [("/conf", "line 1")]
    cli("revert", "main~1", "--ours")
    assert cli("cat", "main:conf").stdout == "ONE\n2\n3\n4\n"
    assert cli("cat", "main:old").stdout == "old\n"


def test_cherry_pick(cli: Cli, sides: None, write: Write) -> None:
    write("try", {"new": b"newer\n"}, "another")
    tried, another = git(cli, "rev-parse", "try~1", "try").split()
    assert [conflict["path"] for conflict in cli.json("cherry-pick", another, code=1)["conflicts"]] == ["/new"]
    cli("cherry-pick", "try~1")
    cli("cherry-pick", "try", "--on", "main")
    assert cli("cat", "main:new").stdout == "newer\n"
    assert cli("cat", "main:conf").stdout == "one\n2\n3\nfour\n"
    bodies = [git(cli, "log", "-1", "--format=%B", revision).strip() for revision in ("main~1", "main")]
    source = cli.store.parent / "root-try"
    assert bodies == [
        f"tried\n\nSource: {source}\n(cherry picked from commit {tried})",
        f"another\n\nSource: {source}\n(cherry picked from commit {another})",
    ]
    assert git(cli, "log", "-1", "--format=%P", "main").split() == [git(cli, "rev-parse", "main~1").strip()]


def test_of_a_merge_a_parent_has_to_be_said(cli: Cli, sides: None) -> None:
    cli("merge", "try")
    error = cli.error("revert", "main")
    assert "is a merge" in error["message"]
    assert "--mainline" in error["advice"]
    assert "no parent 3" in cli.error("revert", "main", "--mainline", "3")["message"]
    cli("revert", "main", "--mainline", "1")
    assert cli("cat", "main:conf").stdout == "one\n2\n3\n4\n"
    assert [line.split()[-1] for line in cli.lines("ls", "main:/")] == ["conf"]
    assert "has no parent" in cli.error("cherry-pick", "main~3")["message"]
