"""op, undo and redo, as a user meets them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import AUTHOR, Cli
from vcs.check import check
from vcs.store import Store

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: containers that run")


def refs(cli: Cli) -> dict[str, str]:
    rows = [*cli.json("branch"), *cli.json("tag")]
    return {row["name"]: row["commit"] for row in rows}


def operations(cli: Cli, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cli("op", "log", "--format", "json", *options).stdout)
    return found


def clean(cli: Cli) -> None:
    with Store.open(cli.store) as store:
        assert check(store).problems == []


def test_every_verb_on_refs_is_taken_back_and_done_again(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    commands = [
        ["branch", "work", "main"],
        ["branch", "-f", "work", "main~1"],
        ["branch", "-m", "work", "play"],
        ["branch", "-m", "-f", "play", "other"],
        ["tag", "v2", "main"],
        ["tag", "-f", "v1", "other", "-m", "moved"],
        ["tag", "-d", "v2"],
        ["branch", "-d", "other"],
        ["import", str(tmp_path / "files"), "--branch", "main", "-m", "next"],
    ]
    states = [refs(cli)]
    for command in commands:
        cli(*command)
        states.append(refs(cli))
    logged = operations(cli)
    assert [one["args"] for one in logged][: len(commands)] == commands[::-1]
    assert logged[0]["who"] == f"{AUTHOR['TREERING_AUTHOR_NAME']} <{AUTHOR['TREERING_AUTHOR_EMAIL']}>"
    for state in states[-2::-1]:
        cli("undo")
        assert refs(cli) == state
    for state in states[1:]:
        cli("redo")
        assert refs(cli) == state
    assert cli.error("redo")["message"].startswith("there is nothing to redo")
    cli("op", "restore", logged[len(commands)]["id"])
    assert refs(cli) == states[0]
    cli("undo")
    assert refs(cli) == states[-1]
    clean(cli)


def test_what_is_only_looked_at_is_no_operation(cli: Cli) -> None:
    before = (cli.store / "operations.log").read_bytes()
    for command in (["log"], ["branch"], ["tag"], ["op", "log"], ["op", "show"], ["undo", "--dry-run"], ["fsck"]):
        cli(*command)
    cli("branch", "--dry-run", "-d", "other")
    cli("branch", "-f", "other", "other")
    assert cli.error("branch", "-d", "nothing")["kind"] == "NotFound"
    assert (cli.store / "operations.log").read_bytes() == before


def test_people_and_programs_are_told_what_was_done(cli: Cli) -> None:
    commit = refs(cli)["other"]
    cli("branch", "-d", "other")
    newest = operations(cli, "-n", "1")[0]
    assert newest["args"] == ["branch", "-d", "other"]
    assert newest["refs"] == [{"ref": "refs/heads/other", "old": commit, "new": None}]
    assert json.loads(cli("op", "show", "--format", "json").stdout) == newest
    assert json.loads(cli("op", "show", "--format", "json", newest["id"][:5]).stdout) == newest
    shown = cli.lines("op", "show")
    assert shown[0] == f"operation {newest['id']}"
    assert f"    branch other: {commit[:12]} -> none" in shown
    before = (cli.store / "operations.log").read_bytes()
    assert "would be taken back: branch -d other" in cli("undo", "--dry-run").stderr
    told = cli.json("undo", "--dry-run")
    assert told == {
        "dry_run": True,
        "kind": "undo",
        "operation": newest["id"],
        "args": ["branch", "-d", "other"],
        "refs": [{"ref": "refs/heads/other", "old": None, "new": commit}],
        "containers": [],
    }
    assert (cli.store / "operations.log").read_bytes() == before
    assert cli("undo").stderr.splitlines() == [
        f"Operation {newest['id']} is taken back: branch -d other",
        f"  branch other: none -> {commit[:12]}",
        "Back: treering redo",
    ]
    lines = cli.lines("op", "log", "-n", "2")
    assert lines[0].split() == ["ID", "DATE", "CHANGED", "COMMAND"]
    assert lines[1].endswith(f"   branch other   undo  (of {newest['id']})")
    assert lines[2].startswith(newest["id"])
    assert lines[2].endswith("   branch other   branch -d other  (taken back)")
    assert f"Operation {newest['id']} is done again: branch -d other" in cli("redo").stderr
    lines = cli.lines("op", "log", "-n", "3")
    assert lines[3].endswith("   branch other   branch -d other")
    assert cli.error("op", "show", "fffffffff")["advice"] == "`treering op log` lists the operations there are"


def test_a_branch_that_something_else_has_moved_is_one_clear_error(cli: Cli) -> None:
    cli("branch", "work", "main")
    main, other = refs(cli)["main"], refs(cli)["other"]
    (cli.store / "history.git/refs/heads/work").write_text(f"{other}\n")
    error = cli.error("undo")
    assert error["kind"] == "Conflict"
    assert error["message"] == (
        f"branch 'work' is at {other[:12]}, and the operation left it at {main[:12]}; nothing was changed"
    )
    assert "treering op restore ID" in error["advice"]
    assert refs(cli)["work"] == other
    cli("op", "restore", operations(cli)[1]["id"])
    assert "work" not in refs(cli)


def test_gc_forgets_operations_with_time(cli: Cli) -> None:
    cli("branch", "-d", "other")
    cli("gc")
    assert len(operations(cli)) > 1
    assert cli.json("gc", "--dry-run", "--expire", "now")["operations"] == len(operations(cli))
    cli("gc", "--expire", "now")
    assert operations(cli) == []
    assert cli.error("undo")["message"].startswith("there is nothing to undo")


def test_forgetting_commits_forgets_what_would_bring_them_back(cli: Cli) -> None:
    cli("forget", "main", "--keep-last", "1")
    cli("undo")
    assert len(cli.json("log", "main")) == 2
    cli("redo")
    assert len(cli.json("log", "main")) == 1
    gone = refs(cli)["other"]
    cli("tag", "-d", "v1")
    cli("branch", "-d", "other")
    cli("forget", "main", "--keep-last", "1", "--gc")
    assert not any(one["args"][:2] == ["forget", "main"] for one in operations(cli))
    assert cli.json("log", gone)  # what has nothing to do with these branches can still be taken back
    cli("undo")
    clean(cli)


def test_a_damaged_log_is_told_of_and_repaired(cli: Cli) -> None:
    path = cli.store / "operations.log"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"import", b"jmport", 1))
    found = cli.json("fsck", code=1)
    assert [problem["kind"] for problem in found["problems"]] == ["operation"]
    error = cli.error("undo")
    assert error["kind"] == "Corrupt"
    assert "--repair" in error["advice"]
    assert cli.error("gc")["kind"] == "Corrupt"
    cli("branch", "-d", "other")  # what only adds does not mind
    cli("fsck", "--repair")
    assert path.read_bytes().startswith(whole)
    cli("undo")
    assert "other" in refs(cli)
    clean(cli)


def test_containers_are_taken_back(box: Cli) -> None:
    box("create", "--name", "web", "main", "true")
    identity = box.json("ps", "-a")[0]["id"]
    box("rename", "web", "web2")
    box("update", "--memory", "64m", "web2")
    box("rm", "web2")
    names = []
    for _ in range(4):
        box("undo")
        names.append([(one["name"], one["id"]) for one in box.json("ps", "-a")])
    assert names == [[("web2", identity)], [("web2", identity)], [("web", identity)], []]
    for _ in range(3):
        box("redo")
    assert [one["name"] for one in box.json("ps", "-a")] == ["web2"]
    clean(box)


@needs_root
def test_what_a_real_container_went_through_is_taken_back(box: Cli) -> None:
    """In processes of their own: what `run` leaves is an operation too, and what its end does is none."""

    def run(*arguments: str) -> str:
        done = box.process(*arguments)
        assert done.returncode == 0, done.stderr
        found: str = done.stdout.decode()
        return found

    before = refs(box)
    run("run", "--name", "web", "main", "sh", "-c", "test -e /etc/state || echo one > /etc/state")
    run("commit", "web", "-b", "work", "-m", "one")
    run("start", "web")
    run("wait", "web")
    run("rollback", "web", "main")
    run("undo")
    assert "/etc/state" not in run("status", "web")
    run("undo")
    assert refs(box) == before
    assert "/etc/state" in run("status", "web")
    run("redo")
    assert run("cat", "work:/etc/state") == "one\n"
    run("run", "--rm", "main", "true")
    assert operations(box, "-n", "1")[0]["args"] == ["redo"]
    clean(box)


@needs_root
def test_a_running_container_is_never_touched(box: Cli) -> None:
    done = box.process("run", "-d", "--name", "web", "main", "sh", "-c", "echo one > /etc/state; sleep 600")
    assert done.returncode == 0, done.stderr
    error = box.error("undo")
    assert (error["kind"], error["advice"]) == ("Conflict", "stop it first: treering stop web")
    before = refs(box)
    assert box.process("commit", "web", "-b", "work", "-m", "live").returncode == 0
    box("undo")  # a head and a branch go back, of which it notices nothing
    assert refs(box) == before
    assert box.json("ps")[0]["state"] == "running"
    assert box.process("stop", "--time", "0", "web").returncode == 0
    box("undo")
    assert box.json("ps", "-a") == []
    box("redo")
    assert [one["name"] for one in box.json("ps", "-a")] == ["web"]


def log_of(cli: Cli, branch: str) -> bytes:
    return (cli.store / "history.git/logs/refs/heads" / branch).read_bytes()


def test_a_branch_that_comes_back_has_its_old_reflog(cli: Cli) -> None:
    cli("branch", "-f", "other", "main")
    whole = log_of(cli, "other")
    assert whole.count(b"\n") == 3
    told = cli.json("reflog", "other")
    cli("branch", "-d", "other")
    cli("undo")
    assert log_of(cli, "other") == whole
    assert cli.json("reflog", "other") == told
    assert cli.json("log", "other@{1}", "-n", "1")[0]["title"] == "third"
    cli("redo")
    cli("branch", "other", "v1")  # another of that name
    cli("undo")
    cli("undo")
    assert log_of(cli, "other") == whole
    cli("branch", "-m", "other", "renamed")
    cli("undo")
    assert log_of(cli, "other") == whole
    clean(cli)
