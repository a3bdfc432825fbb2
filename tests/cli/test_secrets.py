"""commit and import warn of secrets, or refuse them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cli.conftest import Cli
from tests.runtime.test_secrets import SECRETS
from tests.support.busybox_root import make_busybox_root

_KEY = SECRETS["private key"][2]
_TOKEN = SECRETS["GitHub token"][0]
_MARKS = (_TOKEN.decode(), _KEY.decode().splitlines()[1])


def configure(cli: Cli, policy: str) -> None:
    command = ["git", "-C", str(cli.store / "history.git"), "config", "treering.secrets", policy]
    subprocess.run(command, check=True, timeout=60)


def layers(cli: Cli) -> set[str]:
    return {path.name for path in (cli.store / "layers").iterdir()}


def test_import_warns(cli: Cli, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "root/.ssh").mkdir(parents=True)
    (top / "root/.ssh/id_rsa").write_bytes(_KEY)
    first = cli("import", str(top), "-b", "new", "-m", "m")
    assert "warning: /root/.ssh/id_rsa holds a secret: private key" in first.stderr
    (top / "odd\nname").write_bytes(_TOKEN)
    found = cli.json("import", str(top), "-b", "new", "-m", "m")["secrets"]
    assert found == [{"path": "/odd\nname", "kinds": ["GitHub token"]}]
    (top / "other").write_bytes(_KEY + _TOKEN)
    allowed = cli("import", str(top), "-b", "new", "-m", "m", "--allow-secrets")
    assert "secret" not in allowed.stderr
    assert not any(mark in first.output + allowed.output for mark in _MARKS)


def test_a_refused_import_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    configure(cli, "refuse")
    top = tmp_path / "top"
    top.mkdir()
    for number in range(30):
        (top / f"file-{number}").write_text(f"{number}\n")
    (top / "token").write_bytes(_TOKEN)
    before = layers(cli), cli.json("branch")
    error = cli.error("import", str(top), "-b", "new", "-m", "m")
    assert error["kind"] == "SecretsFound"
    assert error["facts"]["files"] == [["/token", ["GitHub token"]]]
    assert "--allow-secrets" in error["advice"]
    assert not any(mark in str(error) for mark in _MARKS)
    assert (layers(cli), cli.json("branch")) == before
    cli("import", str(top), "-b", "new", "-m", "m", "--allow-secrets")
    (top / "file-0").write_text("changed\n")
    cli("import", str(top), "-b", "new", "-m", "what was there already is not refused")
    cli("fsck")


def test_a_setting_that_is_none(cli: Cli, tmp_path: Path) -> None:
    configure(cli, "perhaps")
    (tmp_path / "top").mkdir()
    assert "warn, refuse, off" in cli.error("import", str(tmp_path / "top"), "-b", "new")["message"]


def test_an_archive_is_looked_at_too(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(_KEY)
    subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "a.tar"), "key"], check=True, timeout=60)
    assert "/key holds a secret" in cli("import", str(tmp_path / "a.tar"), "-b", "new").stderr


def test_commit(box: Cli, tmp_path: Path) -> None:
    """Of a container that has ended, and of one that runs and stands still for it."""
    root = make_busybox_root(tmp_path / "root")
    (root / "key").write_bytes(_KEY)
    box("import", str(root), "-b", "keys", "-m", "m", "--allow-secrets")
    run = ["run", "--network", "none"]
    assert box.process(*run, "--name", "c", "keys", "--", "sh", "-c", "cp /key /etc/copy").returncode == 0
    configure(box, "refuse")
    head = box.json("inspect", "c")
    kept = layers(box)
    error = box.error("commit", "c", "-m", "m")
    assert error["facts"]["files"] == [["/etc/copy", ["private key"]]]
    assert (box.json("inspect", "c"), layers(box)) == (head, kept)
    assert box.json("commit", "c", "-m", "m", "--allow-secrets")["secrets"] == []

    assert box.process(*run, "-d", "--name", "d", "keys", "--", "sleep", "1000").returncode == 0
    assert box.process("exec", "d", "sh", "-c", "cp /key /etc/copy").returncode == 0
    assert box.error("commit", "d", "-m", "m")["kind"] == "SecretsFound"
    assert box.json("ps")[0]["state"] == "running"
    configure(box, "warn")
    result = box("commit", "d", "-m", "m")
    assert "warning: /etc/copy holds a secret: private key" in result.stderr
    assert not any(mark in result.output for mark in _MARKS)
