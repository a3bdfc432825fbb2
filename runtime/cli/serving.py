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

from runtime.cli import client, preloading, rehearsal, takeover
from runtime.cli.preloading import Program
from runtime.cli.rehearsal import Range
from runtime.system import mounts
from runtime.system.likeness import likeness
from vcs.shortage import SHORTAGES

IDLE_SECONDS = 300.0
_UNUSED_SECONDS = 60.0
"""How long a server waits for its first command: as long as it lives, so does what it is in (mounts, a cgroup)."""
_LOOK_SECONDS = 5.0
"""How often a server looks whether its socket is still there."""
_BUSY_SECONDS = 0.1
"""How long the next child is put off for a command that has just begun, unless that ends or another client comes."""
_SHORT_SECONDS = 1.0
"""How long a child leaves its clients alone where there is no descriptor for one."""
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
        """The child that waits for the next client, so that no client waits for a fork; 0 for none."""
        self._fork_at = 0.0
        """When the next one is to be forked at the latest, by the monotonic clock."""
        self._rehearsal = {rehearsal.begin(path.parent, program)}
        """Where it is told what was learnt; nothing once it is."""
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
        end = time.monotonic() + _UNUSED_SECONDS
        self._fork()
        while not self._is_leaving and self._is_in_place() and time.monotonic() < end:
            ready = self._wait()
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._taken in ready:
                if os.read(self._taken, 1) == _OUTDATED:
                    break
                self._spare = 0
                self._fork_at = time.monotonic() + _BUSY_SECONDS
                end = time.monotonic() + IDLE_SECONDS
            for source in ready & self._rehearsal:
                self._learn(source)
            is_wanted = self._listener.fileno() in ready
            # Not at once, unless it is wanted: the command that has just begun needs the processors.
            if not self._spare and not self._is_leaving and (is_wanted or time.monotonic() >= self._fork_at):
                self._fork(at_once=is_wanted)
        if self._is_in_place():
            self._path.unlink(missing_ok=True)

    def _wait(self) -> set[int]:
        """Until something is to be done; the descriptors that can be read."""
        poll = select.poll()
        wanted = {self._taken, self._woken, *self._rehearsal}
        for fd in wanted if self._spare else {*wanted, self._listener.fileno()}:
            poll.register(fd, select.POLLIN)
        seconds = _LOOK_SECONDS if self._spare else max(0.0, self._fork_at - time.monotonic())
        return {fd for fd, _ in poll.poll(seconds * 1000)}

    def _is_in_place(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                if pid == self._spare:  # not at once, in case that it always ends
                    self._spare, self._fork_at = 0, time.monotonic() + _BUSY_SECONDS
                else:
                    self._fork_at = 0.0

    def _learn(self, source: int) -> None:
        data = os.read(source, 1 << 16)
        self._learnt += data
        if not data:
            self._hot = rehearsal.ranges(self._learnt)
            self._rehearsal.clear()
            os.close(source)

    def _fork(self, *, at_once: bool = False) -> None:
        """Fork a child that waits for a client; `at_once` if one is there."""
        self._spare = os.fork()
        if not self._spare:
            self._become_child(at_once)

    def _become_child(self, at_once: bool) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.close(self._life)
            mounts.set_process_name(b"treering-next")
            if not at_once:
                rehearsal.have(self._hot)
            known = takeover.Known(self._key, self._program, likeness(), self._tell_outdated)
            if client_of_ours := self._accept():
                code = takeover.serve(*client_of_ours, known)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _accept(self) -> tuple[socket.socket, int] | None:
        """Wait for a client of the same user: its connection and its process; None if the server has gone."""
        while self._is_alive(self._listener.fileno()):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                # Else the client has gone again. One for whom there is no descriptor stands there as before.
                if error.errno in SHORTAGES:
                    self._is_alive(seconds=_SHORT_SECONDS)
                continue
            pid, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            if uid == os.geteuid():
                os.write(self._tell, _TAKEN)
                return connection, pid
            connection.close()
        return None

    def _is_alive(self, *others: int, seconds: float | None = None) -> bool:
        """Wait until one of these can be read, the server has gone, or the time is up; whether there is a server."""
        poll = select.poll()
        for fd in (*others, self._alive):
            poll.register(fd, select.POLLIN)
        return self._alive not in dict(poll.poll(None if seconds is None else seconds * 1000))

    def _tell_outdated(self) -> None:
        os.write(self._tell, _OUTDATED)
