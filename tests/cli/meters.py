"""What containers use, as commands tell it."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cli.conftest import Cli

LINE = "while :; do :; done"
"""Of a shell: uses a processor for as long as it lives."""


def directory(box: Cli, name: str) -> Path:
    row = next(row for row in box.json("ps", "-a") if row["name"] == name)
    return box.store / "containers" / row["id"]


def usage(box: Cli, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row["usage"] for row in box.json("ps", "-a", "--usage") if row["name"] == name)
    return found


def stats(box: Cli, *names: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = box.json("stats", "--no-stream", *names)
    return found


def said(fifo: str) -> bool:
    """Let who reads a FIFO go on; False as long as nobody does."""
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    os.write(fd, b"go\n")
    os.close(fd)
    return True


@contextmanager
def started(box: Cli, *arguments: str, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command as a process of its own, which is ended in any case."""
    process = box.start(*arguments, stdin=subprocess.DEVNULL, **settings)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def lines_of(process: subprocess.Popen[bytes], count: int) -> list[bytes]:
    """So many lines of its output, within a minute."""
    assert process.stdout
    found = b""
    deadline = time.monotonic() + 60
    while found.count(b"\n") < count:
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        assert ready, found
        more = os.read(process.stdout.fileno(), 1 << 16)
        assert more, found
        found += more
    return found.splitlines()
