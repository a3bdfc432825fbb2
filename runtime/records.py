"""What is kept of a container: a record that survives crashes, and the directories beside it.

    STORE/containers/<id>/record.json      this module's
                          lock             flocked while the container's state changes
                          gen/<n>/upper    what was written, on top of generation n's base
                          gen/<n>/work     overlayfs's own
                          bundle/ rootfs/ etc/ ...   of one run: see runtime.supervision.supervisor

A generation is a base commit with an upper on top. A rollback starts a new one and keeps the old, so that nothing is
destroyed; a commit of a stopped container replaces it by one with an empty upper.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from runtime.settings import Settings
from vcs.durable import replace_file
from vcs.encoding import digest
from vcs.errors import Corrupt, UnknownFormat
from vcs.model import CommitId

VERSION = 2
READABLE = (1, VERSION)
"""Version 1 had fewer settings."""


class Generation(msgspec.Struct, frozen=True):
    """A base commit with an upper on top. `previous` is the generation that a rollback left for this one."""

    number: int
    base: CommitId
    created: float
    previous: int | None = None


class Merging(msgspec.Struct, frozen=True):
    """A merge that is under way in a container (runtime.branches.resolving)."""

    start: CommitId
    """What the container began on: the merged root with its conflicts, which its message lists."""
    branch: str
    """The branch that gets the merge."""
    base: CommitId
    theirs: CommitId
    parents: tuple[CommitId, ...]
    """Of the commit that the merge is to become; the first is what the branch named."""
    message: str
    decided: str = ""
    """How many conflicts were decided for a side when it began, and for which: `3, theirs`."""


class Record(msgspec.Struct, frozen=True):
    """One container. Its current generation is `current`."""

    id: str
    name: str
    created: float
    image: str
    """The revision it was made from, as it was given."""
    settings: Settings
    generations: tuple[Generation, ...]
    current: int
    ids: int | None = None
    """The first of the ids on the machine that are the container's own (runtime.idranges); None if it has no such."""
    merging: Merging | None = None
    """The merge that is under way in it. A record without one has no such member."""
    version: int = VERSION

    @property
    def generation(self) -> Generation:
        return next(generation for generation in self.generations if generation.number == self.current)

    @property
    def next_number(self) -> int:
        return max(generation.number for generation in self.generations) + 1

    def ref(self, generation: int) -> str:
        """The ref that keeps a generation's newest commit."""
        return f"refs/containers/{self.id}/{generation}"


_decoder = msgspec.json.Decoder(Record)


class ContainerPaths:
    """Where the parts of one container are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.record = directory / "record.json"
        self.lock = directory / "lock"
        self.engine_state = directory.parent.parent / "run" / "engine"
        """Where the engines keep their own state, for all containers."""

    def generation(self, number: int) -> Path:
        return self.directory / "gen" / str(number)

    def upper(self, number: int) -> Path:
        return self.generation(number) / "upper"

    def work(self, number: int) -> Path:
        return self.generation(number) / "work"


def load(paths: ContainerPaths) -> Record:
    """Read a record. FileNotFoundError, UnknownFormat or Corrupt."""
    return parse(paths.record.read_bytes(), paths)


def parse(data: bytes, paths: ContainerPaths) -> Record:
    """What the bytes of a record's file say. UnknownFormat or Corrupt."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, Any])
        if (version := fields.get("version")) not in READABLE:
            message = f"{paths.record} has version {version}, this program knows {VERSION}"
            raise UnknownFormat(message, path=str(paths.record), found=version)
        if fields.pop("digest", None) not in (None, _digest(fields)):  # the first records had none
            raise Corrupt(f"{paths.record} is damaged: it does not have its digest", path=str(paths.record))
        record = msgspec.structs.replace(_decoder.decode(data), version=VERSION)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"{paths.record} cannot be read: {error}", path=str(paths.record)) from error
    if record.current not in [generation.number for generation in record.generations]:
        raise Corrupt(f"{paths.record} names a generation that it does not have", path=str(paths.record))
    return record


def save(paths: ContainerPaths, record: Record, *, durable: bool = True) -> None:
    """Write a record, durably unless the caller sees to that: a crash leaves the old or the new one."""
    replace_file(paths.record, render(record), durable=durable)


def fields_of(record: Record | None) -> dict[str, Any] | None:
    """A record as plain values, as its file has them but for the digest."""
    if record is None:
        return None
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
    if record.merging is None:
        del fields["merging"]
    return fields


def record_of(fields: dict[str, Any]) -> Record:
    """The record that such values are of. Corrupt."""
    try:
        return msgspec.convert(fields, Record, strict=False)
    except msgspec.ValidationError as error:
        raise Corrupt(f"a container's record in the operation log cannot be read: {error}") from error


def render(record: Record, *, with_digest: bool = True) -> bytes:
    """The bytes of a record's file."""
    fields = fields_of(record) or {}
    if with_digest:
        fields["digest"] = _digest(fields)
    return msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"


def _digest(fields: dict[str, Any]) -> str:
    """BLAKE3 of the other fields, in their order, as JSON without spaces."""
    return digest(msgspec.json.encode(fields)).hex()
