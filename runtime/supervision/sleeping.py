"""What a supervisor hands over to the monitor when it has nothing to do but wait, and gets back to go on."""

from __future__ import annotations

import os
import pickle
import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from runtime.log import LogWriter
from runtime.profiles import Recording
from runtime.state import Run
from runtime.supervision.attachments import Door, Peer, Reserve, check_whole
from runtime.supervision.job import Job
from runtime.supervision.stdio import Stdio, StdioState

_MESSAGE_MAX = 1 << 20
_DESCRIPTORS_MAX = 32


class Status(NamedTuple):
    """How a process ended, and what it and those it waited for have used (getrusage(2))."""

    status: int
    user_seconds: float
    system_seconds: float
    blocks_in: int
    blocks_out: int


@dataclass(frozen=True, slots=True)
class Message:
    """One message, with its descriptors."""

    fields: dict[str, Any]
    fds: list[int]


class Channel:
    """A connection between the monitor and a supervisor that it has forked; messages are pickled."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        return self._connection.fileno()

    def send(self, fields: dict[str, Any], *fds: int) -> bool:
        """Send a message; False if the other has gone, or it is more than a message can have."""
        try:
            socket.send_fds(self._connection, [pickle.dumps(fields)], fds)
        except OSError:
            return False
        return True

    def has_news(self, seconds: float = 0.0) -> bool:
        """Whether there is a message, or the other has gone. Waits so long for it."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def receive(self, seconds: float | None = None) -> Message | None:
        """The next message; None if the other has gone, or nothing came in time. OSError if there is no room for its
        descriptors."""
        if seconds is not None and not self.has_news(seconds):
            return None
        try:
            data, fds, flags, _ = socket.recv_fds(self._connection, _MESSAGE_MAX, _DESCRIPTORS_MAX)
        except OSError:
            return None
        check_whole(fds, flags)
        return Message(pickle.loads(data), fds) if data else None

    def close(self) -> None:
        self._connection.close()


class Sleeper:
    """A container that runs and needs nothing, in the monitor's care."""

    def __init__(self, job: Job, run: Run, init: int, stdio: Stdio, reserve: Reserve | None = None) -> None:
        self.job = job
        self.run = run
        self.stdio = stdio
        self.door = Door(job.paths.directory, reserve=reserve)
        self.init = init
        """A pidfd of its first process."""
        self.polled: dict[int, int] = {}
        self.status: Status | None = None
        """How init ended, if it has."""
        self.knocking: Peer | None = None
        """Who wants to attach."""

    @property
    def fds(self) -> set[int]:
        """All descriptors that it has."""
        recording = self.job.recording.fds if self.job.recording else set()
        return {self.init, *self.job.keep, *self.stdio.fds, *recording}

    @property
    def due(self) -> float:
        """When the recording of its start is to be finished, by the monotonic clock; now, if that is done."""
        left = self.job.recording.remaining if self.job.recording else None
        return time.monotonic() + (left or 0.0)

    def forget_recording(self) -> None:
        """Another process finishes it. What it has of its own is closed."""
        self.job = replace(self.job, recording=None)

    def let_go(self) -> None:
        """Close everything: another process has it now."""
        self.door.close(keep_name=True)
        self.forget_recording()
        for fd in self.fds:
            with suppress(OSError):
                os.close(fd)

    @classmethod
    def received(cls, message: Message, reserve: Reserve | None = None) -> Sleeper:
        """What a supervisor has handed over. If that fails, the message's descriptors are still the caller's."""
        fields, fds = message.fields, message.fds
        job: Job = fields["job"]
        init, *fds = fds
        keep = tuple(fds[: fields["keep"]])
        state: StdioState = fields["stdio"]
        recording = Recording.restore(fields["recording"], keep) if fields["recording"] else None
        stdio = Stdio.restored(state, fds[len(keep) :], log_of(job))
        return cls(replace(job, keep=keep, recording=recording), fields["run"], init, stdio, reserve)


def log_of(job: Job) -> LogWriter | None:
    """Where what a container prints is kept, if it is."""
    return LogWriter(job.paths.directory, job.orders.log) if job.orders and job.orders.log else None


def go_to_sleep(channel: Channel, job: Job, run: Run, init: int, stdio: Stdio) -> bool:
    """Hand a container, of whose first process `init` is a pidfd, over to the monitor. True once it has it, and this
    process must end; False if it stays ours."""
    state, fds = stdio.state()
    fields = {
        "job": replace(job, control=None, keep=(), output=None, recording=None),
        "keep": len(job.keep),
        "recording": job.recording.describe(job.keep) if job.recording else None,
        "run": run,
        "stdio": state,
    }
    if not channel.send(fields, init, *job.keep, *fds):
        return False
    answer = channel.receive()
    return answer is not None and bool(answer.fields.get("sleep"))
