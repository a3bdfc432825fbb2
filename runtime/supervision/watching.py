"""The monitor's own process: what it does for a store's quiet containers (`monitor` has the rest of it).

Many depend on it, so it goes on whatever fails. What it cannot do for want of a process, a descriptor or room on the
disk it tries again each second, or leaves to who asks: a container that it cannot take stays with its supervisor. What
fails with a descriptor rests for a second (`polling`), and what is a bug is logged once (`failures`).
"""

from __future__ import annotations

import errno
import heapq
import os
import resource
import select
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NoReturn

from runtime.state import Process, save_run
from runtime.supervision.attachments import Door, Peer, Reserve
from runtime.supervision.duties import NOTE_SECONDS, note
from runtime.supervision.failures import Failures
from runtime.supervision.forsaken import Forsaken
from runtime.supervision.job import Job
from runtime.supervision.polling import Poll
from runtime.supervision.requests import OF_ANOTHER_VERSION, unpacked
from runtime.supervision.sleeping import Channel, Message, Sleeper, Status
from runtime.system.aside import aside
from runtime.system.descriptors import close_all_but
from runtime.system.likeness import become_like

IDLE_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 1.0
"""How soon what has failed is tried again."""
_MESSAGE_MAX = 1 << 20
_DESCRIPTORS_MAX = 16
_SPARE_DESCRIPTORS = 32
"""So many are left when containers are taken, for requests, and for the supervisors of those that are there already."""
_PEER = struct.Struct("3i")
"""struct ucred: pid, uid, gid (unix(7))."""

Supervise = Callable[[Job, Channel | None, Sleeper | None], NoReturn]


class Monitor:
    """All quiet containers of a store."""

    def __init__(self, door: Door, supervise: Supervise) -> None:
        self._door = door
        self._supervise = supervise
        me = Process.of(os.getpid())
        assert me is not None
        self._me = me
        self._poll = Poll()
        self._failures = Failures(door.directory)
        self._reserve = Reserve()
        """For the doors of all containers."""
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
        self._forsaken = Forsaken(me)
        """Those that such a supervisor was killed with."""
        self._late: dict[int, Sleeper] = {}
        """Containers that have ended, and no supervisor could be forked for, by the pid of init."""
        self._again_at = 0.0
        """When what has failed is tried again, by the monotonic clock."""
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
                if not self._failures.survived(partial(self._serve, fd)):
                    self._poll.rest(fd)
            self._failures.survived(self._do_what_is_due)
            now = time.monotonic()
            if self._is_needed():
                idle_since = now
            elif now - idle_since > IDLE_SECONDS:
                self._door.close()
                return

    def _is_needed(self) -> bool:
        return bool(self._sleepers or self._channels or self._late or self._forsaken.due())

    def _until_due(self) -> float:
        now = time.monotonic()
        recording = self._recording[0][0] if self._recording else now + _LOOK_SECONDS
        return max(0.0, min(self._note_at, recording, now + _LOOK_SECONDS) - now)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._again_at <= now:
            self._again_at = now + _AGAIN_SECONDS
            self._try_again()
        while self._recording and self._recording[0][0] <= now:
            pid = heapq.heappop(self._recording)[1]
            if (sleeper := self._sleepers.get(pid)) and not self._failures.survived(partial(_record, sleeper)):
                heapq.heappush(self._recording, (now + _AGAIN_SECONDS, pid))
        if self._note_at <= now:
            self._note_at = now + NOTE_SECONDS
            if self._sleepers:
                directories = [sleeper.job.paths.directory for sleeper in self._sleepers.values()]
                self._failures.survived(lambda: aside(partial(note, directories), keep=()))

    def _try_again(self) -> None:
        for attempt in self._forsaken.due():
            self._failures.survived(attempt)
        for pid, sleeper in [*self._late.items()]:
            self._wake(sleeper, None, sleeper.status)
            if pid in self._late:
                return  # nor can one be forked for the others

    def _serve(self, fd: int) -> None:
        if fd == self._woken:
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)
            self._reap()
        elif fd == self._door.fileno():
            if peer := self._door.accept():
                self._poll.register(peer.fileno(), select.EPOLLIN)
                self._requests[peer.fileno()] = peer
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
                try:
                    sleeper.stdio.ready([fd])
                finally:
                    self._look_again(sleeper)

    # -- requests

    def _fork_for(self, peer: Peer) -> None:
        fds: list[int] = []
        try:
            words, fds = peer.take(_MESSAGE_MAX, _DESCRIPTORS_MAX)
            if words:
                self._fork_as(words, fds, peer)
        except Exception as error:
            if not isinstance(error, OF_ANOTHER_VERSION):
                self._failures.note(error)
            peer.send_bytes(b"-")
        finally:
            for fd in fds:
                with suppress(OSError):
                    os.close(fd)
            peer.close()

    def _fork_as(self, words: bytes, fds: list[int], peer: Peer) -> None:
        job = unpacked(words, fds)
        control = {job.control.fileno()} if job.control else set()
        try:
            pid = _PEER.unpack(peer.option(socket.SO_PEERCRED, _PEER.size))[0]
            self._fork(lambda channel: self._begin(job, channel, peer, pid), {peer.fileno(), *fds, *control})
        finally:
            if job.control:
                job.control.close()

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
        self._poll.register(ours.fileno(), select.EPOLLIN)
        self._channels[ours.fileno()] = ours
        try:
            child = os.fork()
        except BaseException:
            self._forget(ours)
            theirs.close()
            raise
        if not child:
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
        return ours

    def _forget(self, channel: Channel) -> None:
        self._poll.unregister(channel.fileno())
        del self._channels[channel.fileno()]
        channel.close()

    # -- supervisors

    def _hear(self, channel: Channel) -> None:
        if not channel.has_news():
            return  # nothing may hold us up
        try:
            message = channel.receive()
        except OSError:  # no room for its descriptors: it wanted to leave a container to us
            channel.send({"sleep": False})
            return
        if message is None:
            self._lose(channel)
        elif "adopts" in message.fields:
            self._watched[message.fields["adopts"]] = channel
        else:
            channel.send({"sleep": self._take(message)})

    def _lose(self, channel: Channel) -> None:
        """A supervisor has ended, and perhaps left a container to nobody."""
        left, status = self._woken_up.pop(channel.fileno(), (None, None))
        self._watched = {pid: other for pid, other in self._watched.items() if other is not channel}
        self._forget(channel)
        if left:
            self._forsaken.leave(left, status)

    def _take(self, message: Message) -> bool:
        """Take a container over from its supervisor; False if that must keep it."""
        sleeper: Sleeper | None = None
        try:
            if max(message.fds, default=0) + _SPARE_DESCRIPTORS > resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            sleeper = Sleeper.received(message, self._reserve)
            self._look_again(sleeper)
            sleeper.run = replace(sleeper.run, supervisor=self._me)
            save_run(sleeper.job.paths.directory, sleeper.run)  # at last: from then on it is ours
        except Exception as error:
            self._failures.note(error)
            self._give_back(message, sleeper)
            return False
        assert sleeper.run.init is not None
        self._forsaken.forget(sleeper.run)
        self._sleepers[sleeper.run.init.pid] = sleeper
        if sleeper.job.recording:
            heapq.heappush(self._recording, (sleeper.due, sleeper.run.init.pid))
        return True

    def _give_back(self, message: Message, sleeper: Sleeper | None) -> None:
        if sleeper:
            self._look_away(sleeper)
            sleeper.let_go()
            return
        for fd in message.fds:
            with suppress(OSError):
                os.close(fd)

    def _look_again(self, sleeper: Sleeper) -> None:
        """Poll for what a sleeper waits for now."""
        wanted = dict.fromkeys((sleeper.door.fileno(), sleeper.init), select.EPOLLIN) | sleeper.stdio.interests()
        self._look_away(sleeper, but=wanted)
        for fd, events in wanted.items():
            if fd not in sleeper.polled:
                self._poll.register(fd, events)
                self._owners[fd], sleeper.polled[fd] = sleeper, events

    def _look_away(self, sleeper: Sleeper, but: Container[int] = ()) -> None:
        for fd in [fd for fd in sleeper.polled if fd not in but]:
            self._poll.unregister(fd)
            del self._owners[fd], sleeper.polled[fd]

    def _wake(self, sleeper: Sleeper, knocking: Peer | None, status: Status | None) -> None:
        """Fork a supervisor for a container that needs one: somebody knocks, or it has ended."""
        assert sleeper.run.init is not None
        sleeper.status, sleeper.knocking = status, knocking
        fds = sleeper.fds | ({knocking.fileno()} if knocking else set())
        try:
            channel = self._fork(lambda channel: self._supervise(sleeper.job, channel, sleeper), fds)
        except Exception as error:
            self._failures.note(error)
            self._put_off(sleeper, error)
            return
        self._let_sleep_no_more(sleeper)
        self._woken_up[channel.fileno()] = sleeper, status
        if status is None:
            self._watched[sleeper.run.init.pid] = channel
        sleeper.let_go()
        if knocking:
            knocking.close()

    def _put_off(self, sleeper: Sleeper, error: Exception) -> None:
        """No supervisor could be forked. Who knocks can do so again; what has ended is kept."""
        assert sleeper.run.init is not None
        if sleeper.knocking:
            sleeper.knocking.refuse(f"no supervisor could be forked: {error}")
            sleeper.knocking = None
        else:
            self._let_sleep_no_more(sleeper)
            self._late[sleeper.run.init.pid] = sleeper

    def _let_sleep_no_more(self, sleeper: Sleeper) -> None:
        assert sleeper.run.init is not None
        self._sleepers.pop(sleeper.run.init.pid, None)
        self._late.pop(sleeper.run.init.pid, None)
        self._look_away(sleeper)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if not pid:
                    return
                ended = Status(status, used.ru_utime, used.ru_stime, used.ru_inblock, used.ru_oublock)
                self._failures.survived(partial(self._hear_of_end, pid, ended))

    def _hear_of_end(self, pid: int, ended: Status) -> None:
        if sleeper := self._sleepers.get(pid):
            self._wake(sleeper, None, ended)
        elif channel := self._watched.pop(pid, None):
            channel.send({"status": ended})
            if woken := self._woken_up.get(channel.fileno()):
                self._woken_up[channel.fileno()] = woken[0], ended  # it may be dead already
        else:
            self._forsaken.reaped(pid, ended)


def _record(sleeper: Sleeper) -> None:
    """Have the recording of a start finished, if it is time."""
    if sleeper.job.recording and not sleeper.job.recording.remaining:
        aside(sleeper.job.recording.finish, sleeper.job.recording.fds)
        sleeper.forget_recording()
