"""The processes of a flood: found by the directory that they all know, measured, killed, asked where they stand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ROLES = (
    ("fusefs.service", "service"),
    ("fusefs.worker", "service's worker"),
    ("runtime.cli.serving", "fork server and its commands"),
    ("tests.flood.worker", "worker"),
    ("tests.flood", "flood"),
)


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was there a moment ago."""

    pid: int
    role: str


def of(directory: Path) -> Iterator[Process]:
    """All processes that have a directory in their command line or environment, but this one."""
    marker = os.fsencode(directory)
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            with suppress(OSError):
                command = (path / "cmdline").read_bytes()
                if marker in command or marker in (path / "environ").read_bytes():
                    yield Process(int(path.name), _role(command.decode(errors="replace")))


def _role(command: str) -> str:
    return next((role for word, role in _ROLES if word in command), "command")


def kill(pid: int, directory: Path) -> bool:
    """Kill a process, if it still is one of the directory's. Its number cannot be another's by then: it is held."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if all(process.pid != pid for process in of(directory)):
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes; 0 if it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def stacks(directory: Path) -> str:
    """Where all processes of a directory stand: in the kernel, and with py-spy, if it is there, in Python."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    told = []
    for process in of(directory):
        told.append(f"-- {process.pid} {process.role}")
        for name in ("cmdline", "wchan", "stack"):
            with suppress(OSError):
                told.append(Path(f"/proc/{process.pid}/{name}").read_bytes().replace(b"\0", b" ").decode()[:2000])
        if spy:
            with suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    [spy, "dump", "--nonblocking", "--pid", str(process.pid)],
                    capture_output=True, text=True, timeout=20, check=False,
                )  # fmt: skip
                told.append(done.stdout)
    return "\n".join(told)
