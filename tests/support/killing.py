"""A process that is killed at each of its calls that change something, one after another.

It is a fork, so that each takes milliseconds; of the test runner it keeps nothing but what was imported: no descriptor,
and an alarm ends it whatever it waits for. Whoever forks has no store open.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

_CALLS = (
    *("open", "pwrite", "ftruncate", "truncate", "fsync", "fdatasync"),
    *("replace", "rename", "link", "unlink", "mkdir", "rmdir", "chmod"),
)
_MOST = 400
_SECONDS = 60


def killed_anywhere(
    work: Callable[[Callable[[], None]], None], errors: Path, afresh: Path | None = None
) -> Iterator[bool]:
    """Do the work in a process that is killed at its first such call, in another at its second, and so on; yields after
    each whether that was the one that came to its end. `work` calls what it is given when it is to be killed from then
    on. What it raises is written to `errors`, and raised here. The directory `afresh` is each time as it was at first:
    a store that keeps what a hundred such commands have done takes longer and longer to be checked."""
    aside = errors.with_name("aside")
    if afresh is not None:
        _copy(afresh, aside)
    for number in range(_MOST):
        if afresh is not None and number:
            shutil.rmtree(afresh)
            _copy(aside, afresh)
        child = os.fork()
        if child == 0:
            _be_killed(work, number, errors)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), errors.read_text()
        yield status == 0
        if status == 0:
            return
    raise AssertionError("it was always killed")


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "-T", str(source), str(target)], check=True, stdin=subprocess.DEVNULL)


def _be_killed(work: Callable[[Callable[[], None]], None], number: int, errors: Path) -> None:
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(3, 4096)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS)
        work(lambda: _arm(number))
    except BaseException:
        errors.write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def _arm(left: int) -> None:
    counter = [left]

    def wrapped(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            counter[0] -= 1
            if counter[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in _CALLS:
        setattr(os, name, wrapped(getattr(os, name)))
