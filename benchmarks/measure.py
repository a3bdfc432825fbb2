"""Clocks, caches and memory: one run of a command, and many in turns."""

from __future__ import annotations

import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_LAUNCH = str(Path(__file__).with_name("launch.py"))
_SAMPLE_SECONDS = 0.05
_MEMORY_MAX = 12 << 30
"""More than the source, the repositories of a round and the tools take together."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """One finished command, or several one after the other."""

    seconds: float
    cpu_seconds: float = 0.0
    """User and system time of the command and of all that it waited for."""
    peak_bytes: int = 0
    """The most memory that was resident in the command and in all processes below it, at once."""
    output: bytes = b""

    def __add__(self, other: Run) -> Run:
        return Run(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_bytes, other.peak_bytes),
            self.output + other.output,
        )


class FailedError(Exception):
    """A measured command failed; the message has its last words."""


def run(
    command: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    ok: Sequence[int] = (0,),
) -> Run:
    """Run a command to its end; FailedError if it exits with a status that is not in `ok`."""
    environment = {**os.environ, **(env or {})}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as words, tempfile.TemporaryFile() as taken:
        launch = [sys.executable, "-S", "-E", _LAUNCH, str(taken.fileno())]
        with subprocess.Popen(
            [*launch, *map(str, command)], env=environment, cwd=cwd, pass_fds=[taken.fileno()],
            stdin=subprocess.DEVNULL, stdout=output, stderr=words,
        ) as process, _Memory(process.pid) as memory:  # fmt: skip
            process.wait()
        for file in (output, words, taken):
            file.seek(0)
        code, seconds, cpu_seconds, largest = taken.read().split()
        if int(code) not in ok:
            last = words.read().decode(errors="replace").strip()[-500:]
            raise FailedError(f"{command[0]} ended with {int(code)}: {last}")
        peak = max(memory.peak_bytes, int(largest))
        return Run(float(seconds), float(cpu_seconds), peak, output.read())


class _Memory:
    """Looks every 50 ms at what all processes below one have resident, together.

    ru_maxrss is the largest single process, so a tool that forks workers would get away with the sum. Pages that
    processes share count for each.
    """

    def __init__(self, launcher: int) -> None:
        self._launcher = launcher
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.peak_bytes = 0

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            below = tree_resident_bytes(self._launcher, below=True)
            self.peak_bytes = max(self.peak_bytes, below)


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(rounds: int, work: Mapping[str, Callable[[int], T]]) -> dict[str, list[T]]:
    """Call each of `work` once a round, with the round's number; each round begins with another of them.

    Whatever slows the machine for a while then slows everybody, and nobody is always first.
    """
    found: dict[str, list[T]] = {name: [] for name in work}
    names = list(work)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(work[name](number))
    return found


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def settle(source: Path | None = None) -> None:
    """Make the machine the same for whoever is measured next, who will read `source`.

    Everything dirty is written to the disk, so that nobody pays for what was done before. Then every byte and attribute
    of the source is read, and nothing else, so that it is in the page cache: borg has the kernel forget each file that
    it has read (posix_fadvise(2), POSIX_FADV_DONTNEED), and whoever came next would read from the disk.
    """
    os.sync()
    if source is not None:
        run(["sh", "-c", 'tar --xattrs -C "$1" -cf - . | cat >/dev/null', "sh", source])


def warm_memory() -> int:
    """Take much memory once and give it back; returns how many bytes.

    A virtual machine's memory is its host's until it is first touched, at some 10 us a page. Whoever fills the page
    cache first would pay that for all.
    """
    size = min(_MEMORY_MAX, _available_memory() // 2) // mmap.PAGESIZE * mmap.PAGESIZE
    mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()
    return size


def _available_memory() -> int:
    """Bytes that programs can have without others being swapped out (proc(5), MemAvailable)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def drop_caches() -> None:
    """Forget the page cache, names and inodes (proc(5), /proc/sys/vm/drop_caches): needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


@dataclass(frozen=True, slots=True)
class Size:
    """What lies below a path, each file once."""

    apparent: int
    """Bytes in files: `du --apparent-size`, without the directories' own."""
    allocated: int
    """Bytes of disk: blocks, the directories' included, as `du` counts them."""


def size_of(path: Path) -> Size:
    """The size of a tree, without what is mounted in it: a store with a service shows all its commits below itself."""
    device = os.lstat(path).st_dev
    seen = set()
    apparent = allocated = 0
    for directory, names, files in os.walk(os.fsencode(path)):
        names[:] = [name for name in names if os.lstat(os.path.join(directory, name)).st_dev == device]
        for name in [*names, *files, b"."]:
            status = os.lstat(os.path.join(directory, name))
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                allocated += status.st_blocks * 512
                if name in files:
                    apparent += status.st_size
    return Size(apparent, allocated)


def count(root: Path) -> tuple[int, int]:
    """Entries below a root, and the bytes in its files (a hard-linked file counts once a name)."""
    entries = size = 0
    stack = [os.fsencode(root)]
    while stack:
        with os.scandir(stack.pop()) as found:
            for item in found:
                entries += 1
                if item.is_dir(follow_symlinks=False):
                    stack.append(item.path)
                elif item.is_file(follow_symlinks=False):
                    size += item.stat(follow_symlinks=False).st_size
    return entries, size


def tree_resident_bytes(pid: int, below: bool = False) -> int:
    """Memory of a process and of all below it, or only of those (VmRSS of proc(5)); shared pages count for each.

    Processes that end meanwhile count for nothing.
    """
    total = 0
    todo = [pid]
    while todo:
        here = todo.pop()
        try:
            for line in Path(f"/proc/{here}/status").read_text().splitlines():
                if line.startswith("VmRSS:") and not (below and here == pid):
                    total += int(line.split()[1]) * 1024
            for task in Path(f"/proc/{here}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total
