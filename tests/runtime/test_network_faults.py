"""What cannot be looked at is not taken for what is not there: links, rules, routes and files, while calls fail."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime import network
from runtime.engine import spawn
from runtime.network import firewall, names, namespace, subnets, usermode
from runtime.network.networks import Networks
from runtime.network.ports import hold
from runtime.network.record import Members, Record, me, save
from runtime.settings import Port
from runtime.state import Process
from tests.support.containers import eventually, is_gone
from tests.support.descriptors import no_descriptors
from tests.support.networking import Place, bridges, listening, places
from vcs.errors import EngineError, TreeringError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes networks")
NO_MORE = os.strerror(errno.EMFILE)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    with places(tmp_path) as make:
        yield make


def refusing(error: int, *paths: str) -> Callable[..., bytes]:
    """A way to read files that fails for some."""
    really = Path.read_bytes

    def read(path: Path) -> bytes:
        if not paths or str(path) in paths:
            raise OSError(error, os.strerror(error), str(path))
        return really(path)

    return read


# -- links


def test_a_link_is_there_or_not() -> None:
    assert namespace.exists("lo")
    assert not namespace.exists("trg-none")
    assert not namespace.exists("lo" + "o" * 20), "names of links are short"
    namespace.delete("trg-none")


def test_a_link_that_cannot_be_looked_at_is_not_one_that_is_absent() -> None:
    with no_descriptors():
        with pytest.raises(OSError, match=NO_MORE):
            namespace.exists("lo")
        with pytest.raises(OSError, match=NO_MORE):
            namespace.delete("lo")


@as_root
def test_a_network_that_is_up_stays_as_it_is(place: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch) -> None:
    here = place("store")
    here.join("one")
    before = Networks(here.store).find("bridge")
    really = namespace.exists

    def exists(link: str) -> bool:
        with no_descriptors():
            return really(link)

    with monkeypatch.context() as patch:
        patch.setattr(namespace, "exists", exists)
        with pytest.raises((OSError, TreeringError)):
            here.join("two")
    assert Networks(here.store).find("bridge") == before
    here.join("two")


# -- rules


@pytest.fixture
def iptables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], list[str]]:
    """Put another iptables in the place of the machine's, which ends with a code where it is asked for something in a
    table, and with 1 elsewhere; returns what it is called with."""

    def install(word: str, code: int) -> list[str]:
        folder, log = tmp_path / "bin", tmp_path / "called"
        folder.mkdir(exist_ok=True)
        for name in ("iptables", "iptables-restore"):
            script = (
                f'#!/bin/sh\necho "$*" >> {log}\ncase "$*" in *{word}*) echo locked >&2; exit {code};; esac\nexit 1\n'
            )
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
        monkeypatch.setattr(firewall, "SEARCH_PATH", f"{folder}:/usr/bin:/bin")
        return log.read_text().splitlines() if log.exists() else []

    return install


@pytest.mark.parametrize("code", [3, 4, 137])
def test_a_rule_that_cannot_be_looked_at_is_not_one_that_is_absent(
    iptables: Callable[[str, int], list[str]], code: int
) -> None:
    iptables("-C", code)
    with pytest.raises(EngineError, match="iptables failed: locked"):
        firewall.forbid("trg-x", "10.0.0.0/24", last=True)
    called = iptables("-C", code)
    assert len(called) == 1, "no chain is emptied whose rules may be in use"
    with pytest.raises(EngineError, match="iptables failed: locked"):
        firewall.allow("trg-x", "10.0.0.0/24")


@pytest.mark.parametrize("code", [1, 2])
def test_a_rule_or_chain_that_is_absent(iptables: Callable[[str, int], list[str]], code: int) -> None:
    iptables("-C", code)
    firewall.forbid("trg-x", "10.0.0.0/24", last=True)


def test_a_chain_that_cannot_be_removed_is_told(iptables: Callable[[str, int], list[str]]) -> None:
    iptables("-X", 4)
    with pytest.raises(EngineError, match="iptables failed: locked"):
        firewall.forbid("trg-x", "10.0.0.0/24", last=True)


@as_root
def test_rules_that_could_not_be_removed_are_removed_by_the_next_look(
    place: Callable[[str], Place], iptables: Callable[[str, int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place("store")
    here.join("one")
    directory = here.directory("one")
    iptables("-C", 4)
    with pytest.raises(EngineError, match="iptables failed: locked"):
        network.disconnect(directory)
    monkeypatch.undo()
    here.open.pop("one").close()
    assert Members(here.store, "bridge").ids() == [directory.name], "or no sweep would look at it"
    monkeypatch.setattr("runtime.network.connecting.in_use", lambda *_: False)
    network.sweep(here.store)
    assert Members(here.store, "bridge").ids() == []


@as_root
def test_a_chain_of_networks_that_is_gone_is_made_again(place: Callable[[str], Place]) -> None:
    here = place("store")
    here.join("one")
    if len(bridges()) > 1:
        pytest.skip("others have networks here")
    for what in (("-F", "TREERING-FORWARD"), ("-F", "TREERING-NETWORKS"), ("-X", "TREERING-NETWORKS")):
        firewall._iptables("-t", "filter", *what)
    here.join("two")


# -- routes and nameservers


@pytest.mark.parametrize("path", ["/proc/thread-self/net/fib_trie", "/etc/resolv.conf"])
def test_routes_that_cannot_be_read_are_not_none(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    really = Path.read_text

    def read(self: Path, *arguments: Any, **settings: Any) -> str:
        if str(self) == path:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE), path)
        return really(self, *arguments, **settings)

    monkeypatch.setattr(Path, "read_text", read)
    with pytest.raises(OSError, match=path):
        subnets.in_use()


def test_a_machine_without_nameservers_has_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    really = Path.read_text

    def read(self: Path, *arguments: Any, **settings: Any) -> str:
        if str(self) == "/etc/resolv.conf":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return really(self, *arguments, **settings)

    monkeypatch.setattr(Path, "read_text", read)
    assert subnets.in_use()


def test_nameservers_that_cannot_be_read_are_not_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refusing(errno.ENFILE))
        with pytest.raises(OSError, match=r"/etc/resolv\.conf"):
            names.resolv_conf()
        with pytest.raises(OSError, match="/run/systemd"):
            names.nameservers(b"nameserver 127.0.0.53\n")
    monkeypatch.setattr(Path, "read_bytes", refusing(errno.ENOENT))
    assert names.resolv_conf() == b""
    assert names.nameservers(b"nameserver 127.0.0.53\n") == b""


# -- what is on a network


def test_networks_that_cannot_be_listed_are_not_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Networks(tmp_path).all() == []
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks/.hidden.json").touch()
    assert Networks(tmp_path).all() == []
    refuse_lists(monkeypatch)
    with pytest.raises(PermissionError):
        Networks(tmp_path).all()


def test_members_that_cannot_be_listed_are_not_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.network.connecting import _await_ports

    network.sweep(tmp_path)
    (tmp_path / "run/network/leases").mkdir(parents=True)
    network.sweep(tmp_path)
    refuse_lists(monkeypatch)
    with pytest.raises(PermissionError):
        network.sweep(tmp_path)
    with pytest.raises(PermissionError):
        _await_ports(tmp_path, "some", (Port(80, 80),))


def refuse_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have directories not be listed. Path.glob takes this one error for an empty directory in every Python, and from
    3.13 on all others too."""

    def refuse(path: Any = ".") -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)


def test_a_connection_that_cannot_be_looked_at_is_not_one_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "network.json").touch()
    monkeypatch.setattr(Path, "exists", lambda _: False)  # as it answers to every error, from Python 3.14 on
    ended: list[Path] = []
    monkeypatch.setattr("runtime.network.connecting._end", ended.append)
    network.disconnect(tmp_path)
    assert ended == [tmp_path]


# -- programs of an ordinary user


@as_root
@pytest.mark.parametrize("kind", ["slirp4netns", "pasta"])
@pytest.mark.parametrize("moment", ["noted", "looked at", "waited for"])
def test_a_program_that_cannot_be_noted_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: usermode.Kind, moment: str
) -> None:
    path = usermode._find(kind)
    if path is None:
        pytest.skip(f"{kind} is not installed")
    directory = tmp_path / "containers/one"
    directory.mkdir(parents=True)
    (port,), held = hold([Port(80, 0, "127.0.0.1")])
    for one in held:
        one.close()
    wanted = Record(kind, usermode.NETWORK, "../..", "one", ("one",), me(), (port,))
    fd = namespace.make()
    try:
        with ended(directory) as started, monkeypatch.context() as patch:
            fail_when(moment, patch, started)
            with pytest.raises(OSError, match=os.strerror(errno.ENFILE)):
                usermode.make(directory, tmp_path, wanted, fd, [usermode.Program(kind, path)])
            assert started
    finally:
        os.close(fd)
    assert not listening(port.host)


@contextmanager
def ended(directory: Path) -> Iterator[list[int]]:
    """Fails if one of the processes that are noted in here, or in a container's directory, goes on."""
    started: list[int] = []
    yield started
    told = directory / "network.pid"
    started += map(int, told.read_text().split()) if told.exists() else ()
    try:
        eventually(lambda: all(map(is_gone, started)), 5)
    finally:
        for pid in started:
            if not is_gone(pid):
                os.kill(pid, signal.SIGKILL)


def fail_when(moment: str, patch: pytest.MonkeyPatch, started: list[int]) -> None:
    """Have one call fail after a program has been started; `started` gets its pid."""

    def spawning(*arguments: Any) -> int:
        started.append(spawn(*arguments))
        return started[-1]

    def refuse(*_: Any) -> Any:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    def saving(directory: Path, record: Record, *, durable: bool) -> None:
        if record.helper:
            refuse()
        save(directory, record, durable=durable)

    patch.setattr(usermode, "spawn", spawning)
    if moment == "noted":
        patch.setattr(usermode, "save", saving)
    elif moment == "looked at":
        patch.setattr(Process, "of", refuse)
    else:
        patch.setattr(os, "pidfd_open", refuse)
        patch.setattr(select, "select", refuse)
