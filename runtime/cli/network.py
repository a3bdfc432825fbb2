"""network, port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, verb
from runtime.cli.output import message

if TYPE_CHECKING:
    from pathlib import Path

    from runtime.network.record import Network, Record
    from runtime.settings import Port

    Member = tuple[Path, Record]
    Row = tuple[Network, str, Sequence[Member]]


@click.group("network", context_settings={"help_option_names": ["-h", "--help"]})
def network() -> None:
    """List, make, look at or remove networks.

    Containers on one network reach one another, by their names too, and nobody on another network. The network called
    `bridge` is made when it is first needed; `create bridge` gives it addresses of your choice.

    \b
    Example:
      treering network create backend
      treering run -d --name db --network backend postgres
      treering run --network backend web ping db
      treering network rm backend
    """


def _networks(invocation: Invocation) -> Any:
    from runtime.network.networks import Networks

    return Networks(invocation.store.path)


def _swept(invocation: Invocation, name: str | None = None) -> None:
    from runtime.network import sweep

    sweep(invocation.store.path, name)


def _row(invocation: Invocation, found: Network) -> Row:
    from runtime.network.record import Members

    members = Members(invocation.store.path, found.name).all()
    return found, _networks(invocation).bridge(found), sorted(members, key=lambda member: member[1].names)


def _fields(row: Row) -> dict[str, Any]:
    found, bridge, members = row
    return {
        "name": found.name,
        "subnet": found.subnet,
        "gateway": found.gateway,
        "internal": found.internal,
        "bridge": bridge,
        "containers": [
            {"id": record.id, "name": record.names[0], "address": record.address, "ports": _ports(record.ports)}
            for _, record in members
        ],
    }


def _ports(ports: Sequence[Port]) -> list[dict[str, Any]]:
    from runtime.network.ports import ANYWHERE

    return [
        {
            "container": port.container,
            "protocol": port.protocol,
            "address": port.address or ANYWHERE,
            "host": port.host,
        }
        for port in ports
    ]


@verb("ls", data=True)
def ls(invocation: Invocation) -> None:
    """List networks.

    A network has a bridge on the machine as long as containers are on it.

    \b
    Example:
      treering network ls
    """
    _swept(invocation)

    def table(rows: Any) -> None:
        titles = ("NAME", "SUBNET", "BRIDGE", "INTERNAL", "CONTAINERS")
        lines = [
            (found.name, found.subnet, bridge, "yes" if found.internal else "no", str(len(members)))
            for found, bridge, members in rows
        ]
        invocation.output.columns(titles, lines)

    invocation.output.rows([_row(invocation, found) for found in _networks(invocation).all()], _fields, table)


@verb("create", data=True)
@click.argument("name", metavar="NAME")
@click.option("--subnet", metavar="ADDRESS/LENGTH", help="Its addresses; otherwise free ones are found.")
@click.option("--gateway", metavar="ADDRESS", help="The machine's address in it; otherwise the subnet's first.")
@click.option("--internal", is_flag=True, help="Let nobody on it reach anything else.")
def create(invocation: Invocation, name: str, subnet: str | None, gateway: str | None, internal: bool) -> None:
    """Make a network.

    Its bridge appears on the machine with the first container. Addresses that were not given are chosen again if, by
    then, the machine uses them otherwise.

    \b
    Example:
      treering network create backend
      treering network create --subnet 10.1.2.0/24 --gateway 10.1.2.254 office
      treering network create --internal sealed
    """
    _only_root(name)
    made = _networks(invocation).create(name, subnet, gateway, internal)
    if invocation.output.is_table:
        message(f"Made network {name}, {made.subnet}; use it: treering run --network {name} ...")
    else:
        invocation.output.value(_fields(_row(invocation, made)))


@verb("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME")
def rm(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Remove networks.

    Containers that were on it and do not run keep their setting: they cannot be started until there is a network of
    that name again.

    \b
    Example:
      treering network rm backend
    """
    networks = _networks(invocation)
    for name in names:
        _swept(invocation, name)
        networks.remove(networks.find(name))
        message(f"Removed network {name}")


@verb("inspect", data=True)
@click.argument("names", nargs=-1, required=True, metavar="NAME")
def inspect(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Show networks, and who is on them.

    \b
    Example:
      treering network inspect bridge
      treering network inspect --format json backend
    """
    output = invocation.output
    found = [_networks(invocation).find(name) for name in names]
    for name in names:
        _swept(invocation, name)

    def table(rows: Any) -> None:
        for row in rows:
            fields = _fields(row)
            for title in ("name", "subnet", "gateway", "bridge", "internal"):
                value = fields[title]
                output.line(f"{title:<9} {'yes' if value is True else 'no' if value is False else value}")
            lines = [
                (one["name"], str(one["address"]), ", ".join(_line(port) for port in record.ports))
                for one, (_, record) in zip(fields["containers"], row[2], strict=True)
            ]
            if lines:
                output.columns(("CONTAINER", "ADDRESS", "PORTS"), lines)

    output.rows([_row(invocation, one) for one in found], _fields, table)


def _line(port: Port) -> str:
    from runtime.network.ports import ANYWHERE

    return f"{port.container}/{port.protocol} -> {port.address or ANYWHERE}:{port.host}"


def _only_root(name: str) -> None:
    import os

    from runtime.namespace import in_user_namespace
    from vcs.errors import Denied

    if os.geteuid() or in_user_namespace():
        raise Denied(f"the network {name!r} is a bridge, which only root can make", network=name, missing="root")


@verb("port", data=True)
@container_argument()
@click.argument("wanted", required=False, metavar="[PORT[/udp]]")
def port(invocation: Invocation, name: str, wanted: str | None) -> None:
    """Show where the machine listens for a container's ports.

    With PORT, only where it does for that one.

    \b
    Example:
      treering port web
      curl http://$(treering port web 80)/
    """
    from runtime.network import published
    from runtime.network.ports import ANYWHERE
    from runtime.state import is_running
    from vcs.errors import NotFound

    container = invocation.containers.find(name)
    directory = container.paths.directory
    ports: Sequence[Port] = published(directory) if is_running(directory) else ()
    if wanted is not None:
        number, _, protocol = wanted.partition("/")
        ports = [one for one in ports if str(one.container) == number and one.protocol == (protocol or "tcp")]
        if not ports:
            raise NotFound(f"container {container.name!r} has not published port {wanted}", port=wanted)

    def table(_: Any) -> None:
        for one in ports:
            invocation.output.line(f"{one.address or ANYWHERE}:{one.host}" if wanted else _line(one))

    invocation.output.rows(_ports(ports), lambda row: row, table)


for _command in (ls, create, rm, inspect):
    network.add_command(_command)

VERBS: dict[str, click.Command] = {"network": network, "port": port}
