"""What two containers did, merged, and found in a third."""

from __future__ import annotations

import os

import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def committed(box: Cli, name: str, script: str, *arguments: str) -> None:
    """Run a script in a container on main, and commit what it did."""
    done = box.process("run", "--name", name, "main", "--", "sh", "-ec", script)
    assert done.returncode == 0, done.stderr
    box("commit", name, "-m", f"{name} did it", *arguments)


def user(name: str, number: int) -> str:
    return f"echo {name}:x:{number}:{number}::/:/bin/sh >> /etc/passwd"


def test_two_containers_work_comes_together(box: Cli) -> None:
    links = "mkdir /srv; echo web > /srv/a; ln /srv/a /srv/b"
    committed(box, "web", f"{user('web', 1001)}; sed -i s/one/ONE/ /etc/motd; {links}; chmod 640 /etc/added")
    committed(box, "db", f"{user('db', 1002)}; echo five >> /etc/motd; echo db >> /etc/added", "--branch", "db")
    assert box.json("merge", "web")["outcome"] == "fast-forward", "a container stands for its head"
    told = box.json("merge", "db")
    assert (told["outcome"], told["conflicts"]) == ("merged", [])
    look = "cat /etc/motd /srv/b; stat -c '%a %h' /etc/added /srv/a; tail -c 3 /etc/added; tail -n 2 /etc/passwd"
    done = box.process("run", "--rm", "main", "--", "sh", "-ec", look)
    assert done.stdout.decode().splitlines() == [
        *["ONE", "2", "three", "four", "five"],
        "web",
        *["640 1", "644 2"],
        "db",
        *["web:x:1001:1001::/:/bin/sh", "db:x:1002:1002::/:/bin/sh"],
    ]
    box("fsck", "--read-data")


def test_one_uid_for_two_users_is_told(box: Cli) -> None:
    for name in ("web", "db"):
        committed(box, name, user(name, 1001), "--branch", name)
    box("merge", "web")
    told = box.json("merge", "db", code=1)
    assert [(conflict["path"], conflict["detail"]) for conflict in told["conflicts"]] == [
        ("/etc/passwd", "db and web have the same number")
    ]
