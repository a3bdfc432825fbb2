"""A network that was made before the container: joined by both engines, with ids of its own or without."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime import preparation
from tests.support.containers import Bench, bench

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@dataclass(frozen=True)
class Connection:
    namespace: str | None
    hosts: tuple[str, ...] = ("10.0.0.2\tpeer",)
    resolv_conf: bytes | None = b"nameserver 10.0.0.1\n"


@pytest.fixture(params=["crun", "runc"])
def place(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(request.param) as made:
        yield made


@pytest.fixture
def network() -> Iterator[str]:
    """The path of a network namespace with a second interface in it."""
    holder = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo ready; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout
    assert holder.stdin
    try:
        assert holder.stdout.readline() == b"ready\n"
        yield f"/proc/{holder.pid}/ns/net"
    finally:
        holder.stdin.close()
        holder.wait(60)
        holder.stdout.close()


@pytest.mark.parametrize("ids", [None, 0x70000000])
def test_it_is_joined(place: Bench, network: str, ids: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows only its own interfaces, and any port and ping are the container's, though it did not make it."""
    prepare = preparation.prepare

    def with_connection(paths: Any, spec: Any, image: Any, lower: Any, size: Any, *_: Any) -> Any:
        return prepare(paths, spec, image, lower, size, Connection(network))

    monkeypatch.setattr(preparation, "prepare", with_connection)
    script = """
        ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /etc/resolv.conf; head -n 1 /etc/hosts
        ls -l /proc/self/ns/net; cat /proc/sys/net/ipv4/ping_group_range; touch /sys/x 2>/dev/null || echo read-only
    """
    code, output = place.run("sh", "-c", script, ids=ids)
    lines = output.splitlines()
    assert (code, lines[:4]) == (0, ["lo", "0", "nameserver 10.0.0.1", "10.0.0.2\tpeer"])
    assert lines[4].split(" -> ")[1] == os.readlink(network)
    first, last = map(int, lines[5].split())
    assert first == 0
    assert last >= 65535
    assert lines[6] == "read-only"


def test_nothing_of_the_stage_is_seen_from_outside(place: Bench) -> None:
    place.run("true", ids=0x70000000)
    assert list(Path("/run/treering-stage").rglob("*")) == [Path("/run/treering-stage/rootfs")]
