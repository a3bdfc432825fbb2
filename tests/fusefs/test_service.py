"""The service of a store: started on demand, one for all, gone when idle, replaced when killed."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from fusefs import mounting
from fusefs.client import Lease, Service
from fusefs.rundir import RunDirectory
from tests.fusefs.serving import OVERLAY_OPTIONS, commit, needs_fuse, until
from vcs.errors import Conflict, NotAStore, StoreError, UnknownFormat
from vcs.store import Store

pytestmark = needs_fuse

PROJECT = Path(__file__).parents[2]
PATIENT = 600.0
"""Seconds of idleness that no test lasts."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "store"
    with Store.create(path) as made:
        commit(made, {"etc": {"hostname": b"ring\n"}, "big": b"b" * 100_000, "dir": {"f": b"f"}})
    yield path
    if (path / "run").exists():
        Service.stop(path, force=True)
        until(lambda: not _pids(path))
    assert not [mount for mount in mounting.mounts() if os.fsencode(path) in mount.point]


def _pids(store: Path) -> list[int]:
    """Every process that was started as a service of this store."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            arguments = Path(f"/proc/{int(entry)}/cmdline").read_bytes().split(b"\0")
            if b"--idle" in arguments and os.fsencode(store) in arguments:
                found.append(int(entry))
    return found


def ended(pid: int, seconds: float = 20.0) -> bool:
    """Wait for the end of a process that is not ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def reply_of(line: str) -> str:
    """What a line of shell prints, in a process that can be killed if nobody answers it."""
    return subprocess.run(["sh", "-c", line], stdout=subprocess.PIPE, text=True, timeout=30, check=False).stdout


def mounted(store: Path) -> bool:
    return mounting.mount_at(store / "run/mnt") is not None


# -- beginning


def test_the_first_client_starts_it_and_the_others_find_it(store: Path) -> None:
    assert Service.status(store) is None
    with Service.ensure(store) as first:
        assert first.mountpoint == store / "run/mnt"
        assert (first.mountpoint / "branches/main/etc/hostname").read_bytes() == b"ring\n"
        with Service.ensure(store) as second:
            assert second.pid == first.pid
            status = Service.status(store)
            assert status is not None
            assert (status["holder"], status["leases"], status["device"]) == (first.pid, 2, first.device)
            assert status["messages"] > 3
    assert stat.S_IMODE((store / "run/service.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE((store / "run").stat().st_mode) == 0o700
    assert os.getsid(first.pid) != os.getsid(0)


def test_clients_at_the_same_time_get_one_service(store: Path) -> None:
    barrier = threading.Barrier(8)

    def client(_: int) -> int:
        barrier.wait()
        with Service.ensure(store) as lease:
            return lease.pid

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(client, range(8)))) == 1
    assert len(_pids(store)) == 1


def test_it_does_not_need_the_working_directory(store: Path, tmp_path: Path) -> None:
    """A directory `fusefs` where the user happens to be is not ours."""
    (tmp_path / "fusefs").mkdir()
    (tmp_path / "fusefs/__init__.py").write_text("raise SystemExit('wrong')")
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        "from pathlib import Path; from fusefs.client import Service\n"
        f"print(len(list((Service.ensure(Path({str(store)!r})).mountpoint / 'branches').iterdir())))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, env={}
    )
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


def test_a_long_path(store: Path, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    moved = Path(shutil.move(store, deep / "store"))
    try:
        with Service.ensure(moved) as lease:
            assert os.listdir(lease.mountpoint / "branches") == ["main"]
        assert Service.stop(moved)
    finally:
        shutil.move(moved, store)


def test_what_it_fails_with_reaches_the_client(store: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAStore):
        Service.ensure(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotAStore):
        Service.ensure(tmp_path / "empty")
    with pytest.raises(StoreError, match="opens no store"):
        Service.ensure(store, opener="no.such:thing")
    text = (store / "format").read_text()
    (store / "format").write_text(text.replace("1", "99"))
    with pytest.raises(UnknownFormat) as caught:
        Service.ensure(store)
    assert caught.value.facts["found"] == "99"
    (store / "format").write_text(text)
    assert not mounted(store)
    Service.ensure(store).close()


def test_a_client_in_another_mount_namespace_is_told(store: Path) -> None:
    with Service.ensure(store) as lease:
        code = (
            "from pathlib import Path; from fusefs.client import Service; from vcs.errors import StoreError\n"
            f"try: Service.ensure(Path({str(store)!r}))\nexcept StoreError as error: print(error.facts)"
        )
        script = f'umount {lease.mountpoint} && exec {sys.executable} -c "$CODE"'
        done = subprocess.run(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
            cwd=PROJECT, env={**os.environ, "CODE": code}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.strip() == str({"pid": lease.pid}), done.stderr
        assert mounted(store)


# -- leaving


def test_it_leaves_when_nobody_uses_it(store: Path) -> None:
    lease = Service.ensure(store, idle_seconds=0.1)
    assert not ended(lease.pid, 0.5), "a lease is use"
    assert mounted(store)
    lease.close()
    assert ended(lease.pid)
    assert not mounted(store)
    assert Service.status(store) is None
    assert not (store / "run/service.sock").exists()


def test_it_leaves_no_socket_when_others_unmount_it(store: Path) -> None:
    """Then it hears of the end from its workers first, as it may if it has unmounted itself."""
    lease = Service.ensure(store, idle_seconds=1000)
    subprocess.run(["umount", lease.mountpoint], check=True, timeout=30)
    assert ended(lease.pid)
    lease.close()
    assert not (store / "run/service.sock").exists()


def test_a_dead_client_holds_no_lease(store: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        "from pathlib import Path; from fusefs.client import Service\n"
        f"lease = Service.ensure(Path({str(store)!r}), 0.1)\nprint(lease.pid, flush=True)\nsys.stdin.read()"
    )
    client = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    assert not ended(pid, 0.3)
    client.kill()
    client.communicate()
    assert ended(pid)


def test_somebody_inside_keeps_it(store: Path) -> None:
    with Service.ensure(store, idle_seconds=0.1) as lease:
        inside = os.open(lease.mountpoint / "branches/main/etc", os.O_RDONLY)
    try:
        assert not ended(lease.pid, 0.6)
        assert mounted(store)
        with pytest.raises(Conflict, match="inside"):
            Service.stop(store)
    finally:
        os.close(inside)
    assert ended(lease.pid)


def test_a_bind_mount_elsewhere_keeps_it(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "shown"
    target.mkdir()
    with Service.ensure(store, idle_seconds=0.1) as lease:
        subprocess.run(["mount", "--bind", lease.mountpoint, target], check=True)
    try:
        assert not ended(lease.pid, 0.6)
        assert os.listdir(target / "branches") == ["main"]
        assert mounted(store)
    finally:
        subprocess.run(["umount", target], check=True)
    assert ended(lease.pid)


def test_stop(store: Path) -> None:
    assert Service.stop(store), "none runs"
    lease = Service.ensure(store)
    with pytest.raises(Conflict, match="1 users"):
        Service.stop(store)
    lease.close()
    until(lambda: (Service.status(store) or {})["leases"] == 0)
    assert Service.stop(store)
    assert not mounted(store)


def test_forced_to_stop_it_serves_who_is_inside(store: Path) -> None:
    lease = Service.ensure(store)
    inside = os.open(lease.mountpoint / "branches/main/", os.O_PATH)
    assert not Service.stop(store, force=True)
    assert not mounted(store)
    assert os.listdir(f"/proc/self/fd/{inside}/etc") == ["hostname"]
    with Service.ensure(store) as again:
        assert again.pid != lease.pid
        assert os.listdir(again.mountpoint / "branches") == ["main"]
    os.close(inside)
    assert ended(lease.pid)


def test_a_signal_makes_it_leave(store: Path) -> None:
    """Also one that comes just before the loop waits for its first message, as one of sixty did."""
    for _ in range(10):
        with Service.ensure(store) as lease:
            os.kill(lease.pid, signal.SIGTERM)
            assert ended(lease.pid)
        assert not mounted(store)


def test_unmounted_by_somebody_else_it_is_gone_and_replaced(store: Path) -> None:
    with Service.ensure(store) as lease:
        subprocess.run(["umount", lease.mountpoint], check=True)
        assert ended(lease.pid)
    with Service.ensure(store) as again:
        assert again.pid != lease.pid


def test_detached_by_somebody_else_it_makes_way(store: Path) -> None:
    """Its file system lives on through who is inside, but its path is empty: new clients need another."""
    with Service.ensure(store) as lease:
        inside = os.open(lease.mountpoint / "branches/main/", os.O_PATH)
        subprocess.run(["umount", "-l", lease.mountpoint], check=True)
        with Service.ensure(store) as again:
            assert again.pid != lease.pid
            assert os.listdir(f"/proc/self/fd/{inside}/etc") == ["hostname"]
        os.close(inside)
        assert ended(lease.pid)


# -- containers


@contextlib.contextmanager
def container(lease: Lease, at: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in a mount namespace of its own, in which alone an overlay over the mount exists.

    It executes the lines that it is sent in the overlay, and ends with its input.
    """
    for name in ("upper", "work", "merged"):
        (at / name).mkdir(parents=True)
    lower = (lease.mountpoint / "branches/main").resolve()
    options = f"{OVERLAY_OPTIONS},lowerdir={lower},upperdir={at}/upper,workdir={at}/work"
    merged = at / "merged"
    script = f'mount -t overlay overlay -o "$0" {merged} && umount -l {lease.mountpoint} && cd {merged} && exec sh'
    process = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script, options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.communicate(timeout=20)


def say(process: subprocess.Popen[str], line: str) -> str:
    """What a line of shell prints; one line of it."""
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(line + "\n")
    stdin.flush()
    return stdout.readline().rstrip("\n")


def test_a_container_is_served_after_the_unmount_until_it_ends(store: Path, tmp_path: Path) -> None:
    with Service.ensure(store, idle_seconds=0.1) as lease, container(lease, tmp_path / "c") as process:
        assert say(process, "cat etc/hostname") == "ring"
        lease.close()
        until(lambda: not mounted(store))
        assert not ended(lease.pid, 0.3)
        assert say(process, "wc -c < big") == "100000", "not read before: the old service answers"
        with Service.ensure(store, PATIENT) as again:
            assert again.pid != lease.pid
            assert (again.mountpoint / "branches/main/dir/f").read_bytes() == b"f"
            assert say(process, "cat dir/f; echo") == "f"
    assert ended(lease.pid)


# -- death


def test_its_holder_killed_it_is_replaced_by_the_next_client(store: Path) -> None:
    """Workers serve who is inside, until they are gone."""
    with Service.ensure(store) as lease:
        (worker,) = Service.status(store)["workers"]  # type: ignore[index]
        inside = os.open(lease.mountpoint / "branches/main/", os.O_PATH)
        os.kill(lease.pid, signal.SIGKILL)
        assert ended(lease.pid)
        assert reply_of(f"cat /proc/{os.getpid()}/fd/{inside}/etc/hostname") == "ring\n"
        assert (store / "run/service.sock").exists()
        with Service.ensure(store) as again:
            assert again.pid != lease.pid
            assert reply_of(f"ls {again.mountpoint}/branches") == "main\n"
            assert reply_of(f"cat /proc/{os.getpid()}/fd/{inside}/dir/f") == "f"
            assert len([mount for mount in mounting.mounts() if mount.point == os.fsencode(store / "run/mnt")]) == 1
            assert not ended(worker, 0)
            os.close(inside)
            assert ended(worker)


def test_all_of_it_killed_it_is_replaced_by_the_next_client(store: Path) -> None:
    with Service.ensure(store) as lease:
        workers = Service.status(store)["workers"]  # type: ignore[index]
        for pid in (lease.pid, *workers):
            os.kill(pid, signal.SIGKILL)
            assert ended(pid)
        assert "not connected" in reply_of(f"ls {lease.mountpoint} 2>&1")
        with Service.ensure(store) as again:
            assert reply_of(f"ls {again.mountpoint}/branches") == "main\n"
    assert len([mount for mount in mounting.mounts() if mount.point == os.fsencode(store / "run/mnt")]) == 1


def test_killed_while_it_starts_it_blocks_nobody(store: Path) -> None:
    """Whoever starts a service may die in the middle, and so may the service."""
    places = RunDirectory(store)
    with places.starting() as lock:
        child = subprocess.Popen(["sleep", "600"], pass_fds=(lock,))
    waiting = ThreadPoolExecutor(1)
    lease = waiting.submit(Service.ensure, store)
    assert not wait([lease], 0.2).done, "somebody seems to be starting one"
    child.kill()
    child.wait()
    lease.result(timeout=30).close()
    waiting.shutdown()


# -- the socket


def talk(store: Path, data: bytes) -> bytes:
    """What the service answers to bytes, until it hangs up or a line is complete."""
    connection = RunDirectory(store).connect()
    assert connection is not None
    with connection:
        connection.settimeout(20)
        connection.sendall(data)
        received = b""
        while not received.endswith(b"\n"):
            try:
                more = connection.recv(65536)
            except ConnectionResetError:
                return received
            if not more:
                return received
            received += more
        return received


def test_nonsense_on_the_socket_is_survived(store: Path) -> None:
    with Service.ensure(store) as lease:
        for line in (b"\n", b"garbage\n", b"[]\n", b"5\n", b'{"do": 7}\n', b'{"do": ["lease"]}\n', b"\xff\xfe\n"):
            answer = json.loads(talk(store, line))
            assert not answer["ok"]
        assert talk(store, b"x" * 100_000) == b"", "a line without end is hung up on"
        RunDirectory(store).connect().close()  # type: ignore[union-attr]
        assert json.loads(talk(store, b'{"do": "status"}\n'))["leases"] == 1
        assert not ended(lease.pid, 0)


def test_a_client_that_cannot_be_answered_is_told(store: Path) -> None:
    with Service.ensure(store) as lease:
        limits = resource.prlimit(lease.pid, resource.RLIMIT_NOFILE)
        taken = {int(number) for number in os.listdir(f"/proc/{lease.pid}/fd")}
        _, second, *_ = (number for number in range(len(taken) + 2) if number not in taken)
        resource.prlimit(lease.pid, resource.RLIMIT_NOFILE, (second, limits[1]))  # enough for the connection
        with pytest.raises(StoreError, match=r"the service cannot do what it is asked.*Too many open files"):
            Service.ensure(store)
        resource.prlimit(lease.pid, resource.RLIMIT_NOFILE, limits)
        Service.ensure(store).close()


def test_another_user_is_refused() -> None:
    """Even one who can reach the socket, which lies in a directory of mode 0700."""
    top = Path(tempfile.mkdtemp(dir="/tmp"))
    store = top / "store"
    try:
        with Store.create(store) as made:
            commit(made, {"f": b"f"})
        with Service.ensure(store):
            for path in (top, store, store / "run"):
                path.chmod(0o755)
            (store / "run/service.sock").chmod(0o666)
            assert _answer_to(4242, store / "run/service.sock") == b""
            assert b"true" in _answer_to(0, store / "run/service.sock")
    finally:
        Service.stop(store, force=True)
        until(lambda: not _pids(store))
        shutil.rmtree(top)


def _answer_to(uid: int, path: Path) -> bytes:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgid(uid)
            os.setuid(uid)
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(path))
            with contextlib.suppress(OSError):
                connection.sendall(b'{"do": "status"}\n')
                os.write(write, connection.recv(4096))
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read, "rb") as pipe:
        return pipe.read()


def test_a_long_log_is_put_aside(store: Path) -> None:
    (store / "run").mkdir(exist_ok=True)
    (store / "run/service.log").write_bytes(b"x" * (2 << 20))
    Service.ensure(store).close()
    assert (store / "run/service.log").stat().st_size < 1 << 16
    assert (store / "run/service.log.old").stat().st_size == 2 << 20
