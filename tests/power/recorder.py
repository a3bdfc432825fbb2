"""A disk that logs each write and each flush, in their order.

    file system ── loop device ── FUSE export ── qemu-storage-daemon: blklogwrites ──┬── the disk
                                                                                     └── the log

Marks are direct writes behind the end of the file system, so they lie in the same log: all that a command has made
durable is logged before the mark that is made when it has ended.

QEMU 7.2 takes the data of one write for that of another if several reach its export at the same time: it reads the next
request while it waits for the disk, into the same buffer. So the loop device must not send several.
"""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.system import mounts
from tests.power.disks import MIB, looped

PROGRAM = "qemu-storage-daemon"
_LOG_BYTES = 4 << 30
_BLOCK = 4096
_QUIT = b'{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n'


class Recorder:
    """A disk that is being recorded. Made by `recorded`."""

    def __init__(self, device: Path, behind: int, daemon: int) -> None:
        self.device = device
        self.daemon = daemon
        """The process without which the device cannot be read or written."""
        self._behind = behind

    def mark(self, number: int) -> None:
        """Say in the log that so many commands have ended."""
        block = mmap.mmap(-1, _BLOCK)
        block[:8] = number.to_bytes(8, "little")
        fd = os.open(self.device, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            os.pwrite(fd, block, self._behind)
        finally:
            os.close(fd)


@contextmanager
def recorded(directory: Path, size: int) -> Iterator[Recorder]:
    """A disk with room for a file system of that size, recorded in `directory` / log, which is whole afterwards."""
    disk, log, export = directory / "disk", directory / "log", directory / "export"
    for path, length in ((disk, size + MIB), (log, _LOG_BYTES), (export, 0)):
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        os.truncate(path, length)
    daemon = _started(disk, log, export)
    try:
        with looped(export) as device:
            yield Recorder(device, size, daemon.pid)
    finally:
        daemon.communicate(_QUIT)  # a signal may come between its look whether one has come and its wait for events


def _started(disk: Path, log: Path, export: Path) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    daemon = subprocess.Popen(
        [
            PROGRAM,
            "--blockdev", f"driver=file,node-name=disk,filename={disk},cache.no-flush=on,discard=unmap",
            "--blockdev", f"driver=file,node-name=log,filename={log},cache.no-flush=on",
            "--blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512",
            "--export", f"type=fuse,id=export,node-name=logged,mountpoint={export},writable=on",
            "--chardev", "stdio,id=told", "--monitor", "chardev=told",
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=lambda: mounts.end_with_parent(parent),
    )  # fmt: skip
    assert daemon.stdout is not None
    if not daemon.stdout.readline():  # its greeting comes when everything before it is there
        raise OSError(f"{PROGRAM} has ended with {daemon.wait()}")
    return daemon
