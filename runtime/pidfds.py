"""The exit code of a process that is not our child: pidfd's PIDFD_GET_INFO (linux/pidfd.h, since Linux 6.15)."""

from __future__ import annotations

import fcntl
import os
import select
import struct

from runtime.engine import exit_code

_SIZES = (80, 72, 64)
"""Of struct pidfd_info, the newest kernels' first; each kernel takes those it knows."""
_EXIT = 1 << 3
"""PIDFD_INFO_EXIT, of `mask`."""
_EXIT_CODE_AT = 60
_HANG_UP_MS = 2000
"""How long a process may wait for whoever reaps it."""


def exit_status(pidfd: int) -> int | None:
    """The exit code (128 + the signal) of a process that has ended; None if the kernel does not tell. The descriptor
    must have been opened before its end."""
    poll = select.poll()
    poll.register(pidfd, 0)  # POLLHUP: it has been reaped, and only then the kernel tells
    poll.poll(_HANG_UP_MS)
    for size in _SIZES:
        request = 0xC000_FF0B | size << 16  # _IOWR(0xFF, 11, struct pidfd_info)
        data = bytearray(size)
        struct.pack_into("=Q", data, 0, _EXIT)
        try:
            fcntl.ioctl(pidfd, request, data)
        except OSError:
            continue
        if struct.unpack_from("=Q", data, 0)[0] & _EXIT:
            return exit_code(struct.unpack_from("=i", data, _EXIT_CODE_AT)[0])
    return None


def opened(pid: int) -> int | None:
    """A pidfd, None if there is no such process."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
