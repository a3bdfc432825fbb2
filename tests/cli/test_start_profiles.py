"""Real containers leave a profile of their start, and the next cold start reads from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusefs.client import Service
from tests.cli.conftest import Cli, stop_service
from tests.support.containers import eventually
from vcs.profiles import open_profile

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def profiles(box: Cli) -> list[Path]:
    """Those that are complete."""
    return [path for path in sorted((box.store / "caches").glob("start-*")) if not path.suffix]


def run(box: Cli, revision: str) -> int:
    """Start a container in a new mount, of which nothing is in the page cache; how many objects came from a profile."""
    stop_service(box.store)
    done = box.process("run", "--rm", revision, "--", "busybox", "cat", "/etc/passwd", "/etc/motd")
    assert done.returncode == 0
    status = Service.status(box.store)
    assert status is not None
    profiled: int = status["profiled"]
    return profiled


def test_the_second_cold_start_reads_from_the_profile_of_the_first(box: Cli) -> None:
    assert run(box, "main") == 0
    (path,) = eventually(lambda: profiles(box))
    assert path.name == f"start-{box.json('show', 'main')['root']}"
    profile = open_profile(path)
    assert profile is not None
    names = {item.digest for item in profile.items}
    profile.close()
    assert len(names) > 5
    before = path.stat().st_ino
    assert run(box, "main") >= len(names) // 2
    assert path.stat().st_ino == before, "nothing new was read, so nothing is written"
    box("fsck")
    path.write_bytes(path.read_bytes()[:-1])
    assert run(box, "main") == 0
    eventually(lambda: path.stat().st_ino != before)
    assert run(box, "main") > 0
    box("fsck")


def test_a_child_commit_starts_with_its_ancestors_profile(box: Cli) -> None:
    assert run(box, "main") == 0
    eventually(lambda: profiles(box))
    assert box.process("run", "--name", "web", "main", "--", "sh", "-c", "echo new > /etc/new").returncode == 0
    box("commit", "web", "-m", "child", "--branch", "child")
    assert run(box, "child") > 0


def test_a_start_without_profile_leaves_none(box: Cli) -> None:
    stop_service(box.store)
    assert box.json("show", "main")["start_profile"] is None
    done = box.process("run", "--rm", "--no-profile", "main", "--", "busybox", "cat", "/etc/passwd")
    assert done.returncode == 0
    assert run(box, "main") == 0, "there is none"
    (path,) = eventually(lambda: profiles(box))
    assert 0 < box.json("show", "main")["start_profile"] < path.stat().st_size
    assert "in its start profile" in box("show", "main").stdout
    stop_service(box.store)
    assert box.process("run", "--rm", "--no-profile", "main", "--", "busybox", "true").returncode == 0
    status = Service.status(box.store)
    assert status is not None
    assert status["profiled"] == 0


def test_a_detached_container_leaves_one_too(box: Cli) -> None:
    stop_service(box.store)
    assert box.process("run", "-d", "--name", "db", "main", "--", "busybox", "cat", "/etc/passwd").returncode == 0
    (path,) = eventually(lambda: profiles(box))
    profile = open_profile(path)
    assert profile is not None
    profile.close()
