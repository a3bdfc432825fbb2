"""merge --into CONTAINER, as people give it: with containers that run, and git agrees with what comes of it."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def git(cli: Cli, *arguments: str) -> list[str]:
    done = subprocess.run(
        ["git", "-C", str(cli.store / "history.git"), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()


def ran(box: Cli, *arguments: str) -> str:
    done = box.process(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def committed(box: Cli, name: str, script: str) -> None:
    """Run a script in a container on main~1, and commit what it did to a branch of its name."""
    box("branch", name, "main")
    ran(box, "run", "--name", f"for-{name}", name, "--", "sh", "-ec", script)
    box("commit", f"for-{name}", "-m", f"{name} did it", "-b", name)


@pytest.fixture
def sides(box: Cli) -> Cli:
    """`web` and `db` have both changed the same line and the same binary, and `web` deleted what `db` changed."""
    committed(box, "web", "sed -i s/three/WEB/ /etc/motd; echo web > /etc/added; rm /etc/group; touch /etc/web")
    committed(
        box, "db", "sed -i s/three/DB/ /etc/motd; echo db >> /etc/added; echo x:x:77: >> /etc/group; touch /etc/db"
    )
    return box


def test_conflicts_are_settled_in_a_running_container(sides: Cli) -> None:
    ours, theirs = git(sides, "rev-parse", "web", "db")
    told = sides.json("merge", "db", "--on", "web", "--into", "m", code=1)
    assert (told["outcome"], told["container"], told["commit"]) == ("conflicts", "m", None)
    assert [(one["path"], one["kind"]) for one in told["conflicts"]] == [
        ("/etc/added", "content"),
        ("/etc/group", "deleted"),
        ("/etc/motd", "content"),
    ]
    ran(sides, "start", "-d", "m")
    look = "cd /etc; cat motd motd.ours motd.theirs group.theirs; ls -d added* group* web db"
    lines = ran(sides, "exec", "m", "sh", "-ec", look).splitlines()
    markers = ["<<<<<<< ours (web)", "WEB", f"||||||| base ({told['base'][:12]})", "three", "=======", "DB"]
    assert lines[2:9] == [*markers, f">>>>>>> theirs ({theirs[:12]})"]
    assert {"WEB", "DB", "x:x:77:", "group.theirs", "group.base", "added", "added.ours", "web", "db"} <= {*lines}
    assert "group" not in lines
    left = sides.json("merge", "--status", code=1)
    assert [(one["path"], one["markers"], one["files"]) for one in left["conflicts"]] == [
        ("/etc/added", False, ["/etc/added.ours", "/etc/added.theirs", "/etc/added.base"]),
        ("/etc/group", False, ["/etc/group.theirs", "/etc/group.base"]),
        ("/etc/motd", True, ["/etc/motd.ours", "/etc/motd.theirs", "/etc/motd.base"]),
    ]
    settle = "cd /etc; mv added.theirs added; mv group.theirs group; rm *.ours *.base"
    ran(sides, "exec", "m", "sh", "-ec", settle)
    refused = sides("merge", "--continue", "m", code=1)
    assert "markers, /etc/motd.theirs" in refused.stdout
    assert refused.stderr.startswith("1 conflict left to be settled in container m")
    assert git(sides, "rev-parse", "web") == [ours]
    ran(sides, "exec", "m", "sh", "-ec", "cd /etc; printf 'one\\nsettled\\n' > motd; rm motd.theirs")
    done = sides("merge", "--continue")
    commit = done.stdout.strip()
    assert done.stderr.startswith(f"[web {commit[:12]}] Merge branch 'db' into web: ")
    assert git(sides, "log", "-1", "--format=%P", "web") == [ours, theirs]
    assert git(sides, "merge-base", "web", "db") == [theirs], "db is merged now"
    assert sides("cat", "web:/etc/motd").stdout == "one\nsettled\n"
    assert sides("cat", "web:/etc/added").stdout_bytes.endswith(b"db\n")
    assert sides.json("status", "m") == []
    git(sides, "fsck", "--strict")
    sides("fsck", "--read-data")


def test_it_is_told_wherever_the_container_is_shown(sides: Cli) -> None:
    sides("merge", "db", "--on", "web", "--into", "m", code=1)
    assert {row["name"]: row["merging"] for row in sides.json("ps", "-a")} == {
        "for-web": None, "for-db": None, "m": "web",
    }  # fmt: skip
    assert "created (merging)" in sides("ps", "-a").stdout
    assert sides.json("inspect", "m")[0]["merging"]["branch"] == "web"
    assert "A merge into web is under way" in sides("status", "m").stderr
    error = sides.error("commit", "m", "-m", "too early", "-b", "web")
    assert error["message"] == "a merge into 'web' is under way in container 'm'"
    assert "treering merge --continue m" in error["advice"]
    sides("rm", "m")
    assert sides.error("merge", "--status")["message"] == "no merge is under way in any container"


def test_giving_up_a_merge_whose_container_runs(sides: Cli) -> None:
    before = git(sides, "rev-parse", "web", "db")
    sides("merge", "db", "--on", "web", "--into", "m", code=1)
    ran(sides, "start", "-d", "m")
    assert "would be given up" in sides("merge", "--abort", "--dry-run").stderr
    assert "is given up, and container m removed" in sides("merge", "--abort").stderr
    assert [row["name"] for row in sides.json("ps", "-a")] == ["for-web", "for-db"]
    assert git(sides, "rev-parse", "web", "db") == before
    sides("undo")
    assert len(sides.json("merge", "--status", code=1)["conflicts"]) == 3


def test_a_branch_that_has_moved_meanwhile(sides: Cli) -> None:
    sides("merge", "db", "--on", "web", "--into", "m", "--theirs")
    assert sides.json("merge", "--status")["outcome"] == "settled"
    before = git(sides, "rev-parse", "web")[0]
    committed_meanwhile = sides("revert", "main", "--on", "web", "--ours").stdout.splitlines()[-1]
    error = sides.error("merge", "--continue")
    assert error["message"].startswith(f"branch 'web' is at {committed_meanwhile[:12]}, and the merge in container 'm'")
    assert f"treering branch -f web {before[:12]}" in error["advice"]
    sides("branch", "-f", "web", before)
    assert sides.json("merge", "--continue", "-m", "mine")["outcome"] == "merged"
    assert sides.json("log", "-n", "1", "web")[0]["title"] == "mine"
    sides("undo")
    assert git(sides, "rev-parse", "web") == [before]


def test_what_was_not_in_conflict_waits_too(sides: Cli) -> None:
    """To make files anew that are derived from others, before anybody sees the merge."""
    ran(sides, "run", "--name", "more", "db", "--", "sh", "-ec", "touch /etc/more")
    sides("commit", "more", "-m", "more", "-b", "more")
    told = sides.json("merge", "more", "--on", "db", "--into", "m")
    assert (told["outcome"], [one["path"] for one in told["changes"]]) == ("prepared", ["/etc/more"])
    ran(sides, "start", "-d", "m")
    ran(sides, "exec", "m", "sh", "-c", "echo made anew > /etc/cache")
    sides("merge", "--continue")
    assert sides("cat", "db:/etc/cache").stdout == "made anew\n"
    assert git(sides, "log", "-1", "--format=%P", "db") == git(sides, "rev-parse", "db~1", "more")


@pytest.mark.parametrize("verb", ["cherry-pick", "revert"])
def test_the_same_for_single_commits(sides: Cli, verb: str) -> None:
    revision, on = ("db", "web") if verb == "cherry-pick" else ("main", "web")
    before = git(sides, "rev-parse", "web")
    told = sides.json(verb, revision, "--on", on, "--into", "m", code=1)
    files = [file for one in sides.json("merge", "--status", code=1)["conflicts"] for file in one["files"]]
    assert told["outcome"] == "conflicts"
    ran(sides, "start", "-d", "m")
    ran(sides, "exec", "m", "sh", "-ec", 'rm "$@"; echo settled > /etc/motd', "sh", *files)
    commit = sides("merge", "--continue").stdout.strip()
    assert git(sides, "log", "-1", "--format=%P", "web") == before
    body = " ".join(git(sides, "log", "-1", "--format=%B", "web"))
    assert ("(cherry picked from commit" if verb == "cherry-pick" else "This reverts commit") in body
    assert sides("cat", f"{commit}:/etc/motd").stdout == "settled\n"


def test_what_does_not_go_together(sides: Cli) -> None:
    for arguments in (
        ("db", "--on", "main", "--into", "web"),
        (),
        ("db", "--change", "USER a"),
        ("--continue", "--no-ff"),
        ("--status", "--ours"),
        ("--abort", "--into", "m"),
    ):
        assert sides.error("merge", *arguments, code=2)["kind"] == "UsageError", arguments
    assert "is a branch: --on web merges into that" in sides.error("merge", "db", "--into", "web", code=2)["message"]
    assert sides.error("merge", "db", "--on", "web", "--into", "for-db")["kind"] == "AlreadyExists"
    assert sides.json("merge", "db", "--on", "web", "--into", "m", "--dry-run", code=1)["container"] is None
    assert sides.error("merge", "--continue", "for-db")["message"] == "no merge is under way in container 'for-db'"


def test_a_command_is_run_on_the_merge_before_it_is_committed(sides: Cli) -> None:
    before, theirs = git(sides, "rev-parse", "web", "db")
    told = sides.json("merge", "db", "--on", "web", "--run", "touch /ran", code=1)
    assert (told["outcome"], told["container"]) == ("conflicts", None)
    failed = sides.process("merge", "db", "--on", "web", "--theirs", "--run", "echo no >&2; exit 3")
    assert failed.returncode == 125
    assert b"the command failed with exit code 3, so nothing was merged: no" in failed.stderr
    assert git(sides, "rev-parse", "web") == [before]
    done = sides.process("merge", "db", "--on", "web", "--theirs", "--run", "cat /etc/motd > /ran")
    assert done.returncode == 0, done.stderr
    assert git(sides, "log", "-1", "--format=%P", "web") == [before, theirs]
    assert sides("cat", "web:/ran").stdout.splitlines()[-2:] == ["DB", "four"]
    assert sides.json("log", "-n", "1", "web")[0]["trailers"]["Command"] == "cat /etc/motd > /ran"
    assert [row["name"] for row in sides.json("ps", "-a")] == ["for-web", "for-db"]
    sides("undo")
    assert git(sides, "rev-parse", "web") == [before]
    sides("fsck")
