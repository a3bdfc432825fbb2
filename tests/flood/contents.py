"""Files whose names tell their bytes: a tree of them is known by its paths alone, whoever made it."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Iterable
from pathlib import Path

from vcs.errors import NotFound
from vcs.snapshot import Snapshot

TOP = "data"
"""All of them lie below it; the rest of a root is what containers need."""
_DIRECTORIES = 6
_SHARED = 60
_MOST = 6000


def content(name: str) -> bytes:
    """The bytes of a file."""
    chance = random.Random(name)
    return chance.randbytes(chance.randrange(1, _MOST))


def any_path(chance: random.Random) -> str:
    """A path below TOP. Half of them are of the few that others write too, so that they find one another's objects."""
    name = chance.randrange(_SHARED) if chance.random() < 0.5 else chance.randrange(1 << 40)
    return f"d{chance.randrange(_DIRECTORIES)}/f{name}"


def expected(paths: Iterable[str]) -> str:
    """The digest of a tree of these paths."""
    return _digest((path, content(path.rpartition("/")[2])) for path in paths)


def found(snapshot: Snapshot) -> str:
    """The digest of what a root really has there."""
    prefix = f"{TOP}/".encode()
    try:
        snapshot.lookup(TOP.encode())
    except NotFound:
        return expected(())
    return _digest(
        (path.decode().removeprefix("/").removeprefix(f"{TOP}/"), snapshot.read(entry.content))  # type: ignore[arg-type]
        for path, entry in snapshot.walk()
        if entry.is_file and path.removeprefix(b"/").startswith(prefix)
    )


def on_disk(top: Path) -> set[str]:
    """The paths of the files that a directory has below TOP."""
    return {path.relative_to(top / TOP).as_posix() for path in (top / TOP).glob("d*/f*")}


def wrong_below(top: Path) -> list[str]:
    """Files below a directory that have other bytes than their names tell."""
    return [str(path) for path in sorted(top.glob("d*/f*")) if path.read_bytes() != content(path.name)]


def archive(paths: Iterable[str]) -> bytes:
    """A tar archive of such files, for a container's root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in paths:
            data = content(path.rpartition("/")[2])
            member = tarfile.TarInfo(f"{TOP}/{path}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _digest(files: Iterable[tuple[str, bytes]]) -> str:
    lines = sorted(f"{path} {hashlib.sha256(data).hexdigest()}" for path, data in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
