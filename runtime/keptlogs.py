"""The logs of containers that were removed: kept until gc finds that they are old.

    STORE/logs/<id>    a line of JSON (who it was, and the commit it ended on), then the log as one zstd frame

They are not git notes, though they are notes on a commit: a note would be rewritten with every other one, has no time
at which it expires, and would be fetched by everybody who fetches the history.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime import log
from runtime.log import Line
from vcs.durable import replace_file
from vcs.errors import Corrupt, UnknownFormat
from vcs.model import CommitId

_DIRECTORY = "logs"
_VERSION = 1
_KEPT_MAX = 64 << 20
"""Bytes of log that are kept of one container, the newest."""
_HEADER_MAX = 65536


@dataclass(frozen=True, slots=True)
class KeptLog:
    """A removed container, as its log says."""

    id: str
    name: str
    image: str
    commit: CommitId
    """What it ended on: the last commit of its state."""
    ended: float
    """Seconds since 1970."""
    exit_code: int | None
    path: Path


def keep(store: Path, container: Path, about: KeptLog) -> bool:
    """Keep the log of the container with this directory; False if it has none. OSError."""
    files = log.files(container)
    if not any(path.stat().st_size for path in files):
        return False
    import zstandard

    text = b"".join(path.read_bytes() for path in files)
    if len(text) > _KEPT_MAX:
        text = text[text.index(b"\n", len(text) - _KEPT_MAX) + 1 :]
    header = asdict(about) | {"version": _VERSION}
    del header["path"]
    (store / _DIRECTORY).mkdir(mode=0o700, exist_ok=True)
    data = json.dumps(header).encode() + b"\n" + zstandard.ZstdCompressor(3, write_checksum=True).compress(text)
    replace_file(_path(store, about.id), data)
    return True


def all_kept(store: Path) -> list[KeptLog]:
    """Every log that is kept, oldest first. One that cannot be read is left out."""
    found = []
    with suppress(FileNotFoundError):
        for path in (store / _DIRECTORY).iterdir():
            if not path.name.startswith("."):
                with suppress(OSError, Corrupt, UnknownFormat):
                    found.append(_about(path))
    return sorted(found, key=lambda about: about.ended)


def read(about: KeptLog) -> Iterator[Line]:
    """The lines of a log that is kept. Corrupt if it is damaged."""
    import zstandard

    with about.path.open("rb") as file:
        file.readline(_HEADER_MAX)
        data = file.read()
    try:
        text = zstandard.ZstdDecompressor().decompress(data, max_output_size=_KEPT_MAX)
    except zstandard.ZstdError as error:
        raise Corrupt(f"the log {about.path} is damaged: {error}", path=str(about.path)) from error
    yield from filter(None, map(log.parse, text.split(b"\n")))


def expire(store: Path, since: float, *, dry_run: bool = False) -> int:
    """Remove logs of containers that were removed before `since` (seconds since 1970); returns how many."""
    old = [about for about in all_kept(store) if about.ended < since]
    if not dry_run:
        for about in old:
            about.path.unlink(missing_ok=True)
    return len(old)


def _path(store: Path, identity: str) -> Path:
    return store / _DIRECTORY / identity


def _about(path: Path) -> KeptLog:
    with path.open("rb") as file:
        line = file.readline(_HEADER_MAX)
    try:
        fields = json.loads(line)
        if fields.pop("version") != _VERSION:
            raise UnknownFormat(f"{path} is of another version", path=os.fspath(path))
        return KeptLog(**fields, path=path)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(f"{path} cannot be read: {error}", path=os.fspath(path)) from error
