"""What is written down of a container's connection, and who else is on its network.

    STORE/containers/ID/network.json       the connection; there as long as something of it may be on the machine
                        network.lock       flocked by who makes or ends it
    STORE/run/network/NAME/lock            flocked while members of a network come and go, or their names change
                           members/ID      a link to the member's network.json
    STORE/run/network/leases/              host-local's: which address is whose

network.json is durable before anything is made. It tells all that it takes to end the connection: not the network's
definition, which may be removed, and not the network namespace, which ends with its last process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from runtime.settings import Port
from runtime.state import Exited, Process, boot_id, is_running, state_of
from vcs.durable import replace_file
from vcs.existing import is_directory
from vcs.locks import flocked

RECORD, LOCK = "network.json", "network.lock"
PATIENCE, PAUSE = 10.0, 0.01
"""Seconds that one waits for containers that are ending, and between two looks at them."""
HOSTS = "etc/hosts"
"""Below the container's directory; mounted over the root's own."""


class Network(msgspec.Struct, frozen=True):
    """A network of a store, as it is defined."""

    name: str
    subnet: str
    gateway: str
    internal: bool = False
    """Without a way out."""
    chosen: bool = True
    """Whether the subnet was chosen by us, and may be chosen again where it clashes with another."""
    created: float = 0.0


class Record(msgspec.Struct, frozen=True):
    """A connection. `kind` is what made it."""

    kind: Literal["bridge", "pasta", "slirp4netns"]
    network: Network
    store: str
    """Relative to the container's directory."""
    id: str
    names: tuple[str, ...]
    """The container's name, and then other names of its."""
    owner: tuple[int, int, str]
    """The process that made it: pid, start, and the machine's boot."""
    ports: tuple[Port, ...] = ()
    """With the machine's ports that they really have."""
    bridge: str = ""
    result: dict[str, Any] | None = None
    """Of CNI's ADD; None as long as that has not been done."""
    helper: tuple[int, int] | None = None
    """pid and start of pasta or slirp4netns."""

    @property
    def address(self) -> str | None:
        """IPv4, without the length of the network; None if it has none yet."""
        found = (self.result or {}).get("ips") or ()
        return str(found[0]["address"]).partition("/")[0] if found else None

    def owned(self) -> bool:
        """Whether the process that made it lives."""
        return self.this_boot and Process(*self.owner[:2]).alive()

    @property
    def this_boot(self) -> bool:
        """Whether the kernel may still have something of it."""
        return self.owner[2] == _boot()


_boot = lru_cache(1)(boot_id)


def me() -> tuple[int, int, str]:
    """This process, as an owner."""
    process = Process.of(os.getpid())
    assert process is not None
    return process.pid, process.start, boot_id()


_decoder = msgspec.json.Decoder(Record)


def load(directory: Path) -> Record | None:
    """A container's connection; None if it has none, or if a power cut has damaged the record: the sweep of its
    network gives back what it had."""
    try:
        return _decoder.decode((directory / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def save(directory: Path, record: Record, *, durable: bool) -> None:
    """Replace a container's record."""
    replace_file(directory / RECORD, msgspec.json.encode(record), durable=durable)


def in_use(directory: Path, record: Record) -> bool:
    """Whether a container's connection is needed: who made it lives, or the container does without him."""
    return record.owned() or is_running(directory)


def is_ending(directory: Path) -> bool:
    """Whether a connected container has ended, so that its supervisor is just about to disconnect it."""
    return isinstance(state_of(directory), Exited)


@contextlib.contextmanager
def held(directory: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock on a container's connection; yields whether it could be had, which without `wait` may not be.
    A container whose directory is gone has no lock."""
    try:
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


class Members:
    """Who is on a network."""

    def __init__(self, store: Path, network: str) -> None:
        self.path = store / "run" / "network" / network
        self._members = self.path / "members"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let nobody else come or go meanwhile."""
        self._members.mkdir(mode=0o700, parents=True, exist_ok=True)
        with flocked(self.path / "lock", fcntl.LOCK_EX):
            yield

    def add(self, directory: Path, identity: str) -> None:
        """Note a member. The caller holds the lock."""
        link = self._members / identity
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(directory / RECORD, self._members))

    def remove(self, identity: str) -> None:
        """Forget one. The caller holds the lock."""
        (self._members / identity).unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """Of all members, living or not."""
        try:
            return sorted(os.listdir(self._members))
        except FileNotFoundError:
            return []

    def directory(self, identity: str) -> Path:
        """A member's container's directory, which may be gone."""
        return Path(os.path.normpath(self._members / os.readlink(self._members / identity))).parent

    def all(self) -> list[tuple[Path, Record]]:
        """Directories and records of the members that have one."""
        found = []
        for identity in self.ids():
            with contextlib.suppress(FileNotFoundError):
                directory = self.directory(identity)
                record = load(directory)
                if record is not None:
                    found.append((directory, record))
        return found


def with_members(store: Path) -> list[str]:
    """The names of the networks of a store that had a member once. OSError: Path.glob would find none then, from
    Python 3.13 on."""
    top = store / "run" / "network"
    try:
        names = os.listdir(top)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if is_directory(top / name / "members"))


def leases(store: Path) -> Path:
    """Where host-local keeps a store's addresses."""
    return store / "run" / "network" / "leases"
