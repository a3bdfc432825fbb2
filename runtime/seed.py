"""A process from which supervisors are forked, while it has next to nothing of its own.

A supervisor keeps all the memory that its parent had to itself: one that is forked by a command which has opened a
store and resolved a revision has megabytes that it never looks at again. A process that a fork server has just made
shares everything with the server. So it forks a seed before it begins (plant), and later has the seed fork the
supervisors of detached containers. A seed ends with the process that planted it.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

from runtime.attachments import Peer
from runtime.job import Job
from runtime.profiles import Recording

_MESSAGE_MAX = 1 << 20
_DESCRIPTORS_MAX = 64


class Seed:
    """A seed, from the side of the process that has planted it."""

    def __init__(self, supervise: Callable[[Job], NoReturn]) -> None:
        """Fork it. `supervise` is what supervisors do."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if not os.fork():
            self._channel.close()
            _serve(theirs, supervise)
        theirs.close()

    def fork(self, job: Job) -> bool:
        """Have a supervisor forked; False if it cannot be done, and has to be forked here."""
        fds = [job.control.fileno()] if job.control else []
        kept = [*job.keep, *([] if job.output is None else [job.output])]
        recording = job.recording.describe(job.keep) if job.recording else None
        plain = replace(job, control=None, keep=(), output=None, recording=None)
        words = pickle.dumps((plain, bool(job.control), len(job.keep), job.output is not None, recording))
        try:
            socket.send_fds(self._channel, [words], [*fds, *kept])
        except OSError:  # it was killed, or this is more than a message can have
            return False
        with suppress(OSError):
            self._channel.recv(1)  # children of ours use the channel too: each gets as many answers as it has asked
        return True


planted: Seed | None = None
"""This process's seed, if it has one."""


def plant(supervise: Callable[[Job], NoReturn]) -> None:
    """Have a seed from now on. To be called before anything else is done."""
    global planted
    with suppress(OSError):
        planted = Seed(supervise)


def _serve(channel: socket.socket, supervise: Callable[[Job], NoReturn]) -> NoReturn:
    """The seed: fork a supervisor for each message, until nobody can send any more."""
    try:
        while True:
            words, fds, _, _ = socket.recv_fds(channel, _MESSAGE_MAX, _DESCRIPTORS_MAX)
            if not words:
                break
            # Twice, so that the supervisor is nobody's child, and a seed never has to wait.
            child = os.fork()
            if not child:
                if not os.fork():
                    channel.close()
                    supervise(_received(words, fds))
                os._exit(0)
            os.waitpid(child, 0)
            channel.send(b"+")
            for fd in fds:
                os.close(fd)
    finally:
        os._exit(0)


def _received(words: bytes, fds: list[int]) -> Job:
    job, has_control, keep, has_output, recording = pickle.loads(words)  # from the process that planted us
    rest = list(fds)
    control = Peer(socket.socket(fileno=rest.pop(0))) if has_control else None
    kept = tuple(rest[:keep])
    output = rest[keep] if has_output else None
    found = Recording.restore(recording, kept) if recording else None
    made: Job = replace(job, control=control, keep=kept, output=output, recording=found)
    return made
