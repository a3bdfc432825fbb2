"""What a command asks the monitor for, as one message: a supervisor for a detached container.

The message is a pickled Job, and the descriptors that it has.
"""

from __future__ import annotations

import os
import pickle
import socket
from dataclasses import replace

from runtime.profiles import Recording
from runtime.supervision.attachments import Peer
from runtime.supervision.job import Job

OF_ANOTHER_VERSION = pickle.UnpicklingError, AttributeError, ImportError, IndexError, TypeError, ValueError
"""What `unpacked` fails with if the command's Treering is another one than the monitor's."""


def packed(job: Job) -> tuple[bytes, list[int]]:
    """The message for a job, and its descriptors."""
    recording = job.recording.describe(job.keep) if job.recording else None
    fds = [*([job.control.fileno()] if job.control else []), *job.keep]
    plain = replace(job, control=None, keep=(), output=None, recording=None)
    return pickle.dumps((plain, bool(job.control), len(job.keep), recording)), fds


def unpacked(words: bytes, fds: list[int]) -> Job:
    """The job of a message. OSError if there are too few descriptors for it."""
    plain, has_control, kept, recording = pickle.loads(words)  # from a process of the same user, on a private socket
    control = Peer(socket.socket(fileno=os.dup(fds[0]))) if has_control else None
    keep = tuple(fds[has_control : has_control + kept])
    found = Recording.restore(recording, keep) if recording else None
    made: Job = replace(plain, control=control, keep=keep, recording=found)
    return made
