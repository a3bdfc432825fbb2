"""The examples of docs/hooks.md do what the text says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import PROJECT, Cli
from tests.cli.test_store_hooks import TREERING, hook, tip
from tests.support.busybox_root import make_busybox_root

_EXAMPLES = re.findall(r"```sh\n(#!/bin/sh\n# hooks/(\S+)\n.*?)```", (PROJECT / "docs/hooks.md").read_text(), re.DOTALL)
_BASE = "Package: base\nStatus: install ok installed\nVersion: 1\n"


def _example(name: str, word: str) -> str:
    found = [script for script, file in _EXAMPLES if file == name and word in script]
    assert len(found) == 1
    return re.sub(r"\btreering (?=cat|diff|start)", f"{TREERING} ", found[0])


@pytest.mark.parametrize(
    ("word", "bad", "said"),
    [
        ("dpkg", _BASE + "\nPackage: tool\nStatus: install ok half-installed\nVersion: 2\n", "not finished with: tool"),
        ("telnetd", _BASE + "\nPackage: telnetd\nStatus: install ok installed\nVersion: 2\n", "not wanted here"),
    ],
)
def test_what_is_refused(cli: Cli, tmp_path: Path, word: str, bad: str, said: str) -> None:
    hook(cli, "pre-commit", _example("pre-commit", word))
    root = make_busybox_root(tmp_path / "root")
    status = root / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_text(_BASE)
    cli("import", str(root), "-b", "deb", "-m", "good")
    (root / "etc/motd").write_text("another\n")
    cli("import", str(root), "-b", "deb", "-m", "good as well")
    good = tip(cli, "deb")
    status.write_text(bad)
    done = cli.process("import", str(root), "-b", "deb", "-m", "bad")
    assert done.returncode == 125
    assert said in done.stderr.decode()
    assert tip(cli, "deb") == good


def test_a_container_is_started_again(box: Cli) -> None:
    assert box.process("run", "-d", "--name", "c", "--network", "none", "main", "sleep", "1000").returncode == 0
    box.process("kill", "c")
    box.process("wait", "c")
    hook(box, "post-rollback", _example("post-rollback", "start"))
    done = box.process("rollback", "c", "main~1")
    assert done.returncode == 0
    assert b"warning" not in done.stderr
    assert box.json("inspect", "c")[0]["state"]["status"] == "running"


def test_a_note_in_the_log(cli: Cli, tmp_path: Path) -> None:
    script = _example("post-commit", "logger").replace("logger", "printf '%s|' >\"$OUT\"")
    out = hook(cli, "post-commit", script)
    cli("import", str(make_busybox_root(tmp_path / "root")), "-b", "side", "-m", "new")
    assert out.read_text() == f"-t|treering|import: side {tip(cli, 'side')}|"
