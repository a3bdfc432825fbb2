"""`network`, `port`, and what `run --network` and `--publish` come to, with real containers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.network.networks import Networks
from runtime.state import load_run
from tests.cli.conftest import Cli
from tests.support.containers import kill_wholly
from tests.support.networking import ask, bridges, left_behind, listening, machine_address

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes networks")

ANSWER = "while true; do echo {0} | nc -l -p {1} >/dev/null 2>&1; done"


@pytest.fixture
def net(cli: Cli, box: Cli) -> Iterator[Cli]:
    """Commands on a store whose containers' networks must be gone in the end."""
    yield box
    names = box.process("ps", "-aq").stdout.decode().split()
    if names:
        box.process("rm", "-f", "--discard", *names)
    mine = {Networks(box.store).bridge(one) for one in Networks(box.store).all()}
    assert left_behind(box.store, *mine) == []
    assert not mine & bridges()


def serve(net: Cli, name: str, word: str, *options: str, port: int = 80) -> None:
    net("run", "-d", "--name", name, *options, "main", "sh", "-c", ANSWER.format(word, port))


def listed(net: Cli, *arguments: str) -> Any:
    """What a verb of `network` prints with --format json: `Cli.json` puts that behind the first word."""
    return json.loads(net("--format", "json", "network", *arguments).stdout)


def test_containers_know_one_another_by_name(net: Cli, until: Callable[..., Any]) -> None:
    net("network", "create", "backend")
    serve(net, "db", "rows", "--network", "backend", "--hostname", "database")
    (found,) = listed(net, "inspect", "backend")
    (member,) = found["containers"]
    assert (member["name"], found["internal"], found["bridge"] in bridges()) == ("db", False, True)
    until(lambda: ask(member["address"], 80, patience=0.5) == "rows\n")
    script = "nc db 80 </dev/null; grep -w database /etc/hosts; ping -c 1 -W 5 web >/dev/null && echo myself"
    result = net.process("run", "--rm", "--name", "web", "--network", "backend", "main", "sh", "-c", script)
    text = result.stdout.decode()
    assert text.startswith("rows\n"), result
    assert f"{member['address']}\tdb database\n" in text
    assert text.endswith("myself\n")
    assert "backend" in net("network", "ls").stdout
    assert net.error("network", "rm", "backend")["kind"] == "Conflict"
    net("rename", "db", "store")
    assert net.process("run", "--rm", "--network", "backend", "main", "ping", "-c", "1", "store").returncode == 0
    net("stop", "-t", "0", "store")
    net("network", "rm", "backend")
    assert listed(net, "ls") == []


def test_published_ports(net: Cli, until: Callable[..., Any]) -> None:
    serve(net, "web", "hello", "-p", "80", "-p", "127.0.0.1::81/udp")
    tcp, udp = listed_ports(net, "web")
    assert (tcp["container"], tcp["protocol"], tcp["address"]) == (80, "tcp", "0.0.0.0")
    assert (udp["container"], udp["protocol"], udp["address"]) == (81, "udp", "127.0.0.1")
    assert net.lines("port", "web", "80") == [f"0.0.0.0:{tcp['host']}"]
    assert net.lines("port", "web") == [
        f"80/tcp -> 0.0.0.0:{tcp['host']}",
        f"81/udp -> 127.0.0.1:{udp['host']}",
    ]
    until(lambda: ask("127.0.0.1", tcp["host"], patience=0.5) == "hello\n")
    until(lambda: ask(machine_address(), tcp["host"], patience=0.5) == "hello\n")
    error = net.error("run", "--name", "other", "-p", f"{tcp['host']}:80", "main", "true")
    assert error["kind"] == "EngineError"
    assert f"0.0.0.0:{tcp['host']}/tcp" in error["message"]
    assert f":{tcp['host']}" in error["advice"]
    assert net.error("port", "web", "8080")["kind"] == "NotFound"
    net("stop", "-t", "0", "web")
    assert net.lines("port", "web") == []
    net("run", "--rm", "-p", f"{tcp['host']}:80", "main", "true")


def listed_ports(net: Cli, name: str) -> Any:
    return net.json("port", name)


def test_a_start_that_fails_leaves_nothing(net: Cli) -> None:
    assert net.error("run", "--network", "missing", "main", "true")["kind"] == "NotFound"
    assert net.process("run", "--rm", "--network", "missing", "main", "true").returncode == 125
    assert net.process("run", "--rm", "-p", "80", "main", "/no/such/command").returncode == 127
    assert net.json("ps", "-a") == []


@pytest.mark.parametrize("engine", ["crun", "runc"])
@pytest.mark.parametrize("users", ["host", "auto"])
def test_each_engine_takes_the_network(net: Cli, engine: str, users: str) -> None:
    options = ("--runtime", engine, "--userns", users, "--network", "bridge", "--name", "me")
    script = (
        "grep -c host.docker.internal /etc/hosts; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys/class/net"
    )
    result = net.process("run", "--rm", *options, "main", "sh", "-c", script)
    assert result.stdout.decode().split() == ["1", "0", "eth0", "lo"], result


def test_after_the_supervisor_was_killed(net: Cli, until: Callable[..., Any]) -> None:
    serve(net, "web", "hello", "-p", "80")
    (port,) = listed_ports(net, "web")
    until(lambda: ask("127.0.0.1", port["host"], patience=0.5) == "hello\n")
    kill_wholly(run_of(net).supervisor.pid)
    until(lambda: not listening(port["host"]))
    assert ask("127.0.0.1", port["host"]) == "hello\n", "the container goes on, and so does its network"
    net("ps")
    until(lambda: listening(port["host"]))
    assert ask("127.0.0.1", port["host"]) == "hello\n"
    assert listed_ports(net, "web") == [port]


def test_after_everything_was_killed(net: Cli, until: Callable[..., Any]) -> None:
    serve(net, "web", "hello", "-p", "80")
    run = run_of(net)
    assert run.init is not None
    kill_wholly(run.supervisor.pid)
    os.kill(run.init.pid, signal.SIGKILL)
    until(lambda: not run.init.alive() and not run.supervisor.alive())
    net("network", "ls")
    mine = {Networks(net.store).bridge(one) for one in Networks(net.store).all()}
    assert left_behind(net.store, *mine) == []


def run_of(net: Cli) -> Any:
    (container,) = net.json("ps")
    run = load_run(Path(net.store / "containers" / container["id"]))
    assert run is not None
    return run


def test_networks_of_ones_own_choice(net: Cli) -> None:
    net("network", "create", "--subnet", "10.231.9.0/24", "--gateway", "10.231.9.254", "bridge")
    result = net.process("run", "--rm", "--network", "bridge", "main", "ip", "route")
    assert "default via 10.231.9.254" in result.stdout.decode()
    net("network", "create", "--internal", "sealed")
    result = net.process("run", "--rm", "--network", "sealed", "main", "ip", "route")
    assert "default" not in result.stdout.decode()
    assert net.error("network", "create", "--subnet", "10.231.9.0/25", "other")["kind"] == "BadInput"
    assert net.error("network", "create", "bridge")["kind"] == "AlreadyExists"
    assert net.error("network", "create", "no/name")["kind"] == "InvalidName"
    text = net("network", "inspect", "bridge").stdout
    assert "subnet    10.231.9.0/24" in text
    assert "internal  no" in text


def test_none_has_a_loopback_and_no_more(net: Cli) -> None:
    result = net.process("run", "--rm", "--network", "none", "main", "sh", "-c", "ip address; ls /sys/class/net")
    text = result.stdout.decode()
    assert "127.0.0.1/8" in text
    assert text.endswith("\nlo\n")
