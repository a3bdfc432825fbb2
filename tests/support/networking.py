"""Processes in the network of a container, and what networks have left on the machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from runtime import network
from runtime.network import Connection, firewall
from runtime.network.namespace import CLONE_NEWNET
from runtime.network.networks import Networks
from runtime.settings import Port
from runtime.system import mounts

SECONDS = 30

_SERVER = """
import socket, sys
kind, port, word = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("", port))
if kind == "tcp":
    server.listen()
print("ready", flush=True)
while True:
    if kind == "tcp":
        client, _ = server.accept()
        client.sendall(word)
        client.close()
    else:
        _, whom = server.recvfrom(100)
        server.sendto(word, whom)
"""
_ASK = """
import socket, sys
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
client.settimeout(float(sys.argv[4]))
try:
    client.connect((host, port))
    client.send(b"?")
    print(client.recv(100).decode(), end="")
except OSError:
    pass
"""


def _enter(namespace: str | None) -> Callable[[], None] | None:
    if namespace is None:
        return None

    def enter() -> None:
        fd = os.open(namespace, os.O_RDONLY)
        mounts.setns(fd, CLONE_NEWNET)
        os.close(fd)

    return enter


@contextmanager
def server(namespace: str | None, port: int, word: str, kind: str = "tcp") -> Iterator[None]:
    """A process in a network namespace that answers everybody with a word."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, kind, str(port), word],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=_enter(namespace),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.wait(SECONDS)


def ask(host: str, port: int, kind: str = "tcp", namespace: str | None = None, patience: float = 5) -> str:
    """What a server answers to one who asks from a network namespace; empty if nobody does in time."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK, kind, host, str(port), str(patience)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
        preexec_fn=_enter(namespace),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_in(namespace: str, *command: str) -> str:
    """What a command prints in a network namespace."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
        preexec_fn=_enter(namespace),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def machine_address() -> str:
    """An address of the machine's own that is not on the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        any_socket.connect(("198.51.100.1", 9))
        return str(any_socket.getsockname()[0])


def bridges() -> set[str]:
    """The bridges of all networks that are up."""
    ours = (firewall.BRIDGE, firewall.INTERNAL)
    return {name for _, name in socket.if_nameindex() if name.startswith(ours)}


def rules() -> list[str]:
    """The machine's packet filter, line by line."""
    done = subprocess.run(["iptables-save"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    return done.stdout.splitlines()


def leases(store: Path) -> list[str]:
    """The addresses that a store has lent."""
    top = store / "run/network/leases"
    return sorted(path.name for path in top.glob("*/*") if path.name[:1].isdigit())


def left_behind(store: Path, *words: str) -> list[str]:
    """What networks of a store have left: leases and records, and rules and links with one of these words."""
    found = leases(store) + [str(path) for path in store.glob("containers/*/network.json")]
    found += [str(path) for path in store.glob("run/network/*/members/*")]
    lines = rules() + [name for _, name in socket.if_nameindex()]
    return found + [line for line in lines if any(word in line for word in words)]


def listening(port: int) -> bool:
    """Whether somebody has a TCP port of the machine."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            one.bind(("", port))
            return False
    return True


@dataclass
class Place:
    """A directory that looks like a store, and containers in it that have a network and nothing else."""

    store: Path
    open: dict[str, Connection] = field(default_factory=dict)

    def directory(self, name: str) -> Path:
        return self.store / "containers" / f"{name}-{os.fspath(self.store).encode().hex()[-24:]}"

    def join(self, name: str, on: str = "bridge", ports: tuple[Port, ...] = (), others: tuple[str, ...] = ()) -> str:
        """Connect a container; its address."""
        directory = self.directory(name)
        (directory / "etc").mkdir(parents=True, exist_ok=True)
        made = network.connect(directory, self.store, directory.name, name, on, ports, others)
        self.open[name] = made
        (directory / "etc/hosts").write_text("".join(f"{line}\n" for line in made.hosts) + "127.0.0.1\tlocalhost\n")
        network.refresh(directory)
        address = network.address(directory)
        assert address is not None
        return address

    def leave(self, name: str) -> None:
        network.disconnect(self.directory(name))
        self.open.pop(name).close()

    def namespace(self, name: str) -> str:
        path = self.open[name].namespace
        assert path is not None
        return path

    def hosts(self, name: str) -> dict[str, str]:
        """Which address each name has, for who looks it up."""
        found: dict[str, str] = {}
        for line in (self.directory(name) / "etc/hosts").read_text().splitlines():
            address, *known = line.partition("#")[0].split() or [""]
            for one in known:
                found.setdefault(one, address)
        return found

    def clear(self) -> None:
        for name in list(self.open):
            self.leave(name)
        network.sweep(self.store)


@contextmanager
def places(top: Path) -> Iterator[Callable[[str], Place]]:
    """Makes such places below a directory; nothing of them is left in the end."""
    made: list[Place] = []

    def make(name: str) -> Place:
        (top / name / "containers").mkdir(parents=True)
        made.append(Place(top / name))
        return made[-1]

    yield make
    words = [directory.name for one in made for directory in (one.store / "containers").iterdir()]
    mine = {Networks(one.store).bridge(defined) for one in made for defined in Networks(one.store).all()}
    for one in made:
        one.clear()
    for one in made:
        assert left_behind(one.store, *words, *mine) == []
    if not bridges():
        assert not [line for line in rules() if "TREERING" in line]
