"""A thousand containers at once, from the command line: started, in memory, listed, removed; and what is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import FailedError, median
from benchmarks.peers.treering import COMMAND, treering
from benchmarks.report import Section
from benchmarks.setting import Setting

_COUNT, _QUICK_COUNT = 1000, 40
_AT_ONCE = 2
_LISTINGS = 5
_TITLE = "containers that sleep, each with no network and the default filter"


def crowd(setting: Setting) -> list[Section]:
    """One table: with the fork server, as users have it. Memory is what the whole machine has less of."""
    count = _QUICK_COUNT if setting.quick else _COUNT
    section = Section("Many containers at once", f"{count:,} {_TITLE}")
    section.note(f"Started by `treering run -d ... sleep inf`, {_AT_ONCE} commands at a time.")
    place, servers = setting.place("crowd"), setting.place("crowd-servers")
    servers.mkdir(mode=0o700, parents=True, exist_ok=True)
    treering(place, "init")
    treering(place, "import", setting.debian(), "--branch", "main", "-m", "base")
    crowded = _Crowd(place, servers)
    try:
        crowded.run("ps")  # starts the fork server
        before = _available()
        started = crowded.start(count)
        each = (before - _available()) / count
        listed = median([_timed(lambda: crowded.run("ps", "-q")) for _ in range(_LISTINGS)])
        removed = _timed(crowded.remove)
        left = len(list(Path("/sys/fs/cgroup").glob("*/treering-*"))) - crowded.cgroups
    finally:
        crowded.remove()
        treering(place, "service", "stop")
        shutil.rmtree(place, ignore_errors=True)
    row = f"{count:,} containers"
    section.put(row, "started", started, "s")
    section.put(row, "memory of each", each, "MB")
    section.put(row, "ps", listed * 1e3, "ms")
    section.put(row, "stopped and removed", removed, "s")
    section.put(row, "cgroups left", left, "")
    if not setting.quick:
        section.claim("2", "1,000 containers started", started, 45, "s")
        section.claim("2", "1,000 containers: memory of each", each, 2.5e6, "MB")
        section.claim("2", "1,000 containers: ps", listed * 1e3, 300, "ms")
        section.claim("2", "1,000 containers removed", removed, 45, "s")
    return [section]


class _Crowd:
    def __init__(self, place: Path, servers: Path) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            "TREERING_STORE": str(place),
            "TREERING_AUTHOR_NAME": "Benchmark",
            "TREERING_AUTHOR_EMAIL": "benchmark@localhost",
            "XDG_RUNTIME_DIR": str(servers),
        }
        self.cgroups = len(list(Path("/sys/fs/cgroup").glob("*/treering-*")))

    def run(self, *words: str) -> bytes:
        done = subprocess.run([COMMAND, *words], env=self._environment, capture_output=True, check=False)
        if done.returncode:
            raise FailedError(f"treering {words[0]}: {done.stderr.decode(errors='replace').strip()[-300:]}")
        return done.stdout

    def start(self, count: int) -> float:
        """Seconds to start so many."""
        begun = time.perf_counter()
        words: list[str | Path] = [COMMAND, "run", "-d", "--network", "none", "--name", "c{}", "main", "sleep", "inf"]
        done = subprocess.run(
            ["xargs", f"-P{_AT_ONCE}", "-I{}", *words],
            env=self._environment,
            input="\n".join(map(str, range(count))).encode(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise FailedError(f"treering run: {done.stderr.decode(errors='replace').strip()[-300:]}")
        return time.perf_counter() - begun

    def remove(self) -> None:
        self.run("rm", "--force", "--all", "--discard")


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _available() -> int:
    """Bytes that the machine could still give out (proc_meminfo(5))."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise FailedError("the kernel does not tell how much memory is available")
