"""Long output on a terminal goes through a pager, as git's does."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, BinaryIO, Protocol, cast

from runtime.cli.output import Output


class Process(Protocol):
    """What is used of a pager's process."""

    stdin: IO[bytes] | None

    def wait(self) -> int:
        """Until it has ended."""


def _start(arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, env=environment)


start: Callable[[Sequence[str], Mapping[str, str]], Process] = _start
"""How a pager is started; OSError, ValueError. The child of a fork server has it done by its client."""


@contextlib.contextmanager
def paged(output: Output, *, wanted: bool = True) -> Iterator[None]:
    """Send what the block writes through the pager, if stdout is a terminal and people read it.

    $TREERING_PAGER or $PAGER says which, `less` otherwise; empty or `cat` means none. The user may quit it at any time.
    """
    command = os.environ.get("TREERING_PAGER", os.environ.get("PAGER", "less"))
    if not (wanted and output.is_table and sys.stdout.isatty()) or command in ("", "cat"):
        yield
        return
    # F: no pager for what fits on the screen; R: colours; X: leave the text there.
    environment = {"LESS": "FRX", "LV": "-c", **os.environ}
    try:
        process = start(shlex.split(command), environment)
    except (OSError, ValueError):
        yield
        return
    stdout, output.stream = output.stream, cast(BinaryIO, process.stdin)
    try:
        with contextlib.suppress(BrokenPipeError):
            yield
            output.stream.flush()
    finally:
        output.stream = stdout
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        _wait(process)


def _wait(process: Process) -> None:
    """Ctrl-C is the pager's while it is on the screen."""
    while True:
        try:
            process.wait()
            return
        except KeyboardInterrupt:
            continue
