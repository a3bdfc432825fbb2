"""The networks of a store, in STORE/networks/NAME.json: containers on one reach one another, and nobody on another.

The one called DEFAULT is made when it is first needed. On the machine a network is a bridge and a few rules, which are
there as long as a container is on it (runtime.network.bridge).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import os
import re
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec

from runtime.network import namespace, subnets
from runtime.network.firewall import BRIDGE, INTERNAL
from runtime.network.record import PATIENCE, PAUSE, Members, Network, is_ending
from vcs.durable import replace_file, sync_directory
from vcs.errors import AlreadyExists, BadInput, Conflict, Corrupt, InvalidName, NotFound
from vcs.existing import is_there
from vcs.locks import flocked

DEFAULT = "bridge"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}")
_NO_NETWORKS = ("host", "none")
_decoder = msgspec.json.Decoder(Network)


class Networks:
    """What is defined in a store."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._directory = store / "networks"

    def all(self) -> list[Network]:
        """By their names. Corrupt; OSError."""
        # Not Path.glob, which from Python 3.13 on finds nothing in a directory that cannot be listed.
        try:
            files = map(Path, os.listdir(self._directory))
        except FileNotFoundError:
            return []
        names = sorted(file.stem for file in files if file.suffix == ".json" and not file.name.startswith("."))
        return [self.find(name) for name in names]

    def find(self, name: str) -> Network:
        """The network of this name. NotFound; Corrupt."""
        try:
            if not _NAME.fullmatch(name):
                raise FileNotFoundError
            return _decoder.decode(self._path(name).read_bytes())
        except FileNotFoundError:
            raise NotFound(f"no network {name!r}", network=name) from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            path = self._path(name)
            raise Corrupt(f"{path} cannot be read: {error}", path=str(path)) from error

    def find_or_default(self, name: str) -> Network:
        """The same; the default network is made if it is not there yet. EngineError as of `create`."""
        try:
            return self.find(name)
        except NotFound:
            if name != DEFAULT:
                raise
        with contextlib.suppress(AlreadyExists):
            return self.create(name)
        return self.find(name)

    def create(
        self, name: str, subnet: str | None = None, gateway: str | None = None, internal: bool = False
    ) -> Network:
        """Define a network. Without a subnet (such as `10.1.0.0/24`) one is chosen that is free on this machine.

        AlreadyExists, InvalidName; BadInput for addresses that cannot be a network's; EngineError if none is free.
        """
        if not _NAME.fullmatch(name):
            raise InvalidName(f"{name!r} cannot be a network's name: use {_NAME.pattern}", name=name)
        if name in _NO_NETWORKS:
            raise InvalidName(f"{name!r} means something else after --network", name=name)
        if gateway and not subnet:
            raise BadInput("a gateway needs the subnet that it is in", gateway=gateway)
        with self._locked(), namespace.locked():
            if is_there(self._path(name)):
                raise AlreadyExists(f"there is a network {name!r} already", name=name)
            others = [IPv4Network(other.subnet) for other in self.all()]
            if subnet is None:
                made = self._choose(name, internal, others)
            else:
                made = _checked(name, subnet, gateway, internal)
                other = subnets.clash(IPv4Network(subnet), others)
                if other:
                    raise BadInput(f"{subnet} overlaps with {other}, another network of this store", subnet=subnet)
            self._save(made)
        return made

    def fitted(self, network: Network) -> Network:
        """A network that is about to come up, with a subnet that is free on this machine: one that was chosen by us is
        chosen again if need be. BadInput if it was not. The caller holds `namespace.locked()`."""
        taken = subnets.in_use()
        other = subnets.clash(IPv4Network(network.subnet), taken)
        if other is None:
            return network
        if not network.chosen:
            raise BadInput(
                f"network {network.name!r} has the subnet {network.subnet}, and this machine uses {other} otherwise",
                network=network.name, subnet=network.subnet,
            )  # fmt: skip
        others = [IPv4Network(one.subnet) for one in self.all() if one.name != network.name]
        fitted = self._choose(network.name, network.internal, others, network.created)
        self._save(fitted)
        return fitted

    def remove(self, network: Network) -> None:
        """Forget a network, once the containers on it that have ended have left it. Conflict if others are on it."""
        members = Members(self._store, network.name)
        deadline = time.monotonic() + PATIENCE
        while not self._removed(network, members):
            found = members.all()
            if time.monotonic() > deadline or not all(is_ending(directory) for directory, _ in found):
                names = sorted(record.names[0] for _, record in found)
                raise Conflict(
                    f"network {network.name!r} is in use by {', '.join(names) or 'a container'}",
                    network=network.name, containers=names,
                )  # fmt: skip
            time.sleep(PAUSE)

    def _removed(self, network: Network, members: Members) -> bool:
        with members.locked():
            if members.ids():
                return False
            self._path(network.name).unlink(missing_ok=True)
            sync_directory(self._directory)
            return True

    def bridge(self, network: Network) -> str:
        """The name of a network's bridge: this store's alone, also if it was copied from another."""
        seed = f"{os.path.realpath(self._store)}\0{network.name}".encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(seed, digest_size=5).hexdigest()
        return (INTERNAL if network.internal else BRIDGE) + digest

    def _choose(self, name: str, internal: bool, others: list[IPv4Network], created: float | None = None) -> Network:
        subnet = subnets.free([*subnets.in_use(), *others])
        gateway = str(subnets.first_host(subnet))
        return Network(name, str(subnet), gateway, internal, True, time.time() if created is None else created)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _save(self, network: Network) -> None:
        data = msgspec.json.format(msgspec.json.encode(network), indent=2) + b"\n"
        replace_file(self._path(network.name), data)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        with flocked(self._directory / ".lock", fcntl.LOCK_EX):
            yield


def _checked(name: str, subnet: str, gateway: str | None, internal: bool) -> Network:
    try:
        net = IPv4Network(subnet)
    except ValueError as error:
        raise BadInput(f"{subnet!r} cannot be a network's subnet: {error}", subnet=subnet) from None
    if net.prefixlen > 29 or net.prefixlen < 8:
        raise BadInput(f"{subnet} must have between 8 and 2^24 addresses", subnet=subnet)
    if net.is_loopback or net.is_multicast or net.is_link_local or net.overlaps(IPv4Network("0.0.0.0/8")):
        raise BadInput(f"{subnet} is of a kind that cannot be a network's", subnet=subnet)
    own = _gateway(net, gateway) if gateway else subnets.first_host(net)
    return Network(name, str(net), str(own), internal, False, time.time())


def _gateway(net: IPv4Network, gateway: str) -> IPv4Address:
    try:
        address = ipaddress.IPv4Address(gateway)
    except ValueError as error:
        raise BadInput(f"{gateway!r} cannot be a gateway: {error}", gateway=gateway) from None
    if address not in net or address in (net.network_address, net.broadcast_address):
        raise BadInput(f"{gateway} cannot be the gateway of {net}: it is not one of its hosts", gateway=gateway)
    return address
