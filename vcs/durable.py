"""Small files and names that survive a power cut (fsync(2), rename(2))."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, data: bytes, *, durable: bool = True, aside: Path | None = None) -> None:
    """Write a file so that a crash leaves the old or the new content; synced, unless it may be lost. OSError.

    `aside` is where it is written first, if what a crash leaves must not lie in the file's directory.
    """
    aside = aside or path.with_name(f".{path.name}.new")
    with aside.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    aside.replace(path)
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
