"""The service, from the command line."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.fusefs.serving import needs_fuse, until

pytestmark = needs_fuse

KEYS = [
    *("holder", "workers", "replaced", "messages", "nodes", "given", "profiled", "plain"),
    *("leases", "idle", "mountpoint", "device", "fork_servers"),
]


@pytest.fixture
def shown(cli: Cli) -> Iterator[Path]:
    """Where the mount is shown, and so the service in use."""
    where = cli.store / "run/shown"
    done = cli.process("mount", str(where), env={"TREERING_TRACE": "fuse"})
    assert not done.returncode, done.stderr
    yield where
    cli("umount", str(where))


def test_status_names_the_processes(cli: Cli, shown: Path) -> None:
    status = cli.json("service", "status")
    assert list(status) == KEYS
    assert list(cli.json("service")) == KEYS
    for pid in (status["holder"], *status["workers"]):
        os.kill(pid, 0)
    assert f"process {status['holder']} holds {cli.store}/run/mnt" in cli("service").stdout


def test_no_service_has_a_status_too(cli: Cli) -> None:
    absent = cli.json("service", "status")
    assert list(absent) == KEYS
    assert absent["holder"] is None
    assert cli.lines("service") == ["not running"]
    assert cli.json("service", "restart") == {"workers": []}
    assert cli.json("service", "stop") == {"gone": True}
    assert cli("service", "log").stdout == ""


def test_restart_replaces_the_workers(cli: Cli, shown: Path) -> None:
    before = cli.json("service", "status")
    after = cli.json("service", "restart")["workers"]
    assert after
    assert not set(after) & set(before["workers"])
    status = cli.json("service", "status")
    assert (status["holder"], status["workers"], status["replaced"]) == (before["holder"], after, 1)
    os.kill(after[0], signal.SIGKILL)
    until(lambda: cli.json("service", "status")["replaced"] == 2)


def test_the_log_and_a_trace_in_it(cli: Cli, shown: Path) -> None:
    cat = subprocess.run(["cat", shown / "branches/main/etc/motd"], timeout=60, capture_output=True, check=True)
    assert cat.stdout.startswith(b"one")
    said = cli("service", "log").stdout
    assert "serving" in said
    assert "LOOKUP node 1 b'branches'" in said
    following = cli.start("service", "log", "-f", stdout=subprocess.PIPE)
    try:
        assert following.stdout is not None
        read = following.stdout.read(len(said.encode()))
        assert read == said.encode()
        subprocess.run(["cat", shown / "tags/nothing"], timeout=60, capture_output=True, check=False)
        while b"nothing" not in read:
            assert select.select([following.stdout], [], [], 60)[0]
            read += os.read(following.stdout.fileno(), 65536)
    finally:
        following.kill()
        following.communicate()
