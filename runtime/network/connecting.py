"""Connecting a container to its network before it starts, and disconnecting it after it has ended.

    connect      in the supervisor: a network namespace, and all that ties it to the network
    refresh      after the container's /etc/hosts was written: others may have come meanwhile
    adopt        another supervisor takes the place of one that was killed
    disconnect   what connect made is taken down; by the supervisor, or by whoever finds a container that ended unseen
    sweep        the same for all such containers of a store

What takes time is imported when it is needed: most containers have the machine's network, or none.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from runtime.namespace import in_user_namespace
from runtime.network.record import (
    PATIENCE,
    PAUSE,
    RECORD,
    Members,
    Record,
    held,
    in_use,
    is_ending,
    load,
    me,
    save,
    with_members,
)
from runtime.settings import Port
from vcs.errors import NotFound, TreeringError
from vcs.existing import is_there


@dataclass(frozen=True, slots=True)
class Connection:
    """What a container's bundle must have of its network. Nothing is to be done for `host`, and for `none`, for which
    the engine makes a namespace."""

    namespace: str | None = None
    """Path of the network namespace; valid as long as this process has it open."""
    hosts: tuple[str, ...] = ()
    """Lines for /etc/hosts."""
    resolv_conf: bytes | None = None
    """None for the machine's."""
    ports: tuple[Port, ...] = ()
    """With the machine's ports that they really have."""
    _descriptor: int = -1
    _held: list[socket.socket] = field(default_factory=list)

    def close(self) -> None:
        """Let go of the namespace and the ports. After `disconnect`."""
        for one in self._held:
            one.close()
        self._held.clear()
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)


def connect(
    directory: Path,
    store: Path,
    container_id: str,
    name: str,
    settings_network: str,
    ports: tuple[Port, ...],
    names: tuple[str, ...] = (),
) -> Connection:
    """Make a container's network. `directory` is the container's; `names` are those that others know it by, beside
    `name`. Published ports are of no meaning on `host` and `none`.

    EngineError if the machine lacks something or a port is taken; NotFound if there is no such network; BadInput if its
    subnet is used otherwise; OSError.
    """
    if settings_network in ("host", "none"):
        disconnect(directory)
        return Connection()
    sweep(store, settings_network)
    with held(directory):
        _end(directory)
        if in_user_namespace():
            return _connect_usermode(directory, store, container_id, name, settings_network, ports)
        return _connect_bridge(directory, store, container_id, (name, *names), settings_network, ports)


def _connect_bridge(
    directory: Path, store: Path, identity: str, known: tuple[str, ...], network: str, wanted: tuple[Port, ...]
) -> Connection:
    from runtime.network import bridge, names, namespace
    from runtime.network.networks import Networks
    from runtime.network.ports import hold

    defined = Networks(store).find_or_default(network)
    _await_ports(store, identity, wanted)
    ports, sockets = hold(wanted)
    made = Connection(ports=ports, _held=sockets)
    record = Record("bridge", defined, os.path.relpath(store, directory), identity, known, me(), ports)
    try:
        fd = namespace.make()
        made = replace(made, namespace=f"/proc/{os.getpid()}/fd/{fd}", _descriptor=fd)
        record = bridge.make(directory, store, record, fd)
        hosts = bridge.section(Members(store, network), record.network)
        return replace(made, hosts=hosts, resolv_conf=names.resolv_conf())
    except BaseException:
        with suppress(TreeringError, OSError):
            _end(directory)
        made.close()
        raise


def _connect_usermode(
    directory: Path, store: Path, identity: str, name: str, network: str, wanted: tuple[Port, ...]
) -> Connection:
    from runtime.network import names, namespace, usermode
    from runtime.network.ports import hold

    programs = usermode.programs(network)
    ports, sockets = hold(wanted)
    made = Connection(ports=ports)
    record = Record(
        programs[0].kind, usermode.NETWORK, os.path.relpath(store, directory), identity, (name,), me(), ports
    )
    try:
        fd = namespace.make()
        made = replace(made, namespace=f"/proc/{os.getpid()}/fd/{fd}", _descriptor=fd)
        for one in sockets:
            one.close()  # the program listens itself
        usermode.make(directory, store, record, fd, programs)
        return replace(made, hosts=usermode.hosts(name), resolv_conf=names.resolv_conf(usermode.NAMESERVER))
    except BaseException:
        with suppress(TreeringError, OSError):
            _end(directory)
        made.close()
        raise


def _await_ports(store: Path, identity: str, wanted: tuple[Port, ...]) -> None:
    """Wait for ports of containers of the store that have just ended. EngineError if one that runs has a port of these:
    if its supervisor was killed, nobody holds it."""
    from runtime.network.ports import normal, overlap, refusal

    deadline = time.monotonic() + PATIENCE
    while wanted:
        others = [member for network in with_members(store) for member in Members(store, network).all()]
        taken = [
            (port, directory)
            for port in map(normal, wanted)
            for directory, record in others
            if record.id != identity and any(overlap(port, other) for other in record.ports)
        ]
        if not taken:
            return
        if time.monotonic() > deadline or not all(is_ending(directory) for _, directory in taken):
            raise refusal(taken[0][0], errno.EADDRINUSE)
        sweep(store)
        time.sleep(PAUSE)


def adopt(directory: Path) -> Connection:
    """Take over the connection of a container whose supervisor was killed, by the one who takes his place. It holds the
    ports again, if nobody has taken them meanwhile. Its namespace is the container's alone."""
    from runtime.network.ports import hold

    with held(directory):
        record = load(directory)
        if record is None:
            return Connection()
        save(directory, msgspec.structs.replace(record, owner=me()), durable=False)
        sockets: list[socket.socket] = []
        if record.kind == "bridge":
            with suppress(TreeringError):
                _, sockets = hold(record.ports)
        return Connection(ports=record.ports, _held=sockets)


def refresh(directory: Path) -> None:
    """Let a container's hosts file tell all names of its network as they are now. OSError."""
    record = load(directory)
    if record is not None and record.kind == "bridge":
        from runtime.network import bridge

        bridge.refresh(directory, _store(directory, record), record)


def rename(directory: Path, name: str) -> None:
    """Have others know a container by another name. OSError."""
    with held(directory):
        record = load(directory)
        if record is None:
            return
        save(directory, msgspec.structs.replace(record, names=(name, *record.names[1:])), durable=False)
    if record.kind == "bridge":
        from runtime.network import bridge

        bridge.tell(_store(directory, record), record.network)


def disconnect(directory: Path) -> None:
    """Take down what is left of a container's connection; nothing happens if there is nothing. For a container that has
    ended, or never began. EngineError, OSError: then something may be left, and the next call tries again."""
    if is_there(directory / RECORD):
        with held(directory):
            _end(directory)


def sweep(store: Path, network: str | None = None) -> None:
    """Disconnect the containers of a store, or of one network, that ended with nobody there to do it. What cannot be
    taken down now is left for the next time. OSError if nobody can tell who they are."""
    for name in [network] if network else with_members(store):
        members = Members(store, name)
        for identity in members.ids():
            with suppress(TreeringError, OSError):
                _sweep_one(store, name, members, identity)


def _sweep_one(store: Path, network: str, members: Members, identity: str) -> None:
    directory = members.directory(identity)
    record = load(directory)
    if record is not None and in_use(directory, record):
        return
    with held(directory, wait=False) as ours:
        if not ours:
            return
        record = load(directory)
        if record is None:
            _end_lost(store, network, members, identity)
        elif not in_use(directory, record):
            _end(directory)


def _end_lost(store: Path, network: str, members: Members, identity: str) -> None:
    """End a connection whose record was lost, with its container's directory or by a power cut."""
    from runtime.network import bridge
    from runtime.network.networks import Networks

    if identity not in members.ids():
        return  # it was ended by itself just now
    networks = Networks(store)
    with suppress(NotFound):
        defined = networks.find(network)
        bridge.end(store, bridge.lost(defined, networks.bridge(defined), identity))
        return
    with members.locked():
        members.remove(identity)


def _end(directory: Path) -> None:
    """The caller holds the container's lock."""
    record = load(directory)
    if record is None:
        return
    store = _store(directory, record)
    if record.kind == "bridge":
        from runtime.network import bridge

        bridge.end(store, record)
    else:
        from runtime.network import usermode

        usermode.end(directory, store, record)
    (directory / RECORD).unlink(missing_ok=True)


def address(directory: Path) -> str | None:
    """A connected container's IPv4 address; None if it has none of its own."""
    record = load(directory)
    return record.address if record else None


def published(directory: Path) -> tuple[Port, ...]:
    """The published ports of a connected container, with the machine's ports that they really have."""
    record = load(directory)
    return record.ports if record else ()


def _store(directory: Path, record: Record) -> Path:
    return Path(os.path.normpath(directory / record.store))
