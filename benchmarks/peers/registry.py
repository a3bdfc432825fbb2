"""A registry to pull from: Debian's docker-registry on loopback, without TLS."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import FailedError

PROGRAM = "docker-registry"
_SECONDS = 30.0
_CONFIG = """
version: 0.1
log: {{level: info, formatter: text}}
storage: {{filesystem: {{rootdirectory: {storage}}}}}
http: {{addr: "127.0.0.1:0"}}
"""


@contextmanager
def registry(directory: Path) -> Iterator[str]:
    """Its address. Its storage is below `directory`; it is ended by its pid."""
    directory.mkdir()
    config, log = directory / "config.yml", directory / "log"
    config.write_text(_CONFIG.format(storage=directory / "storage"))
    with log.open("wb") as output:
        process = subprocess.Popen([PROGRAM, "serve", config], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield f"127.0.0.1:{_port(process, log)}"
    finally:
        process.kill()
        process.wait(_SECONDS)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """It listens on a free port, and its log tells which."""
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(rb"listening on 127\.0\.0\.1:([0-9]+)", log.read_bytes()):
            return int(found[1])
        time.sleep(0.02)
    raise FailedError(f"{PROGRAM} did not start: {log.read_text(errors='replace')[-300:]}")
