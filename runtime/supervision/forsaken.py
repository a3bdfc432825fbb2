"""Containers that nobody has any more: the monitor had left them to a supervisor, which has ended before it noted so.

Whoever looks must learn of it, for run.json still names the monitor, and that lives.

    how it ended is known      exit.json says so, and when it was to be started again; and run.json that it has no
                               supervisor, so that nobody does that unasked: `treering start --policy` does
    it goes on                 run.json says that it has no supervisor, and the next command has it taken over. If none
                               has by its end, of which the monitor is told, that is written

Where nothing can be written, on a disk that is full, it is tried again each second until the container is removed, or
somebody else has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from runtime.engine import exit_code
from runtime.state import EXIT, Exited, Process, Run, load_run, read_json, save_exit, save_run
from runtime.supervision.ending import next_start
from runtime.supervision.job import Job
from runtime.supervision.sleeping import Sleeper, Status

NOBODY = Process(0, 0)
"""No process has this pid."""


@dataclass(slots=True)
class _Words:
    """What is to be written of a container."""

    job: Job
    run: Run
    end: Exited | None
    """How it ended, once that is known."""
    are_due: bool = True
    """Whether they are still to be written."""


class Forsaken:
    """Those of a monitor, which is the process `me`."""

    def __init__(self, me: Process) -> None:
        self._me = me
        self._words: dict[str, _Words] = {}
        """By the name of the run."""

    def leave(self, sleeper: Sleeper, status: Status | None) -> None:
        """The supervisor that a sleeper was left to has ended. Does nothing if it had taken it over."""
        words = _Words(sleeper.job, sleeper.run, None if status is None else _end(status))
        self._words[sleeper.run.run] = words
        self._write(words)

    def reaped(self, init: int, status: Status) -> None:
        """A child of ours has ended: perhaps the first process of one of them. The supervisor before the last one may
        have been its parent for a moment more, so that we are told only now."""
        for words in [*self._words.values()]:
            if words.end is None and words.run.init and words.run.init.pid == init:
                words.end, words.are_due = _end(status), True
                self._write(words)

    def forget(self, run: Run) -> None:
        """Somebody has looked after it since, and left it to the monitor again."""
        self._words.pop(run.run, None)

    def due(self) -> list[Callable[[], None]]:
        """What is still to be written, as attempts to do so."""
        return [partial(self._write, words) for words in self._words.values() if words.are_due]

    def _write(self, words: _Words) -> None:
        with suppress(OSError):  # a full disk, say
            run = load_run(words.job.paths.directory)
            is_ours = run is not None and run.run == words.run.run and run.supervisor in (self._me, NOBODY)
            if run and is_ours:
                self._say(words, run)
            words.are_due = False
            if words.end or not is_ours:
                self.forget(words.run)

    def _say(self, words: _Words, run: Run) -> None:
        directory = words.job.paths.directory
        said = read_json(directory / EXIT)
        if words.end and (not said or said["run"] != run.run):  # its supervisor knew more
            save_exit(directory, run, words.end, next_start(words.job, run, words.end))
        if run.supervisor != NOBODY:
            save_run(directory, replace(run, supervisor=NOBODY))


def _end(status: Status) -> Exited:
    return Exited(exit_code(status.status), ended=time.time())
