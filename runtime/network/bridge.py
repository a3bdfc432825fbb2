"""A network as a bridge of the kernel, to which each container is tied by a pair of virtual interfaces.

The CNI plugins do it: `bridge` makes bridge and pair, `host-local` lends an address, `portmap` redirects published
ports. What they do for each container and need not (masquerading, forwarding) is said once for a network, by
runtime.network.firewall: it is faster, and nothing of it is left when a container dies unseen.

A bridge and its rules are there while anybody is on the network: whoever comes first makes them, and whoever ends the
last connection takes them down. What a connection has on the machine is ended without its network namespace, by names
and addresses that are written down, so it makes no difference whether the container ended, was killed together with its
supervisor, or the machine was booted since.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from runtime.network import cni, firewall, names, namespace
from runtime.network.networks import Networks
from runtime.network.record import HOSTS, Members, Network, Record, leases, save
from runtime.settings import Port

_INTERFACE = "eth0"


def make(directory: Path, store: Path, wanted: Record, fd: int) -> Record:
    """Put the network namespace of `fd` on the network of a record, which is saved first; returns the record as it is
    now. EngineError, NotFound, BadInput, OSError: the caller ends what is there then."""
    for plugin in ("bridge", "host-local", *(("portmap",) if wanted.ports else ())):
        cni.find(plugin)
    firewall.check()
    networks = Networks(store)
    members = Members(store, wanted.network.name)
    to = cni.Attachment(wanted.id, f"/proc/{os.getpid()}/fd/{fd}", _INTERFACE)
    with members.locked(), namespace.locked():
        network = networks.find(wanted.network.name)  # as it is now that nobody can remove it
        bridge = networks.bridge(network)
        if not namespace.exists(bridge):
            network = networks.fitted(network)
        record = msgspec.structs.replace(wanted, network=network, bridge=bridge)
        save(directory, record, durable=True)
        members.add(directory, record.id)
        firewall.allow(bridge, network.subnet)
        result = cni.add(_cni_name(network), _plugins(record, store), to)
        record = msgspec.structs.replace(record, result=result)
        save(directory, record, durable=False)
        _tell(members)
    return record


def lost(network: Network, bridge: str, identity: str) -> Record:
    """A record with which a connection can be ended of which only this is known. portmap finds its rules by the
    container's id, but does nothing if there is no port."""
    return Record("bridge", network, ".", identity, (), (0, 0, ""), (Port(1, 1),), bridge)


def end(store: Path, record: Record) -> None:
    """Take down what a connection has on the machine, and the network's bridge if it was the last. EngineError,
    OSError; then it can be tried again."""
    to = cni.Attachment(record.id, "", _INTERFACE)
    cni.delete(_cni_name(record.network), _plugins(record, store), to, record.result)
    if record.this_boot:
        for link in _outer_links(record):
            namespace.delete(link)
    members = Members(store, record.network.name)
    with members.locked():
        if set(members.ids()) <= {record.id}:
            _down(record)  # it stays a member until that is done, so that who looks at the network tries again
            members.remove(record.id)
        else:
            members.remove(record.id)
            _tell(members)


def refresh(directory: Path, store: Path, record: Record) -> None:
    """Write the names of all members into a container's hosts file as they are now. OSError."""
    members = Members(store, record.network.name)
    with members.locked():
        names.write(directory / HOSTS, section(members, record.network))


def tell(store: Path, network: Network) -> None:
    """The same for all members."""
    members = Members(store, network.name)
    with members.locked():
        _tell(members)


def section(members: Members, network: Network) -> tuple[str, ...]:
    """What stands in the hosts files of a network's members."""
    found = sorted((record for _, record in members.all()), key=lambda record: record.names)
    return names.section(found, network.gateway)


def _tell(members: Members) -> None:
    found = sorted(members.all(), key=lambda member: member[1].names)
    if not found:
        return
    text = names.section((record for _, record in found), found[0][1].network.gateway)
    for directory, _ in found:
        with suppress(OSError):  # one whose file cannot be written must not keep others from theirs
            names.write(directory / HOSTS, text)


def _down(record: Record) -> None:
    """Remove a bridge and its rules. The caller knows that nobody is on it, and that nobody comes."""
    with namespace.locked():
        if record.bridge:
            namespace.delete(record.bridge)
            ours = (firewall.BRIDGE, firewall.INTERNAL)
            last = not any(name.startswith(ours) for _, name in socket.if_nameindex())
            firewall.forbid(record.bridge, record.network.subnet, last=last)


def _outer_links(record: Record) -> list[str]:
    """The machine's ends of the container's interfaces."""
    links = (record.result or {}).get("interfaces") or ()
    return [link["name"] for link in links if not link.get("sandbox") and link["name"] != record.bridge]


def _cni_name(network: Network) -> str:
    """What plugins call a network: it stands in the comments of portmap's rules."""
    return f"treering-{network.name}"


def _plugins(record: Record, store: Path) -> list[dict[str, Any]]:
    network = record.network
    ranges = [[{"subnet": network.subnet, "gateway": network.gateway}]]
    bridge = {
        "type": "bridge",
        "bridge": record.bridge,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": ranges,
            "routes": [] if network.internal else [{"dst": "0.0.0.0/0"}],
            "dataDir": str(leases(store)),
        },
    }
    if not record.ports:
        return [bridge]
    mappings = [_mapping(port) for port in record.ports]
    portmap = {
        "type": "portmap",
        "snat": True,
        "capabilities": {"portMappings": True},
        "runtimeConfig": {"portMappings": mappings},
    }
    return [bridge, portmap]


def _mapping(port: Port) -> dict[str, Any]:
    mapping = {"hostPort": port.host, "containerPort": port.container, "protocol": port.protocol}
    return {**mapping, "hostIP": port.address} if port.address else mapping
