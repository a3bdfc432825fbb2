"""Everybody at once on one store, for so many seconds; who is killed has a successor."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.flood import processes
from tests.flood.command import PROJECT, must
from tests.flood.place import Place
from tests.flood.worker import ACTIONS, TAKING_BACK

_LOOK = 0.5
"""Seconds from one look at the processes to the next."""


@dataclass(slots=True)
class Storm:
    """A flood of processes."""

    place: Place
    count: int
    seed: int
    deadline: float
    """Seconds that one command may take; more is a hang."""
    actions: Sequence[str] = tuple(ACTIONS)
    peaks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """The most memory that a process of each role was seen with, in bytes."""
    started: int = 0
    """How many workers there were, successors included."""

    def rage(self, seconds: float, least: int) -> None:
        """Make the store, and let all of them go at it, until so many commits are acknowledged too; on a busy machine
        ten times as long at most. They are killed at the end, and with them their commands."""
        self.place.prepare()
        must(self.place, "init")
        must(self.place, "import", self.place.base, "-b", "base", "-m", "base")
        workers = {number: self._start(number) for number in range(self.count)}
        begun = time.monotonic()
        try:
            while (passed := time.monotonic() - begun) < seconds or (
                passed < 10 * seconds and len(self.place.acknowledged()) < least
            ):
                time.sleep(_LOOK)
                self._measure()
                self._find_hangs()
                for number, worker in workers.items():
                    if worker.poll() is not None:
                        self._end_command_of(number)
                        workers[number] = self._start(number)
        finally:
            for worker in workers.values():
                worker.kill()
                worker.wait()
            for number in workers:
                self._end_command_of(number)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        self.started += 1
        left_out = () if self.place.keeps_operations else TAKING_BACK
        actions = [action for action in self.actions if action not in left_out]
        place, seed = self.place, f"{self.seed}.{number}.{self.started}"
        return subprocess.Popen(
            [
                sys.executable, "-P", "-m", "tests.flood.worker", str(place.directory), place.expire, place.broken,
                str(number), seed, json.dumps(actions),
            ],
            cwd=PROJECT, env=place.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for who watches over all
        )  # fmt: skip

    def _end_command_of(self, number: int) -> None:
        """A worker was killed: its command is the worker's no more, and half of these end at once too."""
        seat = self.place.seats().get(number)
        if seat is not None and random.Random(f"{self.seed}.{self.started}").random() < 0.5:
            processes.kill(seat[0], self.place.directory)

    def _measure(self) -> None:
        for process in processes.of(self.place.directory):
            self.peaks[process.role] = max(self.peaks[process.role], processes.peak(process.pid))

    def _find_hangs(self) -> None:
        for number, (pid, what, since) in self.place.seats().items():
            passed = time.monotonic() - since
            if passed > self.deadline and any(one.pid == pid for one in processes.of(self.place.directory)):
                stacks = processes.stacks(self.place.directory)
                self.place.find(f"worker {number}: {what}: not done within {passed:.0f} s\n{stacks}")
                processes.kill(pid, self.place.directory)
