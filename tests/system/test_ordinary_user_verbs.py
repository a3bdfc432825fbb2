"""exec, cp and what else is done with running containers, as an ordinary user."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.busybox_root import make_busybox_root
from tests.support.ordinary_user import OrdinaryUser, ordinary_user
from tests.system.homes import give

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a user")


@pytest.fixture(scope="module", params=["crun", "runc"])
def user(request: pytest.FixtureRequest) -> Iterator[OrdinaryUser]:
    """A user with a running container `web`, and one that has ended, `old`."""
    with ordinary_user() as user:
        root = make_busybox_root(user.home / "root")
        give(user, root)
        user.treering("init")
        user.treering("import", "root", "-m", "base")
        loop = "trap 'exit 7' TERM; while true; do sleep 0.05; done"
        user.treering("run", "-d", "--name", "web", "--runtime", request.param, "main", "sh", "-c", loop)
        user.treering("run", "--name", "old", "--runtime", request.param, "main", "sh", "-c", "echo 1 > /written")
        yield user
        user.treering("rm", "-f", "--discard", "web", "old")
        assert user.settled()


def test_exec(user: OrdinaryUser) -> None:
    done = user.treering("exec", "web", "sh", "-c", "id -u; hostname; exit 4", code=4)
    assert done.stdout == "0\nweb\n"
    assert user.treering("exec", "-u", "ana", "-w", "/tmp", "web", "sh", "-c", "id -u; pwd").stdout == "1000\n/tmp\n"
    assert "whose ids end" in user.treering("exec", "-u", "70000", "web", "true", code=125).stderr
    assert user.treering("exec", "web", "nosuch", code=127).stderr.count("treering:") == 1
    user.treering("exec", "-d", "web", "sleep", "300")
    commands = [row["command"] for row in user.treering("top", "--format", "json", "web").json()]
    assert ["sleep", "300"] in commands
    assert "start it first" in user.treering("exec", "old", "true", code=125).stderr


def test_top_is_of_the_container_alone(user: OrdinaryUser) -> None:
    rows = user.treering("top", "--format", "json", "web").json()
    assert {row["user"] for row in rows} == {"root"}
    assert all("treering" not in " ".join(row["command"]) for row in rows)
    pid = user.treering("inspect", "-f", ".state.pid", "web").stdout.strip()
    assert pid in {str(row["pid"]) for row in rows}


@pytest.mark.parametrize("name", ["web", "old"])
def test_cp(user: OrdinaryUser, name: str) -> None:
    """What goes in is the container's root's, and what comes out is the user's."""
    place = user.home / f"cp-{name}"
    place.mkdir()
    (place / "mine").write_text("content")
    for path in (place, place / "mine"):
        os.chown(path, user.uid, user.uid)
    user.treering("cp", f"{place}/mine", f"{name}:/etc/mine")
    user.treering("cp", f"{name}:/etc/passwd", f"{place}/passwd")
    user.treering("cp", f"{name}:/home/ana", f"{place}/ana")
    user.treering("cp", "-a", f"{name}:/home/ana", f"{place}/kept")
    assert (place / "passwd").stat().st_uid == user.uid
    assert (place / "ana").stat().st_uid == user.uid
    assert (place / "kept").stat().st_uid == user.outside(1000)
    assert {row["path"] for row in user.treering("status", "--format", "json", name).json()} >= {"/etc/mine"}
    if name == "web":
        assert user.treering("exec", "web", "stat", "-c", "%u", "/etc/mine").stdout == "0\n"
    assert "content" in user.treering("cp", f"{name}:/etc/mine", "-").stdout


def test_stash(user: OrdinaryUser) -> None:
    """What the container's users own is put aside, and is theirs again."""
    script = "mkdir /box; echo ana > /box/a; ln /box/a /box/b; chown ana /box/a; rm /etc/passwd"
    user.treering("run", "--name", "stashed", "main", "sh", "-ec", script)
    try:
        before = user.treering("diff", "--name-status", "stashed").stdout
        user.treering("stash", "stashed")
        assert user.treering("diff", "--name-status", "stashed").stdout == ""
        user.treering("stash", "pop")
        assert user.treering("diff", "--name-status", "stashed").stdout == before
        user.treering("commit", "stashed", "-m", "it", "--branch", "stashed")
        look = user.treering("run", "--rm", "stashed", "sh", "-c", "stat -c '%u %h' /box/b; ls /etc/passwd || true")
        assert look.stdout == "1000 2\n"
    finally:
        user.treering("rm", "--discard", "stashed")


def test_pause_says_why_not(user: OrdinaryUser) -> None:
    done = user.treering("pause", "web", code=125)
    assert "is in no cgroup" in done.stderr
    assert "run it as root" in done.stderr
    assert user.treering("ps", "-q", "-f", "status=running").stdout == "web\n"


def test_restart_and_wait(user: OrdinaryUser) -> None:
    before = user.treering("inspect", "-f", ".state.pid", "web").stdout
    user.treering("restart", "-t", "20", "web")
    assert user.treering("inspect", "-f", ".state.pid", "web").stdout != before
    assert user.treering("wait", "old").stdout == "0\n"


def test_a_merge_is_settled_in_a_container(user: OrdinaryUser) -> None:
    for name in ("ours", "theirs"):
        user.treering("branch", name, "main")
        script = f"echo {name} > /both; chown 7 /both; echo {name} > /only-{name}"
        user.treering("run", "--name", f"for-{name}", name, "--", "sh", "-ec", script)
        user.treering("commit", f"for-{name}", "-m", name, "-b", name)
    user.treering("merge", "theirs", "--on", "ours", "--into", "m", code=1)
    user.treering("start", "-d", "m")
    look = "stat -c '%u %n' /both.*; cat /only-ours /only-theirs; mv /both.theirs /both; rm /both.ours"
    done = user.treering("exec", "m", "sh", "-ec", look)
    assert done.stdout.splitlines() == ["7 /both.ours", "7 /both.theirs", "ours", "theirs"]
    user.treering("merge", "--continue")
    assert user.treering("cat", "ours:/both").stdout == "theirs\n"
    user.treering("merge", "theirs~0", "--on", "main", "--run", "echo ran > /ran")
    assert user.treering("cat", "main:/ran").stdout == "ran\n"
    user.treering("rm", "-f", "m", "for-ours", "for-theirs")
    user.treering("branch", "-f", "main", "main~1")


def test_bisect_run(user: OrdinaryUser) -> None:
    """The container that broke it is told by the commit's trailers. Nothing is left of the containers."""
    user.treering("run", "--name", "work", "main", "sh", "-c", "echo 0 > /count")
    for number in range(1, 4):
        user.treering("commit", "work", "-b", "work", "-m", f"number {number}")
        user.treering("rm", "--discard", "work")
        broken = "; echo broken > /etc/conf" if number == 1 else ""
        user.treering("run", "--name", "work", "work", "sh", "-c", f"echo {number} > /count{broken}")
    user.treering("rm", "--discard", "work")
    user.treering("bisect", "start", "work", "main")
    found = user.treering("bisect", "run", "--format", "json", "sh", "-c", "! grep -q broken /etc/conf").json()
    assert found["first_bad"]["title"] == "number 2"
    assert found["first_bad"]["trailers"]["Container"] == "work"
    assert "broken" in found["first_bad"]["trailers"]["Command"]
    assert len(found["tests"]) <= 2
    user.treering("bisect", "reset")
    user.treering("branch", "-d", "work")
    assert {row["name"] for row in user.treering("ps", "-a", "--format", "json").json()} == {"web", "old"}
