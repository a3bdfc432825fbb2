"""IPv4 networks that nothing on the machine uses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

from vcs.errors import EngineError

POOLS = tuple(map(IPv4Network, ("10.88.0.0/13", "172.28.0.0/14", "192.168.192.0/18")))
PREFIX = 22
"""1,021 containers on a network: a bridge of Linux has 1,023 ports."""

_LEAF = re.compile(r"^\s+\|-- (\S+)\n((?:^\s+/\d+ .*\n)+)", re.MULTILINE)
_NAMESERVER = re.compile(r"^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+)\s*$", re.MULTILINE)


def parse_routes(fib_trie: str) -> list[IPv4Network]:
    """The targets of all routes and addresses in /proc/net/fib_trie, which has every table. Not the default route."""
    found = set()
    for address, lengths in _LEAF.findall(fib_trie):
        for length in re.findall(r"^\s+/(\d+) ", lengths, re.MULTILINE):
            found.add(IPv4Network((address, int(length)), strict=False))
    return sorted(network for network in found if network.prefixlen)


def in_use() -> list[IPv4Network]:
    """What this machine can reach otherwise than by its default route, and its nameservers. OSError: what cannot be
    read must not be taken for none, or a container would be given what the machine routes elsewhere."""
    found = parse_routes(Path("/proc/thread-self/net/fib_trie").read_text(errors="replace"))
    try:
        resolv_conf = Path("/etc/resolv.conf").read_text(errors="replace")
    except FileNotFoundError:
        return found
    return found + [IPv4Network(address) for address in _NAMESERVER.findall(resolv_conf)]


def free(taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first network of the pools that overlaps with none of these. EngineError."""
    taken = list(taken)
    for candidate in _candidates():
        if not any(candidate.overlaps(other) for other in taken):
            return candidate
    raise EngineError(
        f"no network of {', '.join(map(str, POOLS))} is free on this machine",
        advice="make a network with one that is: treering network create --subnet SUBNET NAME",
    )


def clash(subnet: IPv4Network, taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """What a subnet overlaps with."""
    return next((other for other in taken if subnet.overlaps(other)), None)


def first_host(subnet: IPv4Network) -> ipaddress.IPv4Address:
    """The address that a gateway gets."""
    return subnet[1]


def _candidates() -> Iterator[IPv4Network]:
    for pool in POOLS:
        yield from pool.subnets(new_prefix=PREFIX)
