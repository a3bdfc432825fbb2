"""Commands on something large: each has to end well, or with one clear error, and its figures are printed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusefs.client import Service
from tests.flood import processes
from tests.flood.command import Outcome, measure
from tests.flood.place import Place
from vcs.errors import TreeringError
from vcs.history import Author

AUTHOR = Author("Ada Tester", "ada@example.org", 1_700_000_000)
_USAGE = 2
_MUDDLES = ("Traceback", "RecursionError", "MemoryError", '"Bug"')


@dataclass(slots=True)
class Measured:
    """What was done at a place, and what was wrong with it."""

    place: Place
    findings: list[str] = field(default_factory=list)

    def begin(self, title: str) -> None:
        """An empty store, and the head of a table."""
        self.place.prepare()
        measure(self.place, "init")
        print(f"{title}\n{'':44} {'SECONDS':>8} {'CPU s':>8} {'MOST MB':>8} {'STORE MB':>9}", flush=True)

    def treering(self, *arguments: str | Path, may_refuse: bool = False, label: str = "", **more: Any) -> Outcome:
        """Run a command that has to succeed; or, with `may_refuse`, may say in one clear error why it does not."""
        done = measure(self.place, *arguments, **more)
        self._line(label or " ".join(os.fspath(word) for word in arguments), done, "" if done.ok else done.kind)
        said = f"{' '.join(map(str, arguments))[:300]}: {done.code}\n{(done.out + done.err)[-3000:]}"
        if any(muddle in done.err for muddle in _MUDDLES) or done.code == _USAGE or not (done.ok or may_refuse):
            self.findings.append(said)
        elif not done.ok and done.err.count('{"error"') != 1:
            self.findings.append(f"not one clear error: {said}")
        return done

    def must_be(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.findings.append(f"{what}: {str(found)[:500]}, and not {str(expected)[:500]}")

    @contextmanager
    def timed(self, label: str) -> Iterator[None]:
        """What is done without a command."""
        began, cpu = time.monotonic(), sum(os.times()[:4])
        yield
        done = Outcome(0, "", "", time.monotonic() - began, 0, sum(os.times()[:4]) - cpu)
        self._line(label, done)

    def through_the_mount(self, label: str, work: Callable[[Path], None]) -> None:
        """Do something below the service's mount, and tell how much memory its processes had then."""
        try:
            with Service.ensure(self.place.store) as lease:
                began = time.monotonic()
                work(lease.mountpoint)
                seconds = time.monotonic() - began
                peaks = [processes.peak(one.pid) for one in processes.of(self.place.directory) if "serv" in one.role]
                self._line(label, Outcome(0, "", "", seconds, max(peaks, default=0)))
        except (OSError, TreeringError) as error:
            self.findings.append(f"{label}: {error}")

    def check(self) -> None:
        """The store is whole, each byte of it."""
        done = self.treering("fsck", "--read-data")
        if done.ok:
            self.must_be("problems found by fsck", done.value["problems"], [])

    def _line(self, label: str, done: Outcome, error: str = "") -> None:
        du = subprocess.run(["du", "-sx", "-B1", self.place.store], capture_output=True, check=False)
        size = int(du.stdout.split()[0])
        label = label if len(label) <= 44 else f"{label[:28]}...{label[-13:]}"
        figures = f"{done.seconds:8.2f} {done.cpu:8.2f} {done.peak / 1e6:8.0f} {size / 1e6:9.1f}"
        print(f"{label:44} {figures}  {error}", flush=True)
