"""System call filters that crun has compiled once, kept and given to it again.

To compile the default profile takes libseccomp 10 of the 17 ms that crun needs for a whole container. crun leaves the
compiled filter in its state (`seccomp.bpf`, for exec), and takes one that is given as an annotation instead of the
section in config.json (crun(1), run.oci.seccomp_bpf_data). An engine that does not know the annotation compiles as
always: the section stays. What crun made is kept in STORE/run/filters, with its digest, under a name made of all that
it depends on.
"""

from __future__ import annotations

import base64
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.engine import Engine
from runtime.state import RunPaths
from vcs.durable import replace_file
from vcs.encoding import digest

_ANNOTATION = "run.oci.seccomp_bpf_data"
_DIGEST = 32
_LARGEST = 8 * 4096
"""Bytes: BPF_MAXINSNS instructions (linux/bpf_common.h)."""
_MOST = 32
_LIBRARIES = Path("/etc/ld.so.cache")
"""Written anew whenever a library is installed: libseccomp's knowledge of system calls is in the filter too."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that crun is about to compile."""

    path: Path

    def keep(self, engine: Engine, container: str) -> None:
        """Keep it, once the container runs. Without it, the next start only takes longer."""
        with suppress(OSError):
            data = (engine.state / container / "seccomp.bpf").read_bytes()
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            aside = self.path.with_name(f".{self.path.name}-{os.getpid()}")
            _make_room(self.path.parent)
            replace_file(self.path, digest(data) + data, durable=False, aside=aside)


def insert(config: dict[str, Any], engine: Engine, paths: RunPaths) -> Filter | None:
    """Put the compiled filter into a config.json, if there is one. Otherwise returns what is to be kept afterwards, if
    anything is."""
    section = config["linux"].get("seccomp")
    if engine.name != "crun" or section is None:
        return None
    try:
        found = Filter(paths.engine_state.parent / "filters" / _name(section, engine))
    except OSError:
        return None
    data = _load(found.path)
    if data is None:
        return found
    config["annotations"] = {_ANNOTATION: base64.b64encode(data).decode()}
    return None


def _make_room(directory: Path) -> None:
    """Remove the oldest, so that they do not become more with each kernel and each set of capabilities, and what was
    being written by a process that is gone."""
    for path in directory.glob(".*-*"):
        if not Path("/proc", path.name.rpartition("-")[2]).exists():
            path.unlink(missing_ok=True)
    by_age = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for path in by_age[: max(0, len(by_age) - _MOST + 1)]:
        path.unlink(missing_ok=True)


def _load(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    expected, compiled = data[:_DIGEST], data[_DIGEST:]
    is_whole = digest(compiled) == expected and 0 < len(compiled) <= _LARGEST
    return compiled if is_whole else None


def _name(section: dict[str, Any], engine: Engine) -> str:
    stamps = [(status.st_ino, status.st_size, status.st_mtime_ns) for status in map(os.stat, (engine.path, _LIBRARIES))]
    known = [section, str(engine.path), stamps, list(os.uname()[2:])]
    return digest(json.dumps(known).encode()).hex()
