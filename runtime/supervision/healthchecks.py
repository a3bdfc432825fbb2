"""Whether a container does its work: a command in it, again and again, whose exit code says so.

What was found is in `health.json` in the container's directory: the run that it is about, `status` (starting, healthy,
unhealthy), `failing` (how many checks in a row failed), and of the last few checks `start`, `end`, `code`, `output`. As
in Docker, exit code 0 is good, anything else is not, and -1 stands for a check that took too long.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.settings import Health
from runtime.state import load_run, write_json
from runtime.system.aside import aside

NAME = "health.json"
_KEPT = 5
_OUTPUT_MAX = 4096
_SHELL = ("/bin/sh", "-c")
_OVERTIME = 5.0
"""Seconds that a check may take beyond its own deadline before its process is killed."""
_TOO_LONG = -1


@dataclass(slots=True)
class _Check:
    """A check that runs."""

    pid: int
    output: int
    """A memory file."""
    started: float
    deadline: float
    """By the monotonic clock."""


class Healthchecks:
    """The checks of one run of a container, made by its supervisor."""

    def __init__(self, directory: Path, health: Health, run: str) -> None:
        self._directory = directory
        self._health = health
        self._run = run
        self._check: _Check | None = None
        self._begun = time.monotonic()
        self._failing = 0
        self._status = "starting"
        self._results: list[dict[str, Any]] = []
        self.due = time.monotonic() + health.interval
        """When the next thing is to be done, by the monotonic clock."""
        self._save()

    def do_what_is_due(self) -> None:
        """Begin a check, or end one that takes too long."""
        if time.monotonic() < self.due:
            return
        if self._check is None:
            self._start()
        else:
            with suppress(ProcessLookupError):
                os.kill(self._check.pid, signal.SIGKILL)
            self.due = time.monotonic() + _OVERTIME

    def reaped(self, pid: int, status: int) -> None:
        """A child of the supervisor's has ended."""
        if self._check is None or self._check.pid != pid:
            return
        check, self._check = self._check, None
        code = os.waitstatus_to_exitcode(status)
        too_long = code == _TIMED_OUT or code < 0
        output = os.pread(check.output, _OUTPUT_MAX, 0).decode(errors="replace")
        os.close(check.output)
        if too_long:
            output = f"it took longer than {self._health.timeout:g} s\n{output}"
        self._judge(_TOO_LONG if too_long else code, check.started, output)
        self.due = time.monotonic() + self._health.interval

    def stop(self) -> None:
        """The container has ended."""
        if self._check is not None:
            with suppress(ProcessLookupError):
                os.kill(self._check.pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(self._check.pid, 0)
            os.close(self._check.output)
            self._check = None

    def _start(self) -> None:
        now = time.monotonic()
        self.due = now + self._health.interval  # for one that cannot be begun: it says nothing of the container
        output = os.memfd_create("health")
        try:
            pid = aside(lambda: _check_in_child(self._directory, self._health, output), keep=(output,))
        except OSError:
            os.close(output)
            raise
        self._check = _Check(pid, output, time.time(), now + self._health.timeout)
        self.due = now + self._health.timeout + _OVERTIME

    def _judge(self, code: int, started: float, output: str) -> None:
        if code == 0:
            self._failing, self._status = 0, "healthy"
        elif self._status == "healthy" or time.monotonic() - self._begun >= self._health.start_period:
            self._failing += 1
            if self._failing >= self._health.retries:
                self._status = "unhealthy"
        self._results.append({"start": started, "end": time.time(), "code": code, "output": output})
        self._results = self._results[-_KEPT:]
        self._save()

    def _save(self) -> None:
        fields = {"run": self._run, "status": self._status, "failing": self._failing, "checks": self._results}
        with suppress(OSError):
            write_json(self._directory / NAME, fields)


_TIMED_OUT = 251
"""The exit code of our own process if the check took too long."""


def _check_in_child(directory: Path, health: Health, output: int) -> None:
    """One check, in a process of its own, whose exit code is the command's."""
    from runtime.containers import Container
    from runtime.execution import Execution, execute
    from runtime.records import ContainerPaths, load
    from vcs.errors import TreeringError

    for number in (1, 2):
        os.dup2(output, number)
    kind, *words = health.test
    args = (*_SHELL, *words) if kind == "CMD-SHELL" else tuple(words)
    try:
        paths = ContainerPaths(directory)
        code = execute(Container(load(paths), paths), Execution(args, limit=health.timeout))
    except TimeoutError:
        code = _TIMED_OUT
    except TreeringError as error:
        os.write(1, str(error).encode())
        code = int(error.facts.get("exit_code", 125))
    os._exit(code)


def health_of(directory: Path) -> dict[str, Any] | None:
    """What is known of the health of the container with this directory, in its present or last run; None if it is not
    looked after."""
    try:
        found = json.loads((directory / NAME).read_bytes())
    except (OSError, ValueError):
        return None
    run = load_run(directory)
    return found if isinstance(found, dict) and run and found.get("run") == run.run else None
