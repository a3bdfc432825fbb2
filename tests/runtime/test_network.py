"""Networks of containers, without containers: namespaces, bridges, addresses, rules and ports for real."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from runtime import network
from runtime.network import Connection, cni, names, subnets
from runtime.network.networks import Networks
from runtime.network.ports import hold, overlap
from runtime.network.record import Network, Record, load, save
from runtime.settings import Port
from tests.support.containers import PROJECT, environment
from tests.support.networking import (
    SECONDS,
    Place,
    ask,
    bridges,
    leases,
    left_behind,
    listening,
    machine_address,
    places,
    rules,
    run_in,
    server,
)
from vcs.errors import AlreadyExists, BadInput, Conflict, EngineError, InvalidName, NotFound

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes networks")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    """Makes places for networks; nothing of them is left in the end."""
    with places(tmp_path) as make:
        yield make


# -- values

FIB = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.88.0.0/16 2 0 2
        |-- 10.88.0.0
           /16 link UNICAST
           /32 link BROADCAST
        |-- 10.88.0.1
           /32 host LOCAL
Id 51820:
     |-- 172.16.0.0
        /12 universe UNICAST
"""


def test_routes_of_every_table_are_seen() -> None:
    found = subnets.parse_routes(FIB)
    assert set(found) == set(map(IPv4Network, ("10.88.0.0/16", "10.88.0.0/32", "10.88.0.1/32", "172.16.0.0/12")))


def test_a_free_subnet_overlaps_with_nothing() -> None:
    taken = subnets.parse_routes(FIB)
    assert subnets.free(taken) == IPv4Network("10.89.0.0/22")
    assert subnets.free([IPv4Network("10.0.0.0/8")]) == IPv4Network("172.28.0.0/22")
    with pytest.raises(EngineError, match="is free"):
        subnets.free([IPv4Network("0.0.0.0/0")])


def test_the_machine_s_own_network_is_in_use() -> None:
    assert subnets.clash(IPv4Network(f"{machine_address()}/32"), subnets.in_use())


def member(address: str, *known: str) -> Record:
    result = {"ips": [{"address": f"{address}/22"}]}
    return Record("bridge", Network("n", "10.0.0.0/22", "10.0.0.1"), ".", address, known, (1, 1, ""), result=result)


def lines(*members: Record) -> dict[str, str]:
    found = {}
    for line in names.section(members, "10.0.0.1"):
        if not line.startswith("#"):
            address, known = line.split("\t")
            found.update(dict.fromkeys(known.split(" "), address))
    return found


def test_a_container_s_name_is_its_alone() -> None:
    found = lines(member("10.0.0.2", "db", "web", "data"), member("10.0.0.3", "web", "data"))
    assert (found["db"], found["web"], found["data"]) == ("10.0.0.2", "10.0.0.3", "10.0.0.2")


@pytest.mark.parametrize(
    "name",
    ["localhost", "LOCALHOST", "host.docker.internal", "a b", "a\tb", "a\n10.0.0.9\tother", "#", "", "a#b", "-a", "ä",
     "a" * 254, "a\x00", "a/b", "%s", "ip6-localhost"],
)  # fmt: skip
def test_no_name_stands_for_something_else(name: str) -> None:
    section = names.section([member("10.0.0.2", "good", name)], "10.0.0.1")
    assert section[2:] == ("10.0.0.2\tgood", section[-1])
    assert names.section([member("10.0.0.2", name)], "10.0.0.1")[1:] == (section[1], section[-1])


def test_the_rest_of_a_hosts_file_is_kept_and_so_is_its_inode(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1\tlocalhost\n")
    inode = path.stat().st_ino
    with path.open() as reader:
        for count in (1, 30, 2, 0):
            section = names.section([member(f"10.0.0.{n + 2}", f"c{n}") for n in range(count)], "10.0.0.1")
            names.write(path, section)
            with path.open("a") as own:
                own.write(f"1.1.1.1\town{count}\n")
            reader.seek(0)
            text = reader.read()
            assert text.startswith("".join(f"{line}\n" for line in section))
            assert "127.0.0.1\tlocalhost\n1.1.1.1\town1\n" in text
            assert text.count("host.docker.internal") == 1
    assert path.stat().st_ino == inode
    names.write(tmp_path / "missing", section)
    assert not (tmp_path / "missing").exists()


def test_nameservers_on_the_loopback_are_replaced(tmp_path: Path) -> None:
    real, none = tmp_path / "real", tmp_path / "none"
    real.write_bytes(b"nameserver 192.0.2.53\nsearch example.org\n")
    stub = b"nameserver 127.0.0.53\noptions edns0\n"
    assert names.nameservers(b"nameserver 192.0.2.1\n", [real]) == b"nameserver 192.0.2.1\n"
    assert names.nameservers(stub, [none, real]) == real.read_bytes()
    assert names.nameservers(stub + b"nameserver 192.0.2.1\n", [real]) == b"options edns0\nnameserver 192.0.2.1\n"
    assert names.nameservers(stub, [none]) == b"options edns0\n"
    assert names.nameservers(b"nameserver ::1\n", [real]) == real.read_bytes()
    assert names.nameservers(b"nameserver ::1:2\n", [real]) == b"nameserver ::1:2\n"


def test_ports_that_two_cannot_have() -> None:
    assert overlap(Port(80, 8080), Port(90, 8080))
    assert overlap(Port(80, 8080), Port(80, 8080, "127.0.0.1"))
    assert not overlap(Port(80, 8080, "127.0.0.2"), Port(80, 8080, "127.0.0.1"))
    assert not overlap(Port(80, 8080), Port(80, 8080, protocol="udp"))
    assert not overlap(Port(80, 0), Port(80, 0))


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_port_that_is_taken_is_told(kind: str) -> None:
    wanted = Port(80, 0, "127.0.0.1", "udp" if kind == "udp" else "tcp")
    (found,), held = hold([wanted])
    try:
        assert found.host > 0
        with pytest.raises(EngineError, match=rf"port 127\.0\.0\.1:{found.host}/{kind} cannot .* listens there"):
            hold([wanted, found])
        with pytest.raises(EngineError, match="the machine does not have this address"):
            hold([Port(80, 0, "198.51.100.77")])
        with pytest.raises(EngineError, match="not an IPv4 address"):
            hold([Port(80, 0, "::1")])
    finally:
        for one in held:
            one.close()
    for one in hold([found])[1]:
        one.close()


# -- networks of a store


@as_root
def test_networks_are_made_and_removed(place: Callable[[str], Place]) -> None:
    networks = Networks(place("store").store)
    first = networks.create("one")
    second = networks.create("two", internal=True)
    fixed = networks.create("fixed", "10.231.7.0/24", "10.231.7.254")
    assert not IPv4Network(first.subnet).overlaps(IPv4Network(second.subnet))
    assert (fixed.gateway, fixed.chosen, second.internal) == ("10.231.7.254", False, True)
    assert [one.name for one in networks.all()] == ["fixed", "one", "two"]
    assert len({networks.bridge(one) for one in networks.all()}) == 3
    assert all(len(networks.bridge(one)) <= 15 for one in networks.all())
    with pytest.raises(AlreadyExists):
        networks.create("one")
    networks.remove(first)
    with pytest.raises(NotFound):
        networks.find("one")


@pytest.mark.parametrize("name", ["", "host", "none", "../x", "a b", "-a", "a" * 65, ".hidden", "a/b", "a\n"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidName):
        Networks(tmp_path).create(name)
    with pytest.raises(NotFound):
        Networks(tmp_path).find(name)


@pytest.mark.parametrize(
    ("subnet", "gateway"),
    [("10.1.0.1/24", None), ("x", None), ("127.0.0.0/24", None), ("224.0.0.0/24", None), ("10.1.0.0/30", None),
     ("10.0.0.0/7", None), ("10.1.0.0/24", "10.2.0.1"), ("10.1.0.0/24", "10.1.0.255"), ("10.1.0.0/24", "x"),
     (None, "10.1.0.1"), ("fd00::/64", None)],
)  # fmt: skip
def test_bad_addresses_are_refused(tmp_path: Path, subnet: str | None, gateway: str | None) -> None:
    with pytest.raises(BadInput):
        Networks(tmp_path).create("one", subnet, gateway)
    assert Networks(tmp_path).all() == []


@as_root
def test_a_network_whose_subnet_the_machine_uses_otherwise(place: Callable[[str], Place]) -> None:
    here = place("store")
    networks = Networks(here.store)
    address = machine_address()
    own = str(IPv4Network(f"{address}/24", strict=False))
    networks.create("fixed", own)
    with pytest.raises(BadInput, match="this machine uses"):
        here.join("a", "fixed")
    chosen = networks.create("chosen")
    moved = msgspec.structs.replace(chosen, subnet=own, gateway=address)
    networks._save(moved)
    here.join("a", "chosen")
    assert not IPv4Network(networks.find("chosen").subnet).overlaps(IPv4Network(own))


# -- connections


@as_root
def test_members_reach_one_another_and_know_their_names(place: Callable[[str], Place]) -> None:
    here = place("store")
    web = here.join("web")
    db = here.join("db", others=("database", "localhost", "odd name"))
    known = here.hosts("web")
    assert (known["web"], known["db"], known["database"], known["localhost"]) == (web, db, db, "127.0.0.1")
    assert here.hosts("db") == known
    with server(here.namespace("db"), 5432, "rows"):
        assert ask(db, 5432, namespace=here.namespace("web")) == "rows"
        assert ask(db, 5432) == "rows", "the machine reaches them too"
    with server(None, 18431, "machine"):
        assert ask(known["host.docker.internal"], 18431, namespace=here.namespace("web")) == "machine"
        assert ask(machine_address(), 18431, namespace=here.namespace("web")) == "machine", "and they what it reaches"
    network.rename(here.directory("db"), "store")
    assert "db" not in here.hosts("web")
    assert here.hosts("web")["store"] == db
    with pytest.raises(Conflict, match=r"in use by store, web"):
        Networks(here.store).remove(Networks(here.store).find("bridge"))
    here.leave("db")
    assert "store" not in here.hosts("web")
    assert len(leases(here.store)) == 1
    bridge = Networks(here.store).bridge(Networks(here.store).find("bridge"))
    assert bridge in bridges()
    here.leave("web")
    assert bridge not in bridges()
    network.disconnect(here.directory("web"))


@as_root
def test_networks_are_closed_to_one_another(place: Callable[[str], Place]) -> None:
    here, there = place("here"), place("there")
    Networks(here.store).create("sealed", internal=True)
    one, other = here.join("one"), there.join("other")
    sealed = here.join("inside", "sealed")
    assert one != other
    with (
        server(here.namespace("one"), 80, "one"),
        server(there.namespace("other"), 80, "other"),
        server(here.namespace("inside"), 80, "sealed"),
        server(None, 18432, "machine"),
    ):
        assert [ask(address, 80) for address in (one, other, sealed)] == ["one", "other", "sealed"]
        assert ask(other, 80, namespace=here.namespace("one"), patience=0.5) == ""
        assert ask(one, 80, namespace=there.namespace("other"), patience=0.5) == ""
        assert ask(sealed, 80, namespace=here.namespace("one"), patience=0.5) == ""
        assert ask(machine_address(), 18432, namespace=here.namespace("inside"), patience=0.5) == ""
    assert "default" not in run_in(here.namespace("inside"), "ip", "route")


@as_root
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_published_ports(place: Callable[[str], Place], kind: str) -> None:
    here = place("store")
    protocol: Literal["tcp", "udp"] = "udp" if kind == "udp" else "tcp"
    here.join("web", ports=(Port(80, 0, "", protocol), Port(80, 0, "127.0.0.1", protocol)))
    everywhere, loopback = (port.host for port in network.published(here.directory("web")))
    here.join("near")
    Networks(here.store).create("far")
    here.join("far", "far")
    with server(here.namespace("web"), 80, "hello", kind):
        assert ask("127.0.0.1", everywhere, kind) == "hello"
        assert ask(machine_address(), everywhere, kind) == "hello"
        assert ask(machine_address(), everywhere, kind, here.namespace("near")) == "hello"
        assert ask(machine_address(), everywhere, kind, here.namespace("far")) == "hello"
        assert ask("127.0.0.1", loopback, kind) == "hello"
        assert ask(machine_address(), loopback, kind, patience=0.5) == ""
    taken = Port(81, everywhere, "", protocol)
    with pytest.raises(EngineError, match="cannot be published"):
        here.join("other", ports=(taken,))
    assert not (here.directory("other") / "network.json").exists()
    here.leave("web")
    here.join("other", ports=(taken,))


@as_root
def test_the_loopback_of_the_machine_is_closed(place: Callable[[str], Place]) -> None:
    """CVE-2020-8558: a port on 127.0.0.1 needs route_localnet, which lets packets from outside in to it."""
    here = place("store")
    here.join("web", ports=(Port(80, 0, "127.0.0.1"),))
    inside = here.namespace("web")
    gateway = here.hosts("web")["host.docker.internal"]
    run_in(inside, "ip", "address", "del", "127.0.0.1/8", "dev", "lo")
    run_in(inside, "ip", "route", "add", "127.0.0.2/32", "via", gateway)
    run_in(inside, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
    bridge = Networks(here.store).bridge(Networks(here.store).find("bridge"))
    assert Path(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet").read_text() == "1\n"
    with server(None, 18433, "secret"):
        assert ask("127.0.0.2", 18433) == "secret"
        assert ask("127.0.0.2", 18433, namespace=inside, patience=0.5) == ""


_CONNECT = """
import sys, time
from pathlib import Path
from runtime import network
from runtime.settings import Port
store, name, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kept = network.connect(store / "containers" / name, store, name, name, "bridge", (Port(80, port),))
print(network.address(store / "containers" / name), flush=True)
time.sleep(600)
"""


def killed(here: Place, name: str, port: int = 0) -> str:
    """Connect a container by a process that is killed then; its address."""
    (here.store / "containers" / name).mkdir()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _CONNECT, str(here.store), name, str(port)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=PROJECT, env=environment(),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        return process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(SECONDS)


@as_root
def test_what_the_dead_leave_is_taken_down_by_the_next(place: Callable[[str], Place]) -> None:
    here = place("store")
    address = killed(here, "dead")
    assert leases(here.store) == [address]
    assert left_behind(here.store, "CNI-DN-")
    here.join("living")
    assert leases(here.store) == [network.address(here.directory("living"))]
    assert not [line for line in rules() if '"dead\\"' in line]
    assert set(here.hosts("living")) == {"living", "host.containers.internal", "host.docker.internal", "localhost"}


@as_root
def test_what_the_dead_leave_is_taken_down_by_a_look(place: Callable[[str], Place]) -> None:
    here = place("store")
    killed(here, "dead")
    network.sweep(here.store)
    assert left_behind(here.store, '"dead\\"') == []


@as_root
def test_a_connection_of_before_a_reboot_is_ended(place: Callable[[str], Place]) -> None:
    here = place("store")
    killed(here, "dead")
    directory = here.store / "containers/dead"
    record = load(directory)
    assert record is not None
    save(directory, msgspec.structs.replace(record, owner=(os.getpid(), record.owner[1], "another")), durable=False)
    network.disconnect(directory)
    assert left_behind(here.store, '"dead\\"') == []


@as_root
@pytest.mark.parametrize("damage", ["removed", "cut short"])
def test_a_connection_whose_record_is_lost_is_ended(place: Callable[[str], Place], damage: str) -> None:
    here = place("store")
    killed(here, "dead")
    if damage == "removed":
        shutil.rmtree(here.store / "containers/dead")
    else:
        os.truncate(here.store / "containers/dead/network.json", 20)
    network.sweep(here.store)
    with suppress(FileNotFoundError):
        (here.store / "containers/dead/network.json").unlink()
    assert left_behind(here.store, '"dead\\"') == []


@as_root
def test_who_takes_a_dead_one_s_place_holds_its_ports(place: Callable[[str], Place]) -> None:
    here = place("store")
    killed(here, "dead")
    directory = here.store / "containers/dead"
    (port,) = network.published(directory)
    assert not listening(port.host)
    taken = network.adopt(directory)
    assert listening(port.host)
    network.sweep(here.store)
    assert network.published(directory) == (port,), "it has an owner again"
    taken.close()
    network.disconnect(directory)


@as_root
def test_a_failure_leaves_nothing(place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch) -> None:
    here = place("store")
    original = cni._call

    def fail(command: str, name: str, plugin: cni.Plugin, *rest: object) -> object:
        if command == "ADD" and plugin["type"] == "portmap":
            raise EngineError("no portmap today")
        return original(command, name, plugin, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cni, "_call", fail)
    with pytest.raises(EngineError, match="today"):
        here.join("web", ports=(Port(80, 0),))
    assert left_behind(here.store, here.directory("web").name) == []


@as_root
def test_what_is_missing_is_named(place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch) -> None:
    here = place("store")
    monkeypatch.setattr(cni, "FOLDERS", (Path("/nonexistent"),))
    with pytest.raises(EngineError, match="CNI plugin bridge") as caught:
        here.join("web")
    assert "containernetworking-plugins" in caught.value.facts["advice"]
    monkeypatch.undo()
    monkeypatch.setattr("runtime.network.firewall.SEARCH_PATH", "/nonexistent")
    with pytest.raises(EngineError, match="there is no iptables") as caught:
        here.join("web")
    assert "apt-get install iptables" in caught.value.facts["advice"]


@as_root
def test_a_plugin_s_own_words_are_passed_on(place: Callable[[str], Place]) -> None:
    here = place("store")
    here.join("web")
    record = load(here.directory("web"))
    assert record is not None
    plugin = {
        "type": "bridge",
        "bridge": record.bridge,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "nonsense"}]]},
    }
    with pytest.raises(EngineError, match=r"the CNI plugin bridge failed: .*nonsense"):
        cni.add("any", [plugin], cni.Attachment("any", here.namespace("web"), "eth1"))


def test_none_and_host_touch_nothing(tmp_path: Path) -> None:
    for kind in ("none", "host"):
        made = network.connect(tmp_path / "c", tmp_path, "c", "c", kind, (Port(80, 1),))
        assert made == Connection()
    assert list(tmp_path.iterdir()) == []


@as_root
def test_a_namespace_has_a_loopback(place: Callable[[str], Place]) -> None:
    here = place("store")
    here.join("web")
    with server(here.namespace("web"), 80, "me"):
        assert ask("127.0.0.1", 80, namespace=here.namespace("web")) == "me"
    assert socket.if_nametoindex("lo")
