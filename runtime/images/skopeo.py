"""skopeo(1), which talks to registries: it knows them, their credentials and their mirrors as Podman does."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from runtime.system.mounts import end_with_parent
from vcs.errors import EngineError

_ENDING = 10.0
"""Seconds that it has to end when nobody wants what it does any more."""
_SAID_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Registry:
    """How to reach one."""

    tls_verify: bool = True
    authfile: Path | None = None
    """Otherwise where Podman and Docker keep credentials."""


def begin_skopeo(
    arguments: Sequence[str],
    directory: Path | None = None,
    output: int | IO[bytes] = subprocess.DEVNULL,
    errors: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start it in a directory. It ends with this process, however that ends: even a kill leaves nobody who fetches.
    EngineError if it is not installed.

    To be called by the process's first thread, whose end is what it ends with.
    """
    try:
        return subprocess.Popen(
            ["skopeo", *arguments],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            preexec_fn=partial(end_with_parent, os.getpid()),
        )
    except FileNotFoundError:
        raise not_installed() from None


def end_skopeo(process: subprocess.Popen[bytes]) -> None:
    """Have it end, if it has not."""
    process.terminate()
    try:
        process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_skopeo(
    arguments: Sequence[str],
    directory: Path | None = None,
    output: int | IO[bytes] = subprocess.DEVNULL,
) -> None:
    """Run it in a directory, to its end. What it says goes to `output`.

    EngineError if it is not installed, or with its own words if it fails. It ends when this is interrupted, and gives
    up by itself on a registry that does not answer.
    """
    with tempfile.TemporaryFile() as errors:
        process = begin_skopeo(arguments, directory, output, errors)
        with ExitStack() as stack:
            stack.callback(end_skopeo, process)
            code = process.wait()
        if code:
            raise refusal(errors)


def not_installed() -> EngineError:
    """That there is no skopeo."""
    return EngineError(
        "skopeo is not installed, and it is what talks to registries", advice="as root: apt-get install skopeo"
    )


def refusal(errors: IO[bytes]) -> EngineError:
    """That it failed, in the words that it wrote into a file."""
    errors.seek(0)
    text = errors.read(_SAID_MAX).decode(errors="replace").strip()
    return EngineError(_reason(text), advice=_advice(text))


def _reason(text: str) -> str:
    """skopeo's own words, without the frame of its log."""
    last = text.rpartition("\n")[2]
    _, found, message = last.partition('msg="')
    words = message.rstrip('"').replace('\\"', '"') if found else last
    return f"skopeo could not do it: {words or 'it said nothing'}"


def _advice(text: str) -> str:
    if "server gave HTTP response to HTTPS client" in text:
        return "the registry has no TLS; if you trust the way to it: --tls-verify=false"
    if "certificate" in text:
        return "its certificate is not known here: install it; or, if you trust the way to it: --tls-verify=false"
    if any(words in text for words in ("unauthorized", "authentication required", "denied")):
        return "log in first: skopeo login REGISTRY (podman login and docker login do as well)"
    return ""
