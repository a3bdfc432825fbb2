"""The network of an ordinary user's containers: pasta and slirp4netns, for real."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.network.record import load
from runtime.state import load_run
from tests.support.busybox_root import make_busybox_root
from tests.support.containers import eventually
from tests.support.networking import ask, machine_address, server
from tests.support.ordinary_user import OrdinaryUser, ordinary_user
from tests.system.homes import give

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a user")

PASTA, SLIRP = "/usr/bin/pasta", "/usr/bin/slirp4netns"
ANSWER = "while true; do echo hello | nc -l -p 80 >/dev/null 2>&1; done"


@pytest.fixture(scope="module")
def user() -> Iterator[OrdinaryUser]:
    with ordinary_user() as user:
        root = make_busybox_root(user.home / "root")
        give(user, root)
        user.treering("init")
        user.treering("import", "root", "-m", "base")
        yield user
        assert user.settled()


def directory(user: OrdinaryUser) -> Path:
    (container,) = user.treering("ps", "--format", "json").json()
    return user.store / "containers" / str(container["id"])


@pytest.mark.parametrize(("hidden", "kind"), [(SLIRP, "pasta"), (PASTA, "slirp4netns")])
def test_an_address_a_way_out_and_a_port(user: OrdinaryUser, hidden: str, kind: str) -> None:
    """With either program, the other being absent."""
    assert user.settled(), "what is hidden is so in namespaces that are made anew"
    with server(None, 18441, "machine"):
        script = f"ip -4 -o address show eth0; timeout 3 nc {machine_address()} 18441 </dev/null; cat /etc/resolv.conf"
        done = user.treering("run", "--rm", "--network", "bridge", "main", "sh", "-c", script, hidden=[hidden])
    assert "10.0.2.100/24" in done.stdout
    assert "machine" in done.stdout
    assert "nameserver 10.0.2.3\n" in done.stdout
    command = ("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "main", "sh", "-c", ANSWER)
    user.treering(*command, hidden=[hidden])
    try:
        record = load(directory(user))
        assert record is not None
        assert record.kind == kind
        (port,) = user.treering("port", "--format", "json", "web").json()
        eventually(lambda: ask("127.0.0.1", port["host"], patience=0.5) == "hello\n")
        error = user.treering("run", "--rm", "-p", f"127.0.0.1:{port['host']}:80", "main", "true", code=125)
        assert "cannot be published" in error.stderr
    finally:
        user.treering("rm", "-f", "--discard", "web")


@pytest.mark.parametrize("hidden", [SLIRP, PASTA])
def test_nothing_is_left_of_the_killed(user: OrdinaryUser, hidden: str) -> None:
    assert user.settled()
    user.treering("run", "-d", "--name", "web", "--network", "bridge", "main", "sleep", "300", hidden=[hidden])
    run, record = load_run(directory(user)), load(directory(user))
    assert run is not None
    assert run.init is not None
    assert record is not None
    assert record.helper is not None
    for process in (run.supervisor, run.init):
        os.kill(process.pid, signal.SIGKILL)
    init, supervisor = run.init, run.supervisor
    eventually(lambda: not init.alive() and not supervisor.alive())
    assert record.helper[0] in user.processes(), "it goes on as long as nobody looks"
    user.treering("ps")
    eventually(lambda: record.helper and record.helper[0] not in user.processes())
    user.treering("rm", "--discard", "web")


def test_what_is_missing_is_named(user: OrdinaryUser) -> None:
    command = ("run", "--rm", "--network", "bridge", "main", "true")
    assert user.settled()
    error = user.treering(*command, hidden=[PASTA, SLIRP], code=125).stderr
    assert "neither pasta nor slirp4netns" in error
    assert "apt-get install slirp4netns" in error
    assert user.settled()
    error = user.treering(*command, tun_mode=0o600, code=125).stderr
    assert "chmod 0666 /dev/net/tun" in error
    assert user.settled()
    error = user.treering("run", "--rm", "--network", "backend", "main", "true", code=125).stderr
    assert "only root can make" in error
    assert "only root can make" in user.treering("network", "create", "backend", code=125).stderr
    assert user.treering("network", "ls", "--format", "json").json() == []
