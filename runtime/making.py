"""The directories of containers in the making. They are made beside their places, under other names, so that what a
kill leaves of them is not taken for a container."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.records import ContainerPaths, Record, save
from runtime.system.spreading import spread
from vcs.durable import sync_all, sync_directory

NEW = ".new-"
BACK = ".back-"
"""Before the id of a container in the making: a new one, and one that was removed and comes back."""


def build(directory: Path, prefix: str, records: Sequence[Record]) -> list[ContainerPaths]:
    """Make the directories of containers in `directory`, durably but for their names. OSError.

    What is to be flushed is all written before the first flush, and then flushed together. Of those that are removed at
    their end (--rm), only the records: a power cut is their end too, and may leave less of them.
    """
    spread(directory)
    building = [ContainerPaths(directory / f"{prefix}{record.id}") for record in records]
    for paths, record in zip(building, records, strict=True):
        paths.directory.mkdir(mode=0o700)
        for generation in record.generations:
            make_generation(paths, generation.number, durable=False)
        save(paths, record, durable=False)
    durable = to_stay(records)
    sync_all([
        path for paths in building
        for path in (paths.record, *((paths.generation(0).parent,) if durable else ()), paths.directory)
    ])  # fmt: skip
    return building


def to_stay(records: Sequence[Record]) -> bool:
    """Whether one of these containers, or none, is to outlive its end."""
    return not records or not all(record.settings.remove for record in records)


def make_generation(paths: ContainerPaths, number: int, *, durable: bool = True) -> None:
    """Make the directory of a generation, durably unless the caller sees to that. Its upper is made at the first start
    (overlay.prepare_upper): it begins with the attributes of the root below it."""
    path = paths.generation(number)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if durable:
        sync_directory(path.parent)
        sync_directory(path.parent.parent)
