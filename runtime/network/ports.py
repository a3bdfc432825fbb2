"""Published ports, held so that nobody else listens on them.

The portmap plugin redirects packets before they reach a socket, and does not notice if somebody listens on the port. So
a port is bound as long as its container runs: who wants it too is told that it is taken, and `ss` shows whose it is.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable

import msgspec

from runtime.settings import Port
from vcs.errors import EngineError

ANYWHERE = "0.0.0.0"


def show(port: Port) -> str:
    """The machine's side, for people.

    >>> show(Port(80, 8080))
    '0.0.0.0:8080/tcp'
    """
    return f"{port.address or ANYWHERE}:{port.host}/{port.protocol}"


def normal(port: Port) -> Port:
    """The same with an empty address for everywhere. EngineError for what is not IPv4."""
    if port.address in ("", ANYWHERE):
        return msgspec.structs.replace(port, address="")
    try:
        socket.inet_pton(socket.AF_INET, port.address)
    except OSError:
        raise EngineError(
            f"port {port.container} cannot be published on {port.address}, which is not an IPv4 address: "
            "containers have no others",
            address=port.address,
        ) from None
    return port


def overlap(one: Port, other: Port) -> bool:
    """Whether two cannot both have the machine's ports that they ask for."""
    return (
        one.host == other.host != 0
        and one.protocol == other.protocol
        and (one.address == other.address or not one.address or not other.address)
    )


def hold(ports: Iterable[Port]) -> tuple[tuple[Port, ...], list[socket.socket]]:
    """Bind these ports, free ones for those that ask for any; returns them as they are now, and the sockets that hold
    them. EngineError if one is taken or may not be had."""
    held: list[socket.socket] = []
    found: list[Port] = []
    try:
        for port in map(normal, ports):
            kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
            one = socket.socket(socket.AF_INET, kind)
            held.append(one)
            _bind(one, port)
            found.append(msgspec.structs.replace(port, host=one.getsockname()[1]))
    except BaseException:
        for one in held:
            one.close()
        raise
    return tuple(found), held


def _bind(one: socket.socket, port: Port) -> None:
    try:
        if port.protocol == "tcp":
            # What a server that has just ended left in TIME_WAIT is no reason to fail; one that listens still is.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((port.address, port.host))
        if port.protocol == "tcp":
            one.listen(0)
    except OSError as error:
        raise refusal(port, error.errno or 0) from error


def refusal(port: Port, number: int) -> EngineError:
    """The error for a port that cannot be had, by errno."""
    facts = {"port": port.host, "protocol": port.protocol, "address": port.address}
    match number:
        case errno.EADDRINUSE:
            why = "another process listens there, or another container"
            advice = f"`ss -lnp sport = :{port.host}` tells whose it is; any free port: -p {port.container}"
        case errno.EADDRNOTAVAIL:
            why, advice = "the machine does not have this address", "`ip address` lists those that it has"
        case errno.EACCES | errno.EPERM:
            why = "it is root's"
            advice = "use a port from 1024 on, or as root: sysctl -w net.ipv4.ip_unprivileged_port_start=0"
        case _:
            why, advice = os.strerror(number), ""
    return EngineError(f"port {show(port)} cannot be published: {why}", advice=advice, **facts)
