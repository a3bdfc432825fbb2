"""The lines of the operation log (vcs.operations), and what they say of operations.

A line is JSON in ASCII and ends with a seal as a reflog's (vcs.reflogs). What a killed process has written half, or a
power cut has left, is an end without a newline: no reader looks at it, and the next writer cuts it off.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import msgspec

from vcs.durable import replace_file
from vcs.errors import Corrupt, UnknownFormat
from vcs.reflogs import restored, seal

VERSION = 1
HEADER = b"treering operations %d\n" % VERSION
_HEADER = re.compile(rb"treering operations (\d{1,9})")
_ID = re.compile(r"[0-9a-f]{40}")
_SEAL_SIZE = 10
_BEGIN = b'{"op":"'

Kind: TypeAlias = Literal["", "undo", "redo", "restore"]
Facts: TypeAlias = dict[str, Any]
"""A container's record, as its file has it. What is in it is no business of this package's, but for ids of commits."""


class Change(NamedTuple):
    """What a ref named before and after: an object's id, not peeled; None where there was no such ref."""

    old: str | None
    new: str | None


class ContainerChange(NamedTuple):
    """A container's record before and after; None where there was no such container."""

    old: Facts | None
    new: Facts | None


@dataclass(frozen=True, slots=True)
class Operation:
    """What one command changed: for each ref (by its full name) and each container (by its id) from where to where."""

    id: str
    time: int
    """Seconds since 1970."""
    who: str
    args: tuple[str, ...]
    """The command line; for work that nobody asked for, what it was."""
    kind: Kind = ""
    of: str = ""
    """The operation that this one took back (undo, redo), or that it went back to (restore)."""
    refs: Mapping[str, Change] = field(default_factory=dict)
    containers: Mapping[str, ContainerChange] = field(default_factory=dict)
    unsure: Mapping[str, str | None] = field(default_factory=dict)
    """Where its last step found refs. They may still be there: a process may have been killed before the step was
    made."""
    is_partial: bool = False
    """Whether its process was killed, or failed, between two of its steps: it is to be gone on with."""
    parts: tuple[Operation, ...] = ()
    """The partial ones that it went on with under an id of its own, if what they did is told by this one too."""

    @property
    def ids(self) -> set[str]:
        """The ids of all commits and tag objects that it names."""
        found = {oid for change in self.refs.values() for oid in change if oid}
        return found.union(*(_ids_in(record) for change in self.containers.values() for record in change))


class _Step(msgspec.Struct):
    """What a line may say, and of which types; more is no error."""

    op: str
    time: int = 0
    who: str = ""
    args: tuple[str, ...] = ()
    kind: str = ""
    of: str = ""
    more: bool = False
    refs: dict[str, tuple[str | None, str | None]] = {}
    containers: dict[str, tuple[Facts | None, Facts | None]] = {}


def read_lines(path: Path) -> list[bytes]:
    """The lines of a log as they are, less the first, and less one that is unfinished. UnknownFormat; Corrupt if the
    first cannot be read."""
    try:
        header, *lines = path.read_bytes().split(b"\n")[:-1] or [b""]
    except FileNotFoundError:
        return []
    if header:
        check_version(header, path)
    return lines


def sealed(fields: Facts) -> bytes:
    """The line that says this, with its newline."""
    data = json.dumps(fields, separators=(",", ":")).encode("ascii")
    return data + seal(data) + b"\n"


def operations_in(path: Path) -> list[Operation]:
    """Every operation of a log, oldest first. UnknownFormat; Corrupt if a line is not as it was written."""
    found: dict[str, Facts] = {}
    for line in read_lines(path):
        fields = fields_of(line, path)
        fields["last"] = dict(fields.get("refs", {}))
        known = found.setdefault(fields["op"], fields)
        known["more"] = fields.get("more", False)
        if known is not fields:
            for part in ("refs", "containers"):
                _join(known.setdefault(part, {}), fields.get(part, {}))
            known["last"] = fields["last"]
    return [_operation(fields) for fields in found.values()]


def operation_of(line: bytes) -> str:
    """The id of the operation that a step's line, as we write them, belongs to."""
    return line[len(_BEGIN) :].partition(b'"')[0].decode()


def damaged_lines(path: Path) -> Iterator[str]:
    """What is wrong with a log, for a check. UnknownFormat."""
    try:
        lines = read_lines(path)
    except Corrupt as error:
        yield str(error)
        return
    if _lost_newline(path):
        lines.append(b"")
    for number, line in enumerate(lines, 2):
        if not is_whole(line):
            yield f"line {number} of {path.name} is not as it was written"


def without_damage(path: Path) -> int:
    """Write a log again with damaged lines as they were, if one byte of them has changed, and otherwise without them;
    returns how many went. The caller holds the lock on refs."""
    _, *lines, end = path.read_bytes().split(b"\n")
    if _lost_newline(path):
        lines.append(end[:-1])
    mended = [line if is_whole(line) else restored(line) for line in lines]
    kept = [line for line in mended if line is not None and is_whole(line)]
    replace_file(path, HEADER + b"".join(line + b"\n" for line in kept))
    return len(lines) - len(kept)


def _lost_newline(path: Path) -> bool:
    """Whether the log ends with a line and one byte more that is no newline: nobody leaves it so who is killed."""
    return path.exists() and is_whole(path.read_bytes().rpartition(b"\n")[2][:-1])


def is_whole(line: bytes) -> bool:
    """Whether a line is as it was written."""
    with contextlib.suppress(Corrupt):
        return bool(fields_of(line, Path()))
    return False


def check_version(header: bytes, path: Path) -> None:
    """Refuse a log whose first line is another than ours. UnknownFormat or Corrupt."""
    found = _HEADER.fullmatch(header)
    if found is None:
        raise Corrupt(f"{path} is damaged: it does not begin as an operation log", path=str(path))
    if int(found[1]) != VERSION:
        message = f"{path} has version {int(found[1])}, this program knows {VERSION}"
        raise UnknownFormat(message, path=str(path), found=int(found[1]))


def fields_of(line: bytes, path: Path) -> Facts:
    """What a line says. Corrupt."""
    try:
        if line[-_SEAL_SIZE:] == seal(line[:-_SEAL_SIZE]):
            fields: Facts = _parsed(line[:-_SEAL_SIZE])
            msgspec.convert(fields, _Step)
            return fields
    except (ValueError, RecursionError, msgspec.ValidationError):
        pass
    raise Corrupt(f"{path} is damaged: a line of it is not as it was written", path=str(path))


def _parsed(data: bytes) -> Any:
    """Of 10,000 lines, the standard library takes 300 ms; but it knows names that are no UTF-8. ValueError."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(data)


def _operation(fields: Facts) -> Operation:
    return Operation(
        fields["op"], fields.get("time", 0), fields.get("who", ""), tuple(fields.get("args", ())),
        cast(Kind, fields.get("kind", "")), fields.get("of", ""),
        {ref: Change(*change) for ref, change in fields.get("refs", {}).items()},
        {name: ContainerChange(*change) for name, change in fields.get("containers", {}).items()},
        {ref: old for ref, (old, _) in fields["last"].items()}, fields.get("more", False),
    )  # fmt: skip


def _join(known: dict[str, list[Any]], later: Mapping[str, Sequence[Any]]) -> None:
    """Several changes of one thing are one: from where the first began to where the last ended."""
    for name, (old, new) in later.items():
        known[name] = [known[name][0] if name in known else old, new]


def _ids_in(value: Any) -> set[str]:
    """Every id of a git object in a record."""
    if isinstance(value, str):
        return {value} if _ID.fullmatch(value) else set()
    parts: Collection[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_ids_in, parts))


def printable(word: str) -> str:
    """A word as JSON in ASCII can have it."""
    return word.encode("utf-8", "backslashreplace").decode()
