"""stash, as people give it, with containers that run."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WORK = (
    "echo more >> /etc/motd; rm /etc/added; mkdir -p /srv/a; echo x > /srv/a/x; ln /srv/a/x /srv/a/y; "
    "chmod 700 /bin; rm -rf /tmp; mkdir /tmp; echo new > /tmp/new; chown 5:6 /srv/a/x"
)


def ran(box: Cli, *arguments: str) -> str:
    done = box.process(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def container(box: Cli, name: str, script: str, base: str = "main") -> None:
    ran(box, "run", "--name", name, base, "--", "sh", "-ec", script)


def test_push_and_pop_with_a_real_container(box: Cli) -> None:
    container(box, "web", WORK)
    changed = box.json("status", "web")
    before = ran(box, "diff", "web", "--name-status")
    result = box("stash", "web", "-m", "half of the upgrade")
    assert result.stdout == "1\n"
    assert result.stderr.startswith("[stash 1] half of the upgrade: ")
    assert "is clean" in box("status", "web").stdout + box("status", "web").stderr
    assert ran(box, "diff", "web", "--name-status") == ""
    (row,) = box.json("stash", "list")
    assert (row["number"], row["container"]["name"], row["title"]) == (1, "web", "half of the upgrade")
    assert "half of the upgrade" in box("stash", "list").stdout
    assert {one["path"] for one in box.json("stash", "show")} >= {"/etc/added", "/srv/a/x"}
    assert " /srv/a/x " in box("stash", "show", "1", "--stat").stdout
    assert "+more" in box("stash", "show", "-p").stdout
    git = ["git", "-C", str(box.store / "history.git"), "log", "-1", "--format=%s", "refs/stashes/1"]
    done = subprocess.run(git, capture_output=True, text=True, check=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.stdout == "half of the upgrade\n"
    result = box("stash", "pop")
    assert result.stderr.startswith("web has stash 1: ")
    assert result.stderr.endswith("; stash 1 is dropped; back: treering undo\n")
    assert ran(box, "diff", "web", "--name-status") == before
    assert box.json("status", "web") == changed
    assert box.json("stash", "list") == []
    box("fsck", "--read-data")


def test_a_container_goes_on_where_a_stash_was_brought_in(box: Cli) -> None:
    container(box, "web", "grep -q mark /etc/mark 2>/dev/null && cp /etc/mark /etc/copy; echo mark > /etc/mark")
    box("stash", "web")
    box("gc", "--expire", "now")
    box("stash", "pop")
    box("gc", "--expire", "now")
    ran(box, "start", "web")
    ran(box, "wait", "web")
    assert [(one["status"], one["path"]) for one in box.json("diff", "web") if one["path"] != "/etc"] == [
        ("A", "/etc/copy"),
        ("A", "/etc/mark"),
    ]
    box("commit", "web", "-m", "both", "--branch", "main")
    assert box("cat", "main:/etc/copy").stdout == "mark\n"
    box("fsck", "--read-data")


def test_conflicts_are_listed_and_the_stash_is_kept(box: Cli) -> None:
    container(box, "web", "echo web > /etc/motd; echo web > /web")
    container(box, "db", "echo db > /etc/motd")
    box("commit", "db", "-m", "db's")
    box("stash", "web")
    result = box("stash", "pop", "--into", "db", code=1)
    assert result.stdout.splitlines()[1].split()[:2] == ["/etc/motd", "content"]
    assert result.stderr.startswith("1 conflict: nothing was changed, and stash 1 is kept. ")
    told = box.json("stash", "list")
    assert [row["number"] for row in told] == [1]
    result = box("stash", "apply", "--into", "db", "--theirs")
    assert "; 1 conflict decided; back: treering undo" in result.stderr
    assert box.json("stash", "list") == told
    assert {one["path"] for one in box.json("diff", "db")} >= {"/etc/motd", "/web"}
    box("undo")
    assert box.json("diff", "db") == []
    assert "exclude one another" in box.error("stash", "pop", "--ours", "--theirs", code=2)["message"]


def test_a_running_container_is_refused(box: Cli) -> None:
    ran(box, "run", "-d", "--name", "web", "main", "--", "sh", "-c", "echo x > /x; while :; do sleep 1; done")
    error = box.error("stash", "push", "web")
    assert error["message"] == "container 'web' is running; it cannot be stashed"
    assert error["advice"] == "stop it first: treering stop web"
    container(box, "db", "echo x > /x")
    box("stash", "db")
    error = box.error("stash", "pop", "--into", "web")
    assert error["message"] == "container 'web' is running; it cannot be changed by a stash"
    assert [row["number"] for row in box.json("stash", "list")] == [1]


def test_drop_and_clear_can_be_taken_back(box: Cli) -> None:
    container(box, "web", "echo x > /x")
    box("stash", "web", "-m", "one")
    box("stash", "apply")
    box("stash", "web", "-m", "two")
    assert box("stash", "clear", "--dry-run").stderr == "Stash 2 would be dropped: two\nStash 1 would be dropped: one\n"
    assert box("stash", "drop").stderr == "Stash 2 is dropped: two\nBack: treering undo\n"
    box("undo")
    box("stash", "clear")
    assert box.json("stash", "list") == []
    assert box("stash", "clear").stderr == "Nothing to do: there is no stash\n"
    box("undo")
    assert [row["title"] for row in box.json("stash", "list")] == ["two", "one"]
    kept = [line.split() for line in box.lines("du") if line.startswith("stash")]
    assert [line[-1] for line in kept] == ["1", "2"]


def test_nothing_to_put_aside_and_nothing_to_bring(box: Cli) -> None:
    container(box, "web", "true")
    box("commit", "web", "-m", "it")
    result = box("stash", "web")
    assert (result.stdout, result.stderr) == ("", "Nothing to do: nothing has changed in web since its last commit\n")
    assert box.json("stash", "push", "web") == {"stash": None, "changes": []}
    error = box.error("stash", "pop")
    assert (error["message"], error["advice"][:21]) == ("there is no stash", "`treering stash list`")
    assert box.error("stash", "none")["message"] == "no container 'none'"
