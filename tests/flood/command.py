"""A `treering` command, of which it is known how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.flood.place import Place

_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float
    peak: int
    """The most memory its process had, in bytes; with a fork server that is the thin client's."""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def was_killed(self) -> bool:
        return self.code in _KILLED

    @property
    def value(self) -> Any:
        """What it said, as a value."""
        return json.loads(self.out)

    @property
    def kind(self) -> str:
        """The error's name; `killed`, or `ok`."""
        if self.ok or self.was_killed:
            return "ok" if self.ok else "killed"
        for line in self.err.splitlines():
            if line.startswith('{"error"'):
                return str(json.loads(line)["error"]["kind"])
        return f"code {self.code}"


def run(
    place: Place,
    *arguments: str | Path,
    stdin: bytes = b"",
    forked: bool = True,
    begun: Callable[[int], None] = lambda pid: None,
) -> Outcome:
    """Run one to its end, however long that takes; `begun` is told its process."""
    words = [os.fspath(argument) for argument in arguments]
    command = [sys.executable, "-P", "-m", "tests.flood.broken", place.broken]
    if not place.broken:
        command = [str(Path(sys.executable).with_name("treering"))]
    started = time.monotonic()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(
            [*command, "--format", "json", *words],
            stdin=given, stdout=out, stderr=err, env=place.environment(forked=forked), cwd=PROJECT,
        )  # fmt: skip
        begun(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Outcome(process.returncode, *texts, time.monotonic() - started, usage.ru_maxrss * 1024)


def must(place: Place, *arguments: str | Path, **more: Any) -> Outcome:
    """Run one that has to succeed."""
    done = run(place, *arguments, **more)
    if not done.ok:
        raise AssertionError(f"treering {' '.join(map(str, arguments))}: {done.code}\n{done.err[-2000:]}")
    return done
