"""The service's workers killed again and again under containers at work: who notices, how long it takes, what grows."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inside import Root, connection_of
from benchmarks.measure import FailedError
from benchmarks.peers.treering import service_processes, treering
from benchmarks.report import Section
from benchmarks.residency import descriptors, resident_bytes
from benchmarks.setting import Setting
from fusefs.client import Lease, Service
from runtime.containers import Containers
from vcs.store import Store

_KILLS = 200
_CONTAINERS = 20
_PROCESSES = 10_000
_FILES = 60
"""That one container reads; another reads others."""
_LONGEST_PAUSE = 0.5
_ANSWER_SECONDS = 20.0
_BACK_LIMIT = 1.0
_GROWTH_LIMIT = 2e6
_SEED = 9
_MOST_SECONDS = 1_800.0
_STARTED_A_ROUND = 26
"""Processes: sha256sum, twenty shells, gcc with the compiler, the assembler and two for linking; and the program made
is one more, which is not counted."""
_WORK = """\
round=0
while [ ! -e /stop ]; do
    sha256sum --quiet -c /sums >>/errors 2>&1 || echo "sha256sum ended with $?" >>/errors
    shell=0
    while [ $shell -lt 20 ]; do
        sh -c true 2>>/errors || echo "sh ended with $?" >>/errors
        shell=$((shell + 1))
    done
    echo 'int main(void) { return 0; }' >/tmp/hello.c
    gcc -o /tmp/hello /tmp/hello.c 2>>/errors || echo "gcc ended with $?" >>/errors
    /tmp/hello 2>>/errors || echo "hello ended with $?" >>/errors
    round=$((round + 1))
    echo $round >/rounds
done
"""


@dataclass(frozen=True, slots=True)
class _Sample:
    """What the service has: of the process that holds the mount, and of all workers together."""

    processes: int
    """How many had been started in containers by then, about."""
    holder_bytes: int
    holder_descriptors: int
    worker_bytes: int
    worker_descriptors: int
    workers: int


def restarts(setting: Setting) -> list[Section]:
    """One table."""
    section = Section("Workers of the service killed under containers", "what")
    store = setting.place("restarts")
    treering(store, "init")
    treering(store, "import", setting.debian(), "--branch", "main", "-m", "base")
    try:
        with Service.ensure(store) as lease:
            if service_processes(store)[0] is None:
                section.note("Left out: the service has no process that holds its mount while others are replaced.")
                return [section]
            kills, containers = (5, 2) if setting.quick else (_KILLS, _CONTAINERS)
            with _containers(store, setting.debian(), containers):
                scene = _Scene(store, lease, 1 if setting.quick else _PROCESSES)
                scene.run(kills)
                scene.report(section, containers)
    finally:
        Service.stop(store, force=True)
    return [section]


@contextlib.contextmanager
def _containers(store: Path, source: Path, count: int) -> Iterator[None]:
    """Containers at work; at the end they are told to stop, and those that do not are killed."""
    chance = random.Random(_SEED)
    files = sorted(path for path in source.glob("usr/*/**/*") if path.is_file() and not path.is_symlink())
    names = [f"work-{number}" for number in range(count)]
    try:
        for name in names:
            sums = _sums(chance.sample(files, min(_FILES, len(files))), source)
            script = f"cat >/sums <<'END'\n{sums}END\n{_WORK}"
            treering(store, "run", "--detach", "--name", name, "--network", "none", "main", "--", "sh", "-c", script)
        yield
    finally:
        for name in names:
            with contextlib.suppress(FailedError):
                treering(store, "rm", "--force", "--discard", name)


def _sums(files: list[Path], source: Path) -> str:
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  /{file.relative_to(source)}\n" for file in files)


class _Scene:
    def __init__(self, store: Path, lease: Lease, processes: int) -> None:
        self._store = store
        self._wanted = processes
        self._trees = lease.mountpoint / "trees"
        with Store.open(store) as opened:
            self._root = opened.commit(opened.branches()["main"]).root.hex()
            self._uppers = {one.name: one.upper for one in Containers(opened).all()}
        self._mount = Root(lease.mountpoint, connection_of(lease.mountpoint))
        self._chance = random.Random(_SEED)
        self._back: list[float] = []
        self._samples: list[_Sample] = []

    def run(self, kills: int) -> None:
        """Kill at random moments until it was done so often and so many processes have run."""
        deadline = time.monotonic() + _MOST_SECONDS
        every = max(1, kills // 20)
        while len(self._back) < kills or self._processes() < self._wanted:
            if time.monotonic() > deadline:
                raise FailedError(f"{len(self._back)} kills and {self._processes()} processes in {_MOST_SECONDS:.0f} s")
            Path("/proc/sys/vm/drop_caches").write_text("3\n")  # else the kernel would serve most of it alone
            time.sleep(self._chance.random() * _LONGEST_PAUSE)
            self._back.append(self._kill())
            if len(self._back) % every == 0:
                self._samples.append(self._sample())

    def _kill(self) -> float:
        """End all workers; seconds until a lookup that the kernel cannot answer by itself is answered."""
        for pid in self._workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started = time.perf_counter()
        with self._mount.deadline(_ANSWER_SECONDS):
            try:
                os.stat(self._trees / self._root / f"not there {len(self._back)}")
            except FileNotFoundError:
                return time.perf_counter() - started
        raise FailedError("a name that nobody made was found")

    def _workers(self) -> list[int]:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < deadline:
            _, workers = service_processes(self._store)
            if workers:
                return workers
        raise FailedError("the service has no workers any more")

    def _processes(self) -> int:
        return _STARTED_A_ROUND * sum(_number(upper / "rounds") for upper in self._uppers.values())

    def _sample(self) -> _Sample:
        holder, workers = service_processes(self._store)
        assert holder is not None
        return _Sample(
            self._processes(),
            resident_bytes(holder),
            descriptors(holder),
            sum(map(resident_bytes, workers)),
            sum(map(descriptors, workers)),
            len(workers),
        )

    def _errors(self) -> list[str]:
        """What processes in containers had to say, and containers that do not run any more."""
        found = []
        for name, upper in self._uppers.items():
            file = upper / "errors"
            if file.exists():
                found += [f"{name}: {line}" for line in file.read_text(errors="replace").splitlines()]
        listed = json.loads(treering(self._store, "ps", "--all", "--format", "json").output)
        found += [f"{one['name']} is {one['state']}" for one in listed if one["state"] != "running"]
        return found

    def report(self, section: Section, containers: int) -> None:
        errors = self._errors()
        first, last = self._samples[0], self._samples[-1]
        processes = self._processes()
        section.note(
            f"{containers} containers (`treering run`) read files and compare their sums, start shells, compile and "
            "run a program, again and again. Each time, the machine's caches are dropped and, at a random moment "
            f"within the next {_LONGEST_PAUSE} s, all workers get SIGKILL. Then a name is looked up that nobody has "
            "asked for before."
        )
        section.note(
            "Memory and descriptors of the holder: of the last look less those of the first, of about twenty. Workers "
            "are new processes each time, and have been at work for a longer or shorter while when they are looked at: "
            "the most that was seen in the second half of the looks less the most in the first half."
        )
        for text in errors[:5]:
            section.note(f"Seen: {text}")
        section.put("kills", "", len(self._back), "")
        section.put("processes started in containers", "", processes, "")
        section.put("errors they saw", "", len(errors), "")
        section.put("service back: median", "", statistics.median(self._back) * 1e3, "ms")
        section.put("service back: longest", "", max(self._back) * 1e3, "ms")
        for name, sample in (("first", first), ("last", last)):
            section.put(f"holder's memory: {name}", "", sample.holder_bytes, "MB")
            section.put(f"holder's descriptors: {name}", "", sample.holder_descriptors, "")
            section.put(f"workers' memory: {name}", "", sample.worker_bytes, "MB")
            section.put(f"workers' descriptors: {name}", "", sample.worker_descriptors, "")
        section.claim(
            "11", f"errors seen by {processes:,} processes during {len(self._back)} kills", len(errors), 0, ""
        )
        section.claim("11", "longest until the service answers again", max(self._back), _BACK_LIMIT, "s")
        grown = last.holder_bytes - first.holder_bytes
        section.claim("11", f"holder's memory, grown over {processes:,} processes", grown, _GROWTH_LIMIT, "MB")
        held = last.holder_descriptors - first.holder_descriptors
        section.claim("11", "holder's descriptors, more at the end", held, 0, "")
        section.claim("11", "descriptors of a worker, more in the second half", self._more_in_workers(), 0, "")

    def _more_in_workers(self) -> float:
        each = [sample.worker_descriptors / sample.workers for sample in self._samples]
        half = len(each) // 2
        return max(each[half:]) - max(each[:half] or each)


def _number(path: Path) -> int:
    try:
        return int(path.read_text() or 0)
    except (FileNotFoundError, ValueError):  # it is just being written
        return 0
