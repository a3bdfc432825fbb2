"""The fork server: a process that has everything imported, and forks a child for each command line.

It does nothing but fork: one child at a time waits for the next client, and then reads what that sends
(runtime.cli.takeover), while another takes its place. The server holds no store, no database and no thread, so its
children begin as if they had just imported everything. It ends after some minutes without a command; its children live
on, but for the one that waits.

In the run directory (runtime.cli.client.run_directory), which is its owner's alone, it has

    fork-NAME.sock    where it is asked; NAME is made of its surroundings (runtime.cli.client.surroundings)
    fork-NAME.lock    flocked as long as it lives, by it or by who is just starting it; has its process id
    fork-NAME.log     what went wrong, if anything did
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import posix
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runtime.cli import client

if TYPE_CHECKING:
    from runtime.cli.preloading import Program

IDLE_SECONDS = 300.0
_UNUSED_SECONDS = 60.0
"""How long a server waits for its first command: as long as it lives, so does what it is in (mounts, a cgroup)."""
_LOOK_SECONDS = 5.0
"""How often a server looks whether its socket is still there."""
_SECONDS_TO_END = 5.0
_TAKEN, _OUTDATED = b"+", b"-"
_PEER = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""

_PROGRAM = """
import os, sys
os.closerange(3, int(sys.argv[2]))
os.closerange(int(sys.argv[2]) + 1, 1 << 30)
sys.path.insert(0, sys.argv[1])
from runtime.cli.forkserver import main
main(int(sys.argv[2]))
"""


def start() -> None:
    """Start a server, unless one is being started or there. Waits for nothing and says nothing: without it, commands
    only take longer."""
    with contextlib.suppress(OSError):
        directory = Path(client.run_directory())
        directory.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(directory):
            return
        lock = _lock(directory / f"{client.name_of(client.surroundings())}.lock")
        if lock is None:
            return
        os.ftruncate(lock, 0)
        os.set_inheritable(lock, True)
        log = str(directory / f"{client.name_of(client.surroundings())}.log")
        package = str(Path(__file__).resolve().parent.parent.parent)
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-c", _PROGRAM, package, str(lock)],
            _environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=[number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)],
        )


def running() -> Iterator[int]:
    """The process ids of this user's servers."""
    for lock in sorted(Path(client.run_directory()).glob("fork-*.lock")):
        with contextlib.suppress(OSError, ValueError):
            fd = _lock(lock)
            if fd is None:
                yield int(lock.read_text())
            else:
                os.close(fd)


def stop() -> None:
    """End this user's servers; what they have begun goes on. Waits until they are gone, for some seconds."""
    for pid in running():
        with contextlib.suppress(OSError):
            process = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(process, signal.SIGTERM)
                select.select([process], [], [], _SECONDS_TO_END)
            finally:
                os.close(process)


def _is_private(directory: Path) -> bool:
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return client.is_private(fd)
    finally:
        os.close(fd)


def _lock(path: Path) -> int | None:
    """A descriptor that holds a server's lock; None if there is a server. OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _environment() -> dict[bytes, bytes]:
    """Of our variables, those that a server shares with its clients: no other ever stays in one."""
    return {
        name: value
        for name, value in posix.environ.items()
        if client.matters(name) or name == b"XDG_RUNTIME_DIR"
    }  # fmt: skip


# -- the server's process


def main(lock: int) -> None:
    """Serve until nobody comes any more. `lock` is the descriptor that holds the lock."""
    os.chdir("/")
    os.set_inheritable(lock, False)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    key = client.surroundings()
    from runtime import mounts
    from runtime.cli import preloading

    mounts.set_process_name(b"treering-fork")
    program = preloading.load()
    gc.collect()
    gc.disable()
    gc.freeze()
    path = Path(client.run_directory()) / f"{client.name_of(key)}.sock"
    with _listen(path) as listener:
        _Server(listener, path, key, program).run()
    os._exit(0)  # at once: as long as it lives, so does its lock, and nobody can start another


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # Reached through the directory's descriptor: a path may be longer than bind(2) takes.
    listener.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)
    os.chmod(path, 0o600)
    listener.listen(128)
    listener.setblocking(False)
    return listener


class _Server:
    def __init__(self, listener: socket.socket, path: Path, key: bytes, program: Program) -> None:
        self._listener = listener
        self._path = path
        self._inode = path.stat().st_ino
        self._key = key
        self._program = program
        self._is_leaving = False
        self._woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker)
        self._alive, self._life = os.pipe2(os.O_CLOEXEC)
        """Whose reading end is at its end when the server has gone."""
        self._taken, self._tell = os.pipe2(os.O_CLOEXEC)
        """Where a child says that it has a client, or that the program is another by now."""
        self._spare = 0
        """The child that waits for the next client, so that no client waits for a fork."""
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, _: object) -> None:
        self._is_leaving |= number == signal.SIGTERM

    def run(self) -> None:
        """Have a child ready until it is told to leave, nobody has come for long, or another has the socket's
        place."""
        poll = select.poll()
        for fd in (self._taken, self._woken):
            poll.register(fd, select.POLLIN)
        end = time.monotonic() + _UNUSED_SECONDS
        self._fork()
        while not self._is_leaving and self._is_in_place() and time.monotonic() < end:
            ready = dict(poll.poll(_LOOK_SECONDS * 1000))
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._taken in ready:
                if os.read(self._taken, 1) == _OUTDATED:
                    break
                self._spare = 0
                end = time.monotonic() + IDLE_SECONDS
            if not self._spare and not self._is_leaving:
                self._fork()
        if self._is_in_place():
            self._path.unlink(missing_ok=True)

    def _is_in_place(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                if pid == self._spare:
                    self._spare = 0

    def _fork(self) -> None:
        self._spare = os.fork()
        if not self._spare:
            self._become_child()

    def _become_child(self) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.close(self._life)
            from runtime.cli import takeover

            if client_of_ours := self._accept():
                code = takeover.serve(*client_of_ours, self._key, self._program, self._tell_outdated)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _accept(self) -> tuple[socket.socket, int] | None:
        """Wait for a client of the same user: its connection and its process; None if the server has gone."""
        poll = select.poll()
        for fd in (self._listener.fileno(), self._alive):
            poll.register(fd, select.POLLIN)
        while True:
            if self._alive in dict(poll.poll()):
                return None
            try:
                connection, _ = self._listener.accept()
            except OSError:
                continue  # it has gone again
            pid, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            if uid == os.geteuid():
                os.write(self._tell, _TAKEN)
                return connection, pid
            connection.close()

    def _tell_outdated(self) -> None:
        os.write(self._tell, _OUTDATED)
