"""Programs in a root directory, timed, each with a deadline that holds even where a file system answers no more."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import FailedError
from fusefs.mounting import mount_at

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PYTHONDONTWRITEBYTECODE": "1",
}
DEADLINE = 300.0
"""Seconds for any one program."""
_CONNECTIONS = Path("/sys/fs/fuse/connections")


@dataclass(frozen=True, slots=True)
class Root:
    """A directory that is the root of programs, and the FUSE connection that it hangs on, if any."""

    path: Path
    connection: int = 0
    """As in /sys/fs/fuse/connections; 0 if there is none."""

    def run(self, words: Sequence[str], seconds: float = DEADLINE) -> float:
        """Seconds that a program takes, from fork to its end, with the root as its `/`. FailedError.

        The process changes its root itself: no program of the machine's is read, so that what is cold is the root's.
        """
        path = os.fspath(self.path)

        def enter() -> None:
            os.chroot(path)
            os.chdir("/")

        with tempfile.TemporaryFile() as said, self.deadline(seconds) as watched:
            started = time.perf_counter()
            # What is printed goes to the machine's /dev/null: a root mounted with `nodev` has none of its own.
            with subprocess.Popen(
                words, env=ENVIRONMENT, preexec_fn=enter, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
            ) as process:  # fmt: skip
                watched(process.pid)
                code = process.wait()
            taken = time.perf_counter() - started
            if code:
                said.seek(0)
                last = said.read().decode(errors="replace").strip()[-500:]
                raise FailedError(f"{' '.join(words)[:80]} ended with {code} after {taken:.1f} s: {last}")
            return taken

    @contextmanager
    def deadline(self, seconds: float = DEADLINE) -> Iterator[Callable[[int], None]]:
        """Whatever hangs on the connection fails after `seconds`; processes whose group is told of are killed then."""
        groups: list[int] = []

        def end() -> None:
            for group in groups:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            abort(self.connection)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield groups.append
        finally:
            timer.cancel()


def connection_of(mountpoint: Path) -> int:
    """The FUSE connection of a mount, from the mount table: nothing that could hang is asked. FailedError if none."""
    mounted = mount_at(mountpoint.absolute())
    if mounted is None:
        raise FailedError(f"nothing is mounted at {mountpoint}")
    return int(mounted.device.partition(":")[2])


def abort(connection: int) -> None:
    """Let every request on a FUSE connection fail, for good: a process that waits for one cannot be killed else."""
    if connection:
        with suppress(OSError):  # it is gone already
            (_CONNECTIONS / str(connection) / "abort").write_text("1")
