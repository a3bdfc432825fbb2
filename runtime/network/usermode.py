"""The network of an ordinary user's container: a program of his carries its packets to sockets of the machine.

He cannot tie a network namespace to the machine's, but a process of his can sit in both. slirp4netns and pasta
(package passt) do that; the first of them that is there and works is taken. The container has an address that nobody
else sees, reaches what its user reaches, and published ports are listened on by that program. Other containers are
reached by published ports alone.

The program goes on when the supervisor is killed, as the container does; its record tells whom to end afterwards.

pasta        opens the namespace as its standard input: a path below /proc of a process with more rights is denied to it
slirp4netns  is told of published ports over a socket
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from runtime.engine import SEARCH_PATH, spawn, wait
from runtime.network.ports import ANYWHERE, show
from runtime.network.record import Members, Network, Record, save
from runtime.settings import Port
from runtime.state import Process
from vcs.errors import Denied, EngineError

NETWORK = Network("bridge", "10.0.2.0/24", "10.0.2.2")
"""What a container sees; the same for all of them, since nobody else does."""
ADDRESS, NAMESERVER = "10.0.2.100", "10.0.2.3"
"""slirp4netns has them built in."""

_TUN = Path("/dev/net/tun")
_SECONDS = 20.0
_PACKAGES = "as root: apt-get install slirp4netns (or passt); or use --network host or none"
_RESULT = {"ips": [{"address": f"{ADDRESS}/24", "gateway": NETWORK.gateway}]}


_PID, _SOCKET = "network.pid", "network.sock"

Kind = Literal["pasta", "slirp4netns"]


class Program(NamedTuple):
    """pasta or slirp4netns, installed."""

    kind: Kind
    path: str


def programs(network: str) -> list[Program]:
    """Those that can be tried. Denied if an ordinary user cannot have such a network; EngineError if neither is
    installed."""
    if network != NETWORK.name:
        raise Denied(f"the network {network!r} is a bridge, which only root can make", network=network, missing="root")
    if not _TUN.exists():
        raise Denied(f"there is no {_TUN}: containers cannot have a network of their own", missing="tun")
    if not os.access(_TUN, os.R_OK | os.W_OK):
        raise Denied(f"{_TUN} is not open to you: containers cannot have a network of their own", missing="tun-mode")
    found = [Program(kind, path) for kind in _START if (path := _find(kind))]
    if not found:
        raise EngineError("neither pasta nor slirp4netns is installed", advice=_PACKAGES)
    return found


def make(directory: Path, store: Path, wanted: Record, fd: int, found: Sequence[Program]) -> Record:
    """Have a program carry the packets of the network namespace of `fd`; returns the record as it is then. EngineError
    if none can."""
    members = Members(store, wanted.network.name)
    failed: EngineError | None = None
    for program in found:
        record = msgspec.structs.replace(wanted, kind=program.kind)
        save(directory, record, durable=True)
        with members.locked():
            members.add(directory, record.id)
        try:
            helper = _START[program.kind](program.path, directory, fd, record.ports)
        except EngineError as error:
            failed = failed or error
            continue
        record = msgspec.structs.replace(record, helper=(helper.pid, helper.start), result=_RESULT)
        try:
            save(directory, record, durable=False)
        except BaseException:
            _end_started(helper.pid)  # nobody would know whom to end
            raise
        return record
    assert failed is not None
    raise failed


def end(directory: Path, store: Path, record: Record) -> None:
    """End the program."""
    if record.this_boot and record.helper:
        _kill(Process(*record.helper))
    for name in (_PID, _SOCKET):
        (directory / name).unlink(missing_ok=True)
    members = Members(store, record.network.name)
    with members.locked():
        members.remove(record.id)


def hosts(name: str) -> tuple[str, ...]:
    """Lines of the container's hosts file."""
    return (f"{ADDRESS}\t{name}",)


def _start_pasta(program: str, directory: Path, fd: int, ports: Sequence[Port]) -> Process:
    """It goes into the background once all is in its place."""
    pid_file = directory / _PID
    pid_file.unlink(missing_ok=True)
    # Opened before, for if that failed afterwards nobody would know whom to end.
    told = os.open(pid_file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    arguments = [
        program, "--quiet", "--config-net", "--ns-ifname", "eth0", "--ipv4-only",
        "--address", ADDRESS, "--netmask", "24", "--gateway", NETWORK.gateway, "--no-map-gw",
        "--dns-forward", NAMESERVER,
        "--tcp-ns", "none", "--udp-ns", "none",
        *_pasta_ports("--tcp-ports", [port for port in ports if port.protocol == "tcp"]),
        *_pasta_ports("--udp-ports", [port for port in ports if port.protocol == "udp"]),
        "--pid", str(pid_file), "--runas", "0", "--netns-only", "--no-netns-quit", "--netns", "/proc/self/fd/0",
    ]  # fmt: skip
    try:
        with tempfile.TemporaryFile() as said:
            code = _wait_for(spawn(arguments, (fd, said.fileno(), said.fileno())), "pasta")
            if code:
                said.seek(0)
                raise _failure("pasta", said.read().decode(errors="replace"), code)
        pid = _told_pid(told)
        process = Process.of(pid) if pid else None
    except BaseException:
        if pid := _told_pid(told):
            _end_started(pid)
        raise
    finally:
        os.close(told)
    if process is None:
        raise EngineError("pasta ended as soon as it had begun", program="pasta")
    return process


def _told_pid(fd: int) -> int | None:
    """The pid in a file, None if it has not been written."""
    words = os.pread(fd, 32, 0).split()
    return int(words[0]) if words and words[0].isdigit() else None


def _pasta_ports(option: str, ports: Sequence[Port]) -> list[str]:
    words = [f"{port.address}/{port.host}:{port.container}".lstrip("/") for port in ports]
    return [word for one in words or ["none"] for word in (option, one)]


def _start_slirp(program: str, directory: Path, fd: int, ports: Sequence[Port]) -> Process:
    """It stays a child of ours, and tells through its standard input when it is ready."""
    (directory / _SOCKET).unlink(missing_ok=True)
    own = f"/proc/{os.getpid()}/fd"
    with ExitStack() as opened:
        # The path of a socket has at most 107 bytes.
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, place)
        said = opened.enter_context(tempfile.TemporaryFile())
        told, tell = os.pipe2(os.O_CLOEXEC)
        opened.callback(os.close, told)
        arguments = [
            program, "--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path", "--ready-fd=0",
            f"--api-socket={own}/{place}/{_SOCKET}", f"{own}/{fd}", "eth0",
        ]  # fmt: skip
        try:
            pid = spawn(arguments, (tell, None, said.fileno()))
        finally:
            os.close(tell)
        try:
            process = Process.of(pid)
            if not select.select([told], [], [], _SECONDS)[0] or not os.read(told, 1) or process is None:
                said.seek(0)
                raise _failure("slirp4netns", said.read().decode(errors="replace"), None)
            for port in ports:
                _slirp_port(f"{own}/{place}/{_SOCKET}", port)
        except BaseException:
            _end_started(pid)
            raise
        return process


def _slirp_port(address: str, port: Port) -> None:
    arguments = {
        "proto": port.protocol,
        "host_addr": port.address or ANYWHERE,
        "host_port": port.host,
        "guest_port": port.container,
    }
    try:
        with socket.socket(socket.AF_UNIX) as api:
            api.settimeout(_SECONDS)
            api.connect(address)
            api.sendall(json.dumps({"execute": "add_hostfwd", "arguments": arguments}).encode())
            api.shutdown(socket.SHUT_WR)
            answer = json.loads(api.recv(1 << 16))
    except (OSError, ValueError) as error:
        raise EngineError(f"slirp4netns does not answer: {error}", program="slirp4netns") from error
    if "error" in answer:
        why = answer["error"].get("desc", "no reason given")
        raise EngineError(f"port {show(port)} cannot be published: {why}", program="slirp4netns")


_START: dict[Kind, Callable[[str, Path, int, Sequence[Port]], Process]] = {
    "slirp4netns": _start_slirp,
    "pasta": _start_pasta,
}
"""In order of preference. slirp4netns takes 3 MB, pasta 20 MB; and pasta of Debian 12 repeats what it has sent to a
client that has closed its half of a connection, without end."""


def _find(name: str) -> str | None:
    paths = (f"{folder}/{name}" for folder in SEARCH_PATH.split(":"))
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def _wait_for(pid: int, name: str) -> int:
    """The exit code of a child that should end soon. EngineError if it does not."""
    try:
        process = os.pidfd_open(pid)
        try:
            ended = select.select([process], [], [], _SECONDS)[0]
        finally:
            os.close(process)
        if not ended:
            raise EngineError(f"{name} did not begin within {_SECONDS:.0f} s", program=name)
    except BaseException:
        _end_started(pid)
        raise
    return wait(pid)


def _end_started(pid: int) -> None:
    """End a process that was started just now, our child or one that has gone into the background. It takes no
    descriptor: that there is none may be why it must end."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _kill(process: Process) -> None:
    """End a process, and see that it has ended."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if process.alive():  # the pid may have become another's
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            select.select([fd], [], [], _SECONDS)
    finally:
        os.close(fd)
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def _failure(name: str, said: str, code: int | None) -> EngineError:
    lines = [line.strip() for line in said.splitlines() if line.strip() and "syslog" not in line]
    text = lines[-1] if lines else "it said nothing" if code is None else f"it exited with {code} and said nothing"
    return EngineError(f"{name} could not make the container's network: {text}", program=name)
