"""commit --exclude: what matches is not read, is not in the commit, and stays in the container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_secrets import configure
from tests.runtime.test_secrets import SECRETS
from vcs.encoding import digest
from vcs.errors import Missing
from vcs.store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

KEY = SECRETS["private key"][2]


def commit(box: Cli, *words: str, code: int = 0) -> str:
    return box("commit", "web", "-m", "m", *words, code=code).stdout.strip()


def prepare(box: Cli, tmp_path: Path, *options: str) -> None:
    (tmp_path / "key").write_bytes(KEY)
    script = "mkdir -p /root/.ssh /srv/www && cp /from/key /root/.ssh/id && echo 1 > /srv/www/page"
    box.process("create", "--name", "web", "-v", f"{tmp_path}:/from:ro", *options, "main", "sh", "-c", script)
    box.process("start", "-i", "web")


def test_a_key_is_neither_committed_nor_stored(box: Cli, tmp_path: Path) -> None:
    prepare(box, tmp_path)
    configure(box, "refuse")
    assert "--exclude" in box("commit", "web", "-m", "m", code=125).stderr
    made = commit(box, "--exclude", "/root/.ssh", "--branch", "new")
    assert box("cat", f"{made}:/srv/www/page").stdout == "1\n"
    assert "/root/.ssh" not in box("diff", "--name-only", "main", "new").stdout
    with Store.open(box.store) as store, pytest.raises(Missing):
        store.get(digest(KEY))
    changed = {line.split()[-1] for line in box.lines("status", "web")}
    assert changed - {"/root/"} == {"/root/.ssh/", "/root/.ssh/id"}, "it is a change still"
    configure(box, "off")
    whole = commit(box)
    assert box("cat", f"{whole}:/root/.ssh/id").stdout == KEY.decode()
    assert box.lines("status", "web") == []
    box("fsck")


def test_what_stays_is_there_at_the_next_start(box: Cli, tmp_path: Path) -> None:
    prepare(box, tmp_path)
    made = commit(box, "--exclude", "id", "--exclude", "page")
    assert box.process("run", "--rm", made, "ls", "/srv/www", "/root/.ssh").stdout == b"/root/.ssh:\n\n/srv/www:\n"
    assert box.process("start", "-i", "web").returncode == 0
    changed = {line.split()[-1] for line in box.lines("status", "web")}
    assert {"/srv/www/page", "/root/.ssh/id"} <= changed


def test_a_running_container_keeps_what_was_committed_before(box: Cli) -> None:
    """Its upper still has it, and the base has not: it is as the last commit has it."""
    box.process("run", "-d", "--name", "web", "main", "sleep", "1000")
    box.process("exec", "web", "sh", "-c", "echo 1 > /a; echo 1 > /b; mkdir /d; echo 1 > /d/f; ln /d/f /d/g")
    commit(box)
    box.process("exec", "web", "sh", "-c", "echo 2 > /a; echo 2 > /b; echo 2 > /new")
    made = commit(box, "--exclude", "/a", "--exclude", "/new")
    assert box("cat", f"{made}:/a", f"{made}:/b").stdout == "1\n2\n"
    assert {line.split()[-1] for line in box.lines("status", "web")} == {"/a", "/new"}
    assert "hard links" in box("commit", "web", "-m", "m", "--exclude", "/d", code=125).stderr
    box("kill", "web")
    box("fsck")


def test_if_all_is_left_out_nothing_has_changed(box: Cli) -> None:
    box.process("run", "--name", "web", "main", "sh", "-c", "mkdir -p /var/cache/x && echo 1 > /var/cache/x/y")
    assert "Nothing has changed" in box("commit", "web", "-m", "m", "--exclude", "/var").stderr
    assert "is not a pattern" in box("commit", "web", "-m", "m", "--exclude", "[", code=125).stderr
    assert {line.split()[-1] for line in box.lines("status", "web")} >= {"/var/cache/x/y"}
