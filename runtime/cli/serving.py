"""The fork server's own process: it has everything imported, and forks a child for each command line.

It does nothing but fork: one child at a time waits for the next client, and then reads what that sends
(runtime.cli.takeover), while another takes its place. The server holds no store, no database and no thread, so its
children begin as if they had just imported everything. It ends after some minutes without a command; its children live
on, but for the one that waits.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import time
import traceback
from pathlib import Path
from typing import NoReturn

from runtime import mounts
from runtime.cli import client, preloading, rehearsal, takeover
from runtime.cli.preloading import Program
from runtime.cli.rehearsal import Range

IDLE_SECONDS = 300.0
_UNUSED_SECONDS = 60.0
"""How long a server waits for its first command: as long as it lives, so does what it is in (mounts, a cgroup)."""
_LOOK_SECONDS = 5.0
"""How often a server looks whether its socket is still there."""
_BUSY_SECONDS = 0.1
"""How long a child waits at most, before it makes itself ready, for the end of the command that was there first."""
_TAKEN, _OUTDATED = b"+", b"-"
_PEER = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""


def main(lock: int) -> None:
    """Serve until nobody comes any more. `lock` is the descriptor that holds the lock."""
    os.chdir("/")
    os.set_inheritable(lock, False)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    key = client.surroundings()
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
        self._warm, self._warmer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        """Where that child is told that it can make itself ready."""
        self._rehearsal = rehearsal.begin(path.parent, program)
        self._learnt = b""
        self._hot: list[Range] = []
        """Of our memory, what a command writes to."""
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, _: object) -> None:
        self._is_leaving |= number == signal.SIGTERM

    def run(self) -> None:
        """Have a child ready until it is told to leave, nobody has come for long, or another has the socket's
        place."""
        poll = select.poll()
        for fd in (self._taken, self._woken, self._rehearsal):
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
            if self._rehearsal in ready:
                self._learn(poll)
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
                with contextlib.suppress(BlockingIOError):
                    os.write(self._warmer, b"+")

    def _learn(self, poll: select.poll) -> None:
        data = os.read(self._rehearsal, 1 << 16)
        self._learnt += data
        if not data:
            self._hot = rehearsal.ranges(self._learnt)
            poll.unregister(self._rehearsal)
            os.close(self._rehearsal)

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
            if client_of_ours := self._accept():
                code = takeover.serve(*client_of_ours, self._key, self._program, self._tell_outdated)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _accept(self) -> tuple[socket.socket, int] | None:
        """Wait for a client of the same user: its connection and its process; None if the server has gone."""
        poll = select.poll()
        is_ready = not self._hot
        for fd in (self._listener.fileno(), self._alive, *([] if is_ready else [self._warm])):
            poll.register(fd, select.POLLIN)
        while True:
            events = dict(poll.poll(None if is_ready else _BUSY_SECONDS * 1000))
            if self._alive in events:
                return None
            if self._listener.fileno() not in events:
                self._get_ready()
                poll.unregister(self._warm)
                is_ready = True
                continue
            try:
                connection, _ = self._listener.accept()
            except OSError:
                continue  # it has gone again
            pid, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            if uid == os.geteuid():
                os.write(self._tell, _TAKEN)
                return connection, pid
            connection.close()

    def _get_ready(self) -> None:
        """Have what a command is going to write to. Not at once: the command before has the processors."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._warm, 4096)
        rehearsal.have(self._hot)

    def _tell_outdated(self) -> None:
        os.write(self._tell, _OUTDATED)
