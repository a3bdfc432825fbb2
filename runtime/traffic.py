"""What went over a container's network, if that is its own: read from /proc/PID/net/dev of its init, or, when that has
ended, in the network's namespace."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from runtime.system import mounts


class Traffic(NamedTuple):
    """Bytes, of all interfaces but the loopback."""

    received_bytes: int
    sent_bytes: int


def of_process(pid: int) -> Traffic | None:
    """The traffic of a process's network; None if that is ours as well, or the process is gone."""
    with suppress(OSError):
        if os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"):
            return parse(Path(f"/proc/{pid}/net/dev").read_bytes())
    return None


def of_namespace(path: str) -> Traffic | None:
    """The same of a network namespace, which may have no process any more: the calling thread goes there and back. None
    if it may not, or the namespace is gone."""
    with ExitStack() as stack, suppress(OSError):
        ours = stack.enter_context(open("/proc/thread-self/ns/net", "rb"))
        theirs = stack.enter_context(open(path, "rb"))
        mounts.setns(theirs.fileno(), mounts.CLONE_NEWNET)
        stack.callback(mounts.setns, ours.fileno(), mounts.CLONE_NEWNET)
        return parse(Path("/proc/thread-self/net/dev").read_bytes())
    return None


def parse(text: bytes) -> Traffic:
    """/proc/PID/net/dev (proc(5)): after a name, eight numbers of what was received, then eight of what was sent. What
    is no such line is passed over."""
    received = sent = 0
    for line in text.split(b"\n"):
        name, colon, rest = line.rpartition(b":")
        numbers = rest.split()
        if colon and name.strip() != b"lo" and len(numbers) >= 16 and numbers[0].isdigit() and numbers[8].isdigit():
            received += int(numbers[0])
            sent += int(numbers[8])
    return Traffic(received, sent)
