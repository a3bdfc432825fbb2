"""Forks of real containers: started together, compared, promoted, removed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def source(box: Cli, script: str = "echo prepared > /etc/prepared; exec sleep 1000") -> None:
    """A container that runs, and has changed something."""
    assert box.process("run", "-d", "--name", "web", "main", "--", "sh", "-c", script).returncode == 0


def states(box: Cli) -> dict[str, str]:
    return {row["name"]: row["state"] for row in box.json("ps", "-a")}


def rows(box: Cli, *arguments: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in box.json("compare", *arguments)}


def wait_for_file(box: Cli, until: Any, path: str = "/etc/prepared") -> None:
    until(lambda: any(row["path"] == path for row in box.json("status", "web")))


def test_forks_of_a_running_container_are_started_together(box: Cli, until: Any) -> None:
    source(box)
    wait_for_file(box, until)
    done = box.process("fork", "web", "-n", "6", "--name", "f", "--start", "-e", "WHO={name}")
    assert (done.returncode, done.stderr) == (0, b"")
    names = [f"f-{number}" for number in range(1, 7)]
    assert done.stdout.decode().split() == names
    assert states(box) == dict.fromkeys(["web", *names], "running")
    assert {row["commit"] for row in box.json("ps", "-a")} == {box.json("show", "web")["commit"]}
    assert box.json("show", "web")["title"] == "Fork of web"
    assert box("cat", "f-3:/etc/prepared").stdout == "prepared\n"

    removed = box.process("rm", "-f", "--format", "jsonl", *names[:5])
    assert len(removed.stdout.splitlines()) == 5
    assert states(box) == {"web": "running", "f-6": "running"}
    assert box("rm", "--all").stderr == "", "what runs is left alone"
    box.process("kill", "f-6")
    assert "Removed f-6" in box("rm", "--all").stderr
    assert "Removed web" in box("rm", "--all", "--force").stderr
    assert states(box) == {}
    assert box.error("rm", code=2)["kind"] == "UsageError"
    assert box.error("rm", "--all", "web", code=2)["kind"] == "UsageError"
    box("fsck")


def test_forks_that_try_are_compared_and_the_best_promoted(box: Cli) -> None:
    assert box.process("run", "--name", "web", "main", "--", "sh", "-c", "echo 0 > /etc/tries").returncode == 0
    script = 'echo {i} of {n} > /etc/tries; echo "$WHO" > /etc/{name}; rm /etc/motd; test {i} != 2'
    done = box.process(
        "fork", "web", "-n", "3", "--name", "try", "--wait", "-e", "WHO=me {i}", "--", "sh", "-c", script
    )
    assert done.returncode == 1, "one of them failed"
    title, *lines = done.stdout.decode().splitlines()
    assert title.split()[:3] == ["NAME", "EXIT", "CODE"]
    assert [line.split()[:2] for line in lines] == [["try-1", "0"], ["try-2", "1"], ["try-3", "0"]]
    assert all("A1 M1 D1" in line for line in lines)
    assert lines[0].endswith("D /etc/motd, M /etc/tries, A /etc/try-1")
    fork = box.json("show", "web")["commit"]
    assert done.stderr.decode() == f"Compared with {fork[:12]}\n"
    assert box.process("fork", "web", "--wait", "--", "true").returncode == 0

    found = rows(box, "--merge-base", "try-1", "try-2", "try-3")
    assert [row["exit_code"] for row in found.values()] == [0, 1, 0]
    assert found["try-2"]["counts"] == {"A": 1, "M": 1, "D": 1, "R": 0, "T": 0}
    assert found["try-2"]["bytes"] == len("2 of 3\n" + "me 2\n")
    assert [row["path"] for row in found["try-2"]["paths"]] == ["/etc/motd", "/etc/tries", "/etc/try-2"]
    assert found == rows(box, "--base", fork, "try-1", "try-2", "try-3")
    first = rows(box, "try-1", "try-2", "main")
    assert first["try-1"]["counts"] == dict.fromkeys("AMDRT", 0)
    assert [row["path"] for row in first["try-2"]["paths"]] == ["/etc/tries", "/etc/try-1", "/etc/try-2"]
    assert first["main"]["container"] is first["main"]["exit_code"] is None
    assert len(box.json("status", "try-2")) == 3, "nothing was stored"
    assert box.json("show", "try-2")["commit"] == fork

    box("branch", "tried", "main")
    done = box.json("promote", "try-3", "--branch", "tried")
    assert done == {
        "commit": box.json("show", "tried")["commit"],
        "branch": "tried",
        "before": box.json("show", "main")["commit"],
        "hooks": [],
    }
    assert box("cat", "tried:/etc/tries").stdout == "3 of 3\n"
    assert [row["title"] for row in box.json("log", "tried")][:2] == ["Promote try-3", "Fork of web"]
    error = box.error("promote", "try-1", "-b", "tried", "-m", "better")
    assert error["kind"] == "Conflict"
    assert "treering diff try-1 tried" in error["advice"]
    assert len(box.json("status", "try-1")) == 3, "nothing was changed"
    forced = box("promote", "try-1", "-b", "tried", "-m", "better", "--force")
    assert f"back: treering branch -f tried {done['commit'][:12]}" in forced.stderr
    assert box("cat", "tried:/etc/tries").stdout == "1 of 3\n"
    assert box.json("reflog", "tried")[0]["old"] == done["commit"]
    box("fsck")


def test_one_that_cannot_be_started_is_told_of(box: Cli) -> None:
    script = 'printf "#!/bin/sh\\n" > /bin/go-2; chmod 755 /bin/go-2'
    assert box.process("run", "--name", "web", "main", "--", "sh", "-c", script).returncode == 0
    done = box.process("fork", "web", "-n", "3", "--start", "--format", "json", "--", "go-{i}")
    assert done.returncode == 125
    assert {line.split()[0] for line in done.stderr.decode().splitlines()[:2]} == {"web-1", "web-3"}
    done = box.process("fork", "web", "-n", "3", "--wait", "--", "go-{i}")
    assert done.returncode == 1
    assert [line.split()[1] for line in done.stdout.decode().splitlines()[1:]] == ["127", "0", "127"]


def test_packages_are_compared(box: Cli) -> None:
    """Those of a container that nobody has committed, in a database that nobody has stored."""
    entry = "Package: {0}\\nStatus: install ok installed\\nVersion: {1}\\nArchitecture: all\\n\\n"
    start = (
        "mkdir -p /var/lib/dpkg; printf '"
        + entry.format("a", "1")
        + entry.format("b", "1")
        + "' > /var/lib/dpkg/status"
    )
    more = "printf '" + entry.format("a", "0.9") + entry.format("c", "1") + "' > /var/lib/dpkg/status"
    python = "mkdir -p /opt/venv/lib/python3.11/site-packages/Some_Tool-1.5.dist-info"
    assert box.process("run", "--name", "web", "main", "--", "sh", "-c", start).returncode == 0
    assert box.process("fork", "web", "--wait", "--", "sh", "-c", f"{more}; {python}").returncode == 0
    found = rows(box, "web", "web-1")["web-1"]["packages"]
    assert [one["name"] for one in found["added"]] == ["c", "some-tool"]
    assert [one["name"] for one in found["removed"]] == ["b"]
    assert [(one["name"], one["old_version"], one["version"], one["downgrade"]) for one in found["changed"]] == [
        ("a", "1", "0.9", True)
    ]
    assert "+2 -1 ~1" in box.lines("compare", "web", "web-1")[2]
    assert [one["name"] for one in rows(box, "main", "web-1")["web-1"]["packages"]["added"]] == ["a", "c", "some-tool"]


def test_what_cannot_be_compared(box: Cli) -> None:
    assert box.error("compare", "main", "nope")["kind"] == "NotFound"
    assert box.error("compare", "--base", "main", "--merge-base", "main", code=2)["kind"] == "UsageError"
    assert box.error("compare", code=2)["kind"] == "UsageError"
    assert box.error("fork", "nope", "-n", "2")["kind"] == "NotFound"
    assert box.error("fork", "web", "-n", "0", code=2)["kind"] == "UsageError"
    assert box.error("promote", "nope", "-b", "main")["kind"] == "NotFound"
    both = box.lines("compare", "main~1", "main")
    assert both[1].split() == ["main~1", "-", "-", "-", "-", "-"]
    assert both[2].startswith("main ")


def test_who_is_killed_while_he_waits_leaves_the_forks_running(box: Cli, tmp_path: Path, until: Any) -> None:
    source(box)
    with (tmp_path / "out").open("wb") as out:
        waiting = box.start("fork", "web", "-n", "3", "--name", "f", "--wait", stdin=-3, stdout=out, stderr=out)
        try:
            until(lambda: list(states(box).values()) == ["running"] * 4)
        finally:
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(30) == 130
    assert states(box) == dict.fromkeys(["web", "f-1", "f-2", "f-3"], "running")


def test_several_are_started_at_the_same_time(box: Cli) -> None:
    """Each of those that can be is; what is wrong with the others is told of each."""
    script = 'printf "#!/bin/sh\\nexec sleep 1000\\n" > /bin/go-2; cp -a /bin/go-2 /bin/go-3; chmod 755 /bin/go-*'
    assert box.process("run", "--name", "web", "main", "--", "sh", "-c", script).returncode == 0
    box("fork", "web", "-n", "3", "--name", "f", "--", "go-{i}")
    done = box.process("start", "-d", "nope", "f-3", "f-1", "f-2", "f-3")
    assert (done.returncode, done.stdout) == (127, b"f-3\nf-2\n")
    assert all(word in done.stderr.decode() for word in ("'nope'", "go-1"))
    assert {name for name, state in states(box).items() if state == "running"} == {"f-2", "f-3"}
    done = box.process("start", "-d", "f-2", "f-3")
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.decode().count("is running already") == 2
