"""The process that looks after a store's quiet containers.

A supervisor that only waits has nothing to do that another could not do with it. So there is one such process for each
store, and it does two things:

    fork     supervisors of detached containers are forked from it, at a command's request, and not from the command
    watch    a supervisor whose container runs, and needs nothing else, hands over what it has and ends. The monitor
             logs what the container prints, and forks a supervisor again as soon as there is more to do: when somebody
             attaches, or the container has ended

It is a subreaper (prctl(2)), so a container whose supervisor has ended is its child, and it learns each exit code; it
tells a supervisor that it has forked later. It opens no store. When it is killed, containers go on, and the next
command that lists them has them taken over by another (`launch.adopt`).

A request is one message on STORE/run/monitor.sock (SOCK_SEQPACKET): a pickled Job with its descriptors. The answer is
`+` once there is a supervisor, or `-` if that cannot be like the process that asks, which then forks it itself.
"""

from __future__ import annotations

import fcntl
import gc
import heapq
import os
import pickle
import resource
import select
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from runtime.engine import exit_code
from runtime.profiles import Recording
from runtime.state import Exited, Process, load_run, save_exit, save_run
from runtime.supervision.attachments import Door, Peer, knock
from runtime.supervision.duties import NOTE_SECONDS, note
from runtime.supervision.job import Job
from runtime.supervision.sleeping import Channel, Sleeper, Status
from runtime.system import mounts
from runtime.system.aside import aside
from runtime.system.descriptors import close_all_but
from runtime.system.likeness import become_like

SOCKET, LOCK, LOG = "monitor.sock", "monitor.lock", "monitor.log"
IDLE_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_MESSAGE_MAX = 1 << 20
_DESCRIPTORS_MAX = 16
_PEER = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""

_NOBODY = Process(0, 0)
"""No process has this pid."""

Supervise = Callable[[Job, Channel | None, Sleeper | None], NoReturn]


# -- from the side of a command


def request(run_directory: Path, job: Job) -> bool | None:
    """Have the monitor fork a supervisor for a detached container; False if it cannot, or is slow, None if there is
    none."""
    recording = job.recording.describe(job.keep) if job.recording else None
    fds = [*([job.control.fileno()] if job.control else []), *job.keep]
    plain = replace(job, control=None, keep=(), output=None, recording=None)
    words = pickle.dumps((plain, bool(job.control), len(job.keep), recording))
    try:
        peer = knock(run_directory, SOCKET)
    except OSError:
        return None
    try:
        return peer.ask(words, fds, _ANSWER_SECONDS) == b"+"
    finally:
        peer.close()


def start(run_directory: Path, supervise: Supervise) -> None:
    """Start a monitor, unless there is one, or somebody else just starts it. It is forked from this process."""
    lock = os.open(run_directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return
    ready, told = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        try:
            if not os.fork():
                _become(run_directory, lock, told, supervise)
        finally:
            os._exit(0)
    os.close(told)
    os.close(lock)
    os.waitpid(child, 0)
    os.read(ready, 1)  # end of file, too, if it could not
    os.close(ready)


def _become(run_directory: Path, lock: int, told: int, supervise: Supervise) -> None:
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(run_directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number, fd in enumerate((null, log, log)):
        os.dup2(fd, number)
    close_all_but({0, 1, 2, lock, told})
    mounts.become_subreaper()
    mounts.set_process_name(b"treering-watch")
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.collect()
    gc.disable()
    gc.freeze()
    door = Door(run_directory, SOCKET)
    os.close(told)
    try:
        Monitor(door, supervise).run()
    except BaseException:
        traceback.print_exc()


# -- the monitor's process


class Monitor:
    """All quiet containers of a store."""

    def __init__(self, door: Door, supervise: Supervise) -> None:
        self._door = door
        self._supervise = supervise
        me = Process.of(os.getpid())
        assert me is not None
        self._me = me
        self._poll = select.epoll()
        self._sleepers: dict[int, Sleeper] = {}
        """By the pid of init."""
        self._recording: list[tuple[float, int]] = []
        """When recordings of starts are to be finished, by the monotonic clock, and of whom; a heap."""
        self._owners: dict[int, Sleeper] = {}
        """By descriptor."""
        self._requests: dict[int, Peer] = {}
        """Who has connected and not said yet what he wants, by descriptor."""
        self._channels: dict[int, Channel] = {}
        """To the supervisors that we have forked, by descriptor."""
        self._watched: dict[int, Channel] = {}
        """To the supervisors of containers that are our children, by the pid of init."""
        self._woken_up: dict[int, tuple[Sleeper, Status | None]] = {}
        """What was left to the supervisors that we have forked for sleepers, by the channel's descriptor."""
        self._forsaken: dict[int, Sleeper] = {}
        """Those that such a supervisor was killed with, by the pid of init. The one before it may be init's parent for
        a moment more, so that we are told only then how init ended."""
        self._note_at = time.monotonic() + NOTE_SECONDS
        self._woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for fd in (self._woken, door.fileno()):
            self._poll.register(fd, select.EPOLLIN)

    def run(self) -> None:
        """Serve until there has been no container for a while."""
        idle_since = time.monotonic()
        while True:
            # One at a time: what is done for one may close the descriptor of another, and its number be used again.
            for fd, _ in self._poll.poll(self._until_due(), 1):
                self._serve(fd)
            self._do_what_is_due()
            now = time.monotonic()
            if self._sleepers or self._channels:
                idle_since = now
            elif now - idle_since > IDLE_SECONDS:
                self._door.close()
                return

    def _until_due(self) -> float:
        now = time.monotonic()
        recording = self._recording[0][0] if self._recording else now + _LOOK_SECONDS
        return max(0.0, min(self._note_at, recording, now + _LOOK_SECONDS) - now)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        while self._recording and self._recording[0][0] <= now:
            sleeper = self._sleepers.get(heapq.heappop(self._recording)[1])
            if sleeper and sleeper.job.recording and not sleeper.job.recording.remaining:
                aside(sleeper.take_due())
        if self._note_at <= now:
            self._note_at = now + NOTE_SECONDS
            if self._sleepers:
                aside(partial(note, [sleeper.job.paths.directory for sleeper in self._sleepers.values()]))

    def _serve(self, fd: int) -> None:
        if fd == self._woken:
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)
            self._reap()
        elif fd == self._door.fileno():
            if peer := self._door.accept():
                self._requests[peer.fileno()] = peer
                self._poll.register(peer.fileno(), select.EPOLLIN)
        elif peer := self._requests.pop(fd, None):
            self._poll.unregister(fd)
            self._fork_for(peer)
        elif fd in self._channels:
            self._hear(self._channels[fd])
        elif sleeper := self._owners.get(fd):
            if fd == sleeper.init:
                self._reap()  # of a container that another monitor had before us, we are not told how it ended
                if self._owners.get(fd) is sleeper:
                    self._wake(sleeper, None, None)
            elif fd == sleeper.door.fileno():
                if knocking := sleeper.door.accept():
                    self._wake(sleeper, knocking, None)
            else:
                # It may be closed now. While a child that was just forked has it open too, an epoll goes on telling
                # of it (epoll(7)), by a number that may be another's by then.
                self._poll.unregister(fd)
                del sleeper.polled[fd], self._owners[fd]
                sleeper.stdio.ready([fd])
                self._look_again(sleeper)

    # -- requests

    def _fork_for(self, peer: Peer) -> None:
        words, fds = peer.take(_MESSAGE_MAX, _DESCRIPTORS_MAX)
        try:
            if words:
                job = _received(words, fds)
                pid = _PEER.unpack(peer.option(socket.SO_PEERCRED, _PEER.size))[0]
                control = {job.control.fileno()} if job.control else set()
                self._fork(lambda channel: self._begin(job, channel, peer, pid), {peer.fileno(), *fds, *control})
                if job.control:
                    job.control.close()
        except (pickle.UnpicklingError, AttributeError, TypeError, ValueError):
            peer.send_bytes(b"-")  # of another version
        finally:
            for fd in fds:
                with suppress(OSError):
                    os.close(fd)
            peer.close()

    def _begin(self, job: Job, channel: Channel, peer: Peer, pid: int) -> None:
        if not become_like(pid, cgroup=False):
            peer.send_bytes(b"-")
            return
        if not peer.send_bytes(b"+"):
            return  # it has given us up, and forked another
        if job.adopted and job.adopted.init:
            channel.send({"adopts": job.adopted.init.pid})
        self._supervise(job, channel, None)

    def _fork(self, then: Callable[[Channel], None], keep: set[int]) -> Channel:
        ours, theirs = Channel.pair()
        if not os.fork():
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                close_all_but({0, 1, 2, theirs.fileno(), *keep})
                then(theirs)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        theirs.close()
        self._channels[ours.fileno()] = ours
        self._poll.register(ours.fileno(), select.EPOLLIN)
        return ours

    # -- supervisors

    def _hear(self, channel: Channel) -> None:
        if not channel.has_news():
            return  # nothing may hold us up
        message = channel.receive()
        if message is None:
            self._poll.unregister(channel.fileno())
            del self._channels[channel.fileno()]
            self._see_after(*self._woken_up.pop(channel.fileno(), (None, None)))
            self._watched = {pid: other for pid, other in self._watched.items() if other is not channel}
            channel.close()
        elif "adopts" in message.fields:
            self._watched[message.fields["adopts"]] = channel
        else:
            sleeper = Sleeper.received(message)
            run = replace(sleeper.run, supervisor=self._me)
            save_run(sleeper.job.paths.directory, run)
            sleeper.run = run
            assert run.init is not None
            self._sleepers[run.init.pid] = sleeper
            if sleeper.job.recording:
                heapq.heappush(self._recording, (sleeper.due, run.init.pid))
            self._look_again(sleeper)
            channel.send({"sleep": True})

    def _look_again(self, sleeper: Sleeper) -> None:
        """Poll for what a sleeper waits for now."""
        wanted = dict.fromkeys((sleeper.door.fileno(), sleeper.init), select.EPOLLIN) | sleeper.stdio.interests()
        for fd in sleeper.polled.keys() - wanted.keys():
            self._poll.unregister(fd)
            del self._owners[fd]
        for fd, events in wanted.items():
            if fd not in sleeper.polled:
                self._poll.register(fd, events)
                self._owners[fd] = sleeper
        sleeper.polled = wanted

    def _wake(self, sleeper: Sleeper, knocking: Peer | None, status: Status | None) -> None:
        """Fork a supervisor for a container that needs one."""
        assert sleeper.run.init is not None
        del self._sleepers[sleeper.run.init.pid]
        for fd in sleeper.polled:
            self._poll.unregister(fd)
            del self._owners[fd]
        sleeper.status = status
        sleeper.knocking = knocking
        fds = sleeper.fds | ({knocking.fileno()} if knocking else set())
        channel = self._fork(lambda channel: self._supervise(sleeper.job, channel, sleeper), fds)
        self._woken_up[channel.fileno()] = sleeper, status
        if status is None:
            self._watched[sleeper.run.init.pid] = channel
        sleeper.let_go()
        if knocking:
            knocking.close()

    def _see_after(self, sleeper: Sleeper | None, status: Status | None) -> None:
        """A supervisor has ended. If it was killed before it had taken a sleeper over, nobody has that: say so, and how
        the container has ended if it has."""
        directory = sleeper.job.paths.directory if sleeper else None
        run = load_run(directory) if directory else None
        if not sleeper or not directory or not run or run.run != sleeper.run.run or run.supervisor != self._me:
            return
        with suppress(OSError):
            if status is not None:
                _save_end(sleeper, status)
            elif run.init:
                self._forsaken[run.init.pid] = sleeper
            save_run(directory, replace(run, supervisor=_NOBODY))

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if not pid:
                    return
                ended = Status(status, used.ru_utime, used.ru_stime, used.ru_inblock, used.ru_oublock)
                forsaken = self._forsaken.pop(pid, None)
                if sleeper := self._sleepers.get(pid):
                    self._wake(sleeper, None, ended)
                elif channel := self._watched.pop(pid, None):
                    channel.send({"status": ended})
                    if woken := self._woken_up.get(channel.fileno()):
                        self._woken_up[channel.fileno()] = woken[0], ended  # it may be dead already
                elif forsaken:
                    with suppress(OSError):
                        run = load_run(forsaken.job.paths.directory)
                        if run and run.run == forsaken.run.run and run.supervisor == _NOBODY:
                            _save_end(forsaken, ended)


def _save_end(sleeper: Sleeper, status: Status) -> None:
    end = Exited(exit_code(status.status), ended=time.time())
    save_exit(sleeper.job.paths.directory, sleeper.run, end)


def _received(words: bytes, fds: list[int]) -> Job:
    plain, has_control, kept, recording = pickle.loads(words)  # from a process of the same user, on a private socket
    control = Peer(socket.socket(fileno=os.dup(fds[0]))) if has_control else None
    keep = tuple(fds[has_control : has_control + kept])
    found = Recording.restore(recording, keep) if recording else None
    made: Job = replace(plain, control=control, keep=keep, recording=found)
    return made
