"""What ends a test that waits for a file system that nobody serves any more.

A process in the middle of a FUSE request that was read and is never answered cannot be ended by any signal, SIGKILL
included (fs/fuse/dev.c, request_wait_answer), so no deadline in the process itself helps: pytest-timeout's SIGALRM is
seen when the system call returns. Aborting the connection makes it return ENOTCONN. Three things see to that:

    abort      by hand, for the finalizers of tests that kill what serves a mount
    Watchdog   a thread that aborts the connections of this run's stores if a test is far beyond its time, and ends the
               run if that did not help
    the kernel's own deadline of a request, where it has one (/proc/sys/fs/fuse, Linux 6.15), for the time of a run
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from fusefs import mounting

CONTROL = Path("/sys/fs/fuse/connections")
REQUEST_TIMEOUT = Path("/proc/sys/fs/fuse/default_request_timeout")
REQUEST_SECONDS = 240
GRACE_SECONDS = 30.0
_OURS = "treering-tests"
_STUCK = 70
"""Exit code of a run that had to be ended."""


def abort(device: str) -> None:
    """Abort the FUSE connection of a superblock, `major:minor` as in mountinfo; one that is gone is no error."""
    _show_control()
    with contextlib.suppress(OSError):
        (CONTROL / device.rpartition(":")[2] / "abort").write_text("1\n")


def abort_below(directory: Path) -> list[str]:
    """Abort the connections of every store below a directory, in whatever mount namespace; returns their devices."""
    prefix = b"treering:" + os.fsencode(directory.resolve())
    devices = sorted({mount.device for mount in _mounts_of_all() if mount.source.startswith(prefix)})
    for device in devices:
        abort(device)
    return devices


def _mounts_of_all() -> Iterator[mounting.Mount]:
    seen: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            namespace = os.readlink(process / "ns/mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            for line in (process / "mountinfo").read_bytes().splitlines(keepends=True):
                if b" - fuse" in line:
                    yield mounting.parse_mount(line)


def _show_control() -> None:
    if not any(CONTROL.iterdir()):
        subprocess.run(["mount", "-t", "fusectl", _OURS, str(CONTROL)], check=False, capture_output=True)


def hide_control() -> None:
    """Unmount the kernel's control files, if it was we who mounted them."""
    if any(mount.source == _OURS.encode() for mount in mounting.mounts()):
        subprocess.run(["umount", str(CONTROL)], check=False, capture_output=True)


class Watchdog:
    """Ends what pytest-timeout cannot end. One test at a time."""

    def __init__(self, directory: Path) -> None:
        """`directory`: below it lie the stores of this run."""
        self._directory = directory
        self._timer: threading.Timer | None = None

    def begin(self, name: str, seconds: float) -> None:
        """A test begins that has so many seconds."""
        self.end()
        self._timer = threading.Timer(seconds + GRACE_SECONDS, self._expired, (name,))
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """It ended in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self, name: str) -> None:
        print(f"\n{name} hangs; connections aborted: {abort_below(self._directory)}", file=sys.__stderr__, flush=True)
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
        self._timer = threading.Timer(GRACE_SECONDS, os._exit, (_STUCK,))
        self._timer.daemon = True
        self._timer.start()


@contextlib.contextmanager
def requests_end(seconds: int = REQUEST_SECONDS) -> Iterator[None]:
    """Have the kernel abort connections that leave a request unanswered for so long, if it can; only ever shorter."""
    try:
        before = REQUEST_TIMEOUT.read_text()
        if 0 < int(before) <= seconds:
            raise PermissionError
        REQUEST_TIMEOUT.write_text(f"{seconds}\n")
    except (OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        REQUEST_TIMEOUT.write_text(before)
