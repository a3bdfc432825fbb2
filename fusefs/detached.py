"""Processes of ours that live on when their starter ends, and say when they are ready: both sides of it.

What is started is a module's `main(arguments)`. With `start` it gets `--ready FD` last: a pipe for one line of JSON,
that it serves (`tell`) or why not (`failure`). It is nobody's child, so that a starter that lives long collects no
zombies, it holds nothing of its starter but what it is given, and its output is its log.

The starter's side imports no more than it needs: a command waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vcs import errors
from vcs.errors import StoreError, TreeringError

_START_SECONDS = 60.0

_PROGRAM = """
import importlib, os, sys
if os.fork():
    os._exit(0)
sys.path.insert(0, sys.argv.pop(1))
module = importlib.import_module(sys.argv.pop(1))
sys.exit(module.main(sys.argv[1:]))
"""
"""-P and the path given make it find this very package, not a directory of the same name."""


def start(module: str, arguments: Sequence[str], log: int, inherited: Sequence[int] = ()) -> dict[str, Any]:
    """Start a process and wait until it is ready; returns what it said then, raises what it failed with.

    `log` is the descriptor that its output goes to, `inherited` what else it is to have. StoreError if it ends without
    a word, or says none for a minute.
    """
    ready, told = os.pipe()
    try:
        try:
            spawn(module, [*arguments, "--ready", str(told)], log, (told, *inherited))
        finally:
            os.close(told)
        line = b""
        if select.select([ready], [], [], _START_SECONDS)[0]:
            line = os.read(ready, 65536)
    finally:
        os.close(ready)
    if not line:
        path = os.readlink(f"/proc/self/fd/{log}")
        raise StoreError(f"{module} did not start: see {path}", log=path)
    return checked(line)


def spawn(module: str, arguments: Sequence[str], log: int, inherited: Sequence[int]) -> None:
    """Start a process, and wait for nothing; for who speaks with it in another way. As start() otherwise. StoreError if
    not even Python starts."""
    import subprocess  # 8 ms, and mostly what is wanted runs already

    package = str(Path(__file__).resolve().parent.parent)
    try:
        subprocess.run(
            [sys.executable, "-P", "-c", _PROGRAM, package, module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            pass_fds=tuple(inherited),
            start_new_session=True,
            timeout=_START_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StoreError(f"{sys.executable} does not start", program=sys.executable) from None


def checked(line: bytes) -> dict[str, Any]:
    """A line of one of our processes, read. A refusal is raised as the error that it tells of."""
    said: dict[str, Any] = json.loads(line)
    if said["ok"]:
        return said
    raise error_of(said)


def error_of(failed: dict[str, Any]) -> TreeringError:
    """The error that a message of failure() tells of."""
    kind = getattr(errors, failed["kind"], StoreError)
    if not (isinstance(kind, type) and issubclass(kind, TreeringError)):
        kind = StoreError
    return kind(failed["message"], **failed.get("facts", {}))


def tell(ready: int | None, message: dict[str, Any]) -> None:
    """Say it to the starter, if there is one, and close the pipe."""
    if ready is not None:
        with contextlib.suppress(BrokenPipeError):  # whoever started us need not wait
            os.write(ready, json.dumps(message, default=str).encode() + b"\n")
        os.close(ready)


def failure(error: Exception) -> dict[str, Any]:
    """An error as a message, which `checked` raises again."""
    kind, facts = (error.kind, error.facts) if isinstance(error, TreeringError) else ("StoreError", {})
    return {"ok": False, "kind": kind, "message": str(error), "facts": facts}


def take_descriptors() -> None:
    """Have as many descriptors as may be, and so those whom we start: shells and managers of services often give 1,024,
    and each running container wants some of who lives on."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
