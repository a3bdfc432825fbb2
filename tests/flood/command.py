"""A `treering` command, of which it is known how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import benchmarks.launch
from runtime.cli import program
from tests.flood.broken import VARIANTS
from tests.flood.place import Place
from tests.support.ending import fork

_TREERING = str(Path(sys.executable).with_name("treering"))
_LAUNCH = Path(benchmarks.launch.__file__)
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
    """The most memory its process had, in bytes: no less than what ran it has, and with a fork server the client's."""
    cpu: float = 0.0
    """Seconds that it had a processor, itself and for it the kernel; likewise."""

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
    started = time.monotonic()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        streams = (given.fileno(), out.fileno(), err.fileno())
        pid = _broken(place, words, streams) if place.broken else _spawned(place, words, streams, forked)
        try:
            begun(pid)
            _, status, usage = os.wait4(pid, 0)
        except BaseException:  # we are told to end; a fork of ours cannot be found by the directory
            os.kill(pid, signal.SIGKILL)
            raise
        passed = time.monotonic() - started
        return Outcome(
            os.waitstatus_to_exitcode(status), _text(out), _text(err), passed, usage.ru_maxrss * 1024,
            usage.ru_utime + usage.ru_stime,
        )  # fmt: skip


def _spawned(place: Place, words: list[str], streams: tuple[int, int, int], forked: bool) -> int:
    dup = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)]
    command = [_TREERING, "--format", "json", *words]
    return os.posix_spawn(_TREERING, command, place.environment(forked=forked), file_actions=dup)


def _broken(place: Place, words: list[str], streams: tuple[int, int, int]) -> int:
    """A fork of this process, which has imported all: the faster commands are, the more of them meet."""
    pid = fork()
    if pid:
        return pid
    code = 1
    try:
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        environment = place.environment()
        os.environ.clear()
        os.environ.update(environment)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
        VARIANTS[place.broken]()
        code = program.run(["--format", "json", *words])
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def measure(place: Place, *arguments: str | Path, stdin: bytes = b"") -> Outcome:
    """Run one by itself, from a small process, so that its memory is told as it is."""
    words = [os.fspath(argument) for argument in arguments]
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        subprocess.run(
            [sys.executable, "-S", _LAUNCH, str(writer), _TREERING, "--format", "json", *words],
            stdin=given, stdout=out, stderr=err, env=place.environment(forked=False), cwd=PROJECT,
            pass_fds=[writer], check=True,
        )  # fmt: skip
        os.close(writer)
        with open(reader) as told:
            code, seconds, cpu, peak = told.read().split()
        return Outcome(int(code), _text(out), _text(err), float(seconds), int(peak), float(cpu))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def must(place: Place, *arguments: str | Path, **more: Any) -> Outcome:
    """Run one that has to succeed."""
    done = run(place, *arguments, **more)
    if not done.ok:
        raise AssertionError(f"treering {' '.join(map(str, arguments))}: {done.code}\n{done.err[-2000:]}")
    return done
