"""Clocks, caches and memory: one run of a command, and many in turns."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One finished command."""

    seconds: float
    peak_bytes: int
    """Largest resident set of the command or of any process it waited for (ru_maxrss of wait4(2))."""


class FailedError(Exception):
    """A measured command failed; the message has its last words."""


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Run:
    """Run a command to its end; FailedError if it exits with another status than 0."""
    environment = {**os.environ, **(env or {})}
    started = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in command], env=environment, cwd=cwd, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        words = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = words.decode(errors="replace").strip()[-500:]
        raise FailedError(f"{command[0]} ended with {process.returncode}: {last}")
    return Run(seconds, usage.ru_maxrss * 1024)


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(rounds: int, work: Mapping[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Call each of `work` once a round, with the round's number; every second round goes backwards.

    Whatever slows the machine for a while then slows everybody, and nobody always follows the same neighbour.
    """
    found: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds):
        names = list(work)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            found[name].append(work[name](number))
    return found


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def settle() -> None:
    """Write everything dirty to the disk, so that the next measurement does not pay for the last one's."""
    os.sync()


def drop_caches() -> None:
    """Forget the page cache, names and inodes (proc(5), /proc/sys/vm/drop_caches): needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def disk_usage(path: Path) -> int:
    """Bytes of disk below a path, as `du` counts them: blocks, each file once."""
    seen = set()
    total = 0
    for directory, names, files in os.walk(path):
        for name in [*names, *files, "."]:
            status = os.lstat(os.path.join(directory, name))
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


def tree_resident_bytes(pid: int) -> int:
    """Memory of a process and of all below it (VmRSS of proc(5)); pages that they share count for each."""
    total = 0
    todo = [pid]
    while todo:
        here = todo.pop()
        for line in Path(f"/proc/{here}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{here}/task").iterdir():
            todo += map(int, (task / "children").read_text().split())
    return total


def environment() -> dict[str, str]:
    """What a treering command needs so that this very checkout is measured."""
    return {"PYTHONPATH": str(Path(__file__).parents[1])}
