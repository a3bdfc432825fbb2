"""The operation log: what each command did to refs and containers, so that it can be taken back (vcs.takingback).

An operation is what one command changed, or one piece of work that nobody asked for, such as an automatic commit. It is
one or more lines of `STORE/operations.log`, each with a step: changes that are made at once, under the lock on refs, so
that lines of several processes lie one after another. A step's line is written *before* its changes are made, and taken
away again if they cannot be: a process that is killed in between leaves a line that says more than was done, which is
harmless, and never a change that no line tells of. The log is made durable once, at the end (flush): what a power cut
takes is the memory of the last commands, never what they did.

A line is JSON in ASCII and ends with a seal as a reflog's (vcs.reflogs). What a killed process has written half, or a
power cut has left, is an end without a newline: no reader looks at it, and the next writer cuts it off.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import msgspec

from vcs.durable import replace_file, sync_directory
from vcs.errors import Corrupt, NotFound, UnknownFormat
from vcs.gitwords import Author, clean
from vcs.keptreflogs import KeptReflogs
from vcs.reflogs import restored, seal

VERSION = 1
HEADER = b"treering operations %d\n" % VERSION
_HEADER = re.compile(rb"treering operations (\d{1,9})")
_ID = re.compile(r"[0-9a-f]{40}")
_SEAL_SIZE = 10
_BACK = re.compile(r"(.*)~(\d{1,9})", re.DOTALL)
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


class Operations:
    """The log of one store. Whoever adds to it holds the lock on refs (History.locked)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = KeptReflogs(path.with_suffix(".reflogs"), path.with_name("history.git"))
        """The reflogs of the refs that operations have deleted."""
        self._id = ""
        self._head: Facts = {}
        self._who: Callable[[], Author] | None = None
        self._begun = False
        self._has_more = False
        self._silent = 0
        self._dirty = False
        self._read: list[Operation] = []
        self._read_at: tuple[int, ...] | None = None

    @property
    def current(self) -> str:
        """The id of the operation that was begun; empty if none was."""
        return self._id

    @property
    def moves(self) -> Path:
        """Where vcs.takingback writes down what it is about to move."""
        return self.path.with_suffix(".moves")

    # -- writing

    def begin(
        self, args: Sequence[str], who: Callable[[], Author] | None = None, kind: Kind = "", of: str = "",
        *, has_end: bool = False,
    ) -> None:  # fmt: skip
        """From now on, what this process changes is one operation. Nothing is written until it changes something.

        `who` is asked only if no change comes with an author. `has_end`: it is partial until begin_last_step(); if the
        newest one is, of the same kind and of the same operation, it is gone on with.
        """
        self._id, self._begun, self._has_more = os.urandom(6).hex(), False, has_end
        for newest in self.read()[-1:] if kind else ():
            if newest.is_partial and (newest.kind, newest.of) == (kind, of):
                self._id, self._begun = newest.id, True
        self._head = {"args": [_printable(word) for word in args], **({"kind": kind, "of": of} if kind else {})}
        self._who = who

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Note nothing of what is changed inside: it is no work of anybody's, or has been noted already."""
        self._silent += 1
        try:
            yield
        finally:
            self._silent -= 1

    @contextlib.contextmanager
    def noting(
        self,
        refs: Mapping[str, tuple[str | None, str | None]] | None = None,
        containers: Mapping[str, tuple[Facts | None, Facts | None]] | None = None,
        author: Author | None = None,
        reason: str = "",
    ) -> Iterator[None]:
        """Note a step that the block takes; nothing is noted if it fails. The caller holds the lock on refs.

        A step that belongs to no operation that was begun is one by itself, called by its `reason`.
        """
        if self._silent or not (refs or containers):
            yield
            return
        line, was_begun = self.line(refs, containers, author, reason), self._begun
        gone = [ref for ref, (_, new) in (refs or {}).items() if new is None]
        try:
            size = self.append(line)
        except OSError as error:
            made = [change[1] for part in (refs, containers) for change in (part or {}).values()]
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or any(made):
                raise
            yield  # a full disk keeps nobody from removing
            return
        kept = self.kept.keep(operation_of(line), gone)
        try:
            yield
        except BaseException:
            self._begun = was_begun
            self.kept.forget(kept)
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
            raise

    def line(
        self,
        refs: Mapping[str, tuple[str | None, str | None]] | None,
        containers: Mapping[str, tuple[Facts | None, Facts | None]] | None = None,
        author: Author | None = None,
        reason: str = "",
    ) -> bytes:
        """The line of a step, sealed, with its newline."""
        fields: Facts = {"op": self._id or os.urandom(6).hex()}
        if not self._begun:
            who = author or (self._who() if self._who else None)
            fields["time"] = int(time.time())
            fields["who"] = _printable(f"{clean(who.name)} <{clean(who.email)}>") if who else ""
            fields |= self._head if self._id else {"args": [_printable(reason)]}
        if refs:
            fields["refs"] = refs
        if containers:
            fields["containers"] = containers
        if self._has_more:
            fields["more"] = True
        data = json.dumps(fields, separators=(",", ":")).encode("ascii")
        return data + seal(data) + b"\n"

    def append(self, line: bytes) -> int:
        """Add a line; returns the size that the log had. Whatever is unfinished at its end is cut off first."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                size = os.pread(fd, size, 0).rfind(b"\n") + 1
                os.ftruncate(fd, size)
            if size:
                _check_version(os.pread(fd, 80, 0).split(b"\n")[0], self.path)
            data = line if size else HEADER + line
            try:
                if os.pwrite(fd, data, size) != len(data):
                    os.pwrite(fd, data, size)  # a full disk says so the second time
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
        self._dirty = True
        self._begun = self._begun or operation_of(line) == self._id
        return size

    def begin_last_step(self) -> None:
        """What is noted from now on is the end of the operation."""
        self._has_more = False

    def note_end(self, author: Author) -> None:
        """Note that an operation is over, where that is not said yet: also one that has changed nothing counts. The
        caller holds the lock."""
        if not self._begun or any(one.id == self._id and one.is_partial for one in self.read()):
            self.append(self.line(None, None, author))

    def has(self, line: bytes) -> bool:
        """Whether the log has this very line."""
        return line.removesuffix(b"\n") in self.lines()

    def flush(self) -> None:
        """Make durable what was added. What cannot be is no error: what was done is durable, only its memory is not."""
        self.kept.flush()
        if not self._dirty:
            return
        self._dirty = False
        with contextlib.suppress(OSError):
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
                is_new = os.pread(fd, 1 << 16, 0).count(b"\n") <= 2  # its name may be new too
            finally:
                os.close(fd)
            if is_new:
                sync_directory(self.path.parent)

    # -- reading

    def read(self) -> list[Operation]:
        """Every operation, oldest first. UnknownFormat; Corrupt if a line is not as it was written."""
        state = self._state()
        if state != self._read_at:
            self._read, self._read_at = self._read_anew(), state
        return list(self._read)

    def _state(self) -> tuple[int, ...] | None:
        """Changes whenever the file does; None without one."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _read_anew(self) -> list[Operation]:
        found: dict[str, Facts] = {}
        for line in self.lines():
            fields = _fields(line, self.path)
            fields["last"] = dict(fields.get("refs", {}))
            known = found.setdefault(fields["op"], fields)
            known["more"] = fields.get("more", False)
            if known is not fields:
                for part in ("refs", "containers"):
                    _join(known.setdefault(part, {}), fields.get(part, {}))
                known["last"] = fields["last"]
        return [_operation(fields) for fields in found.values()]

    def find(self, name: str) -> Operation:
        """The operation whose id this is, or begins so; `@` is the newest, and `~N` after either means N operations
        before. NotFound."""
        everything = self.read()
        found = _BACK.fullmatch(name)
        begin, back = (found[1], int(found[2])) if found else (name, 0)
        newest = range(len(everything))[-1:]
        matches = newest if begin == "@" else [n for n, one in enumerate(everything) if one.id.startswith(begin)]
        if begin and len(matches) > 1:
            raise NotFound(f"{begin!r} begins the ids of several operations", operation=name)
        if not begin or not matches or matches[0] < back:
            raise NotFound(f"no operation {name!r}", operation=name)
        return everything[matches[0] - back]

    def young_ids(self, since: float) -> set[str]:
        """The ids that operations name which are not older than `since` (seconds since 1970), and what lines as young
        do in the reflogs that are kept for them."""
        young = {one.id: one.ids for one in self.read() if one.time >= since}
        return self.kept.young_ids(since, young).union(*young.values())

    # -- forgetting. The caller holds the lock on refs.

    def expire(self, since: float) -> int:
        """Remove the operations that are older than `since`, durably, and as old lines of the reflogs that are kept for
        the others; returns how many operations."""
        count = self.drop(one.id for one in self.read() if one.time < since)
        self.kept.expire(since, {one.id for one in self.read()})
        return count

    def drop(self, operations: Iterable[str]) -> int:
        """Remove operations by their ids, durably; returns how many."""
        gone = frozenset(operations)
        if gone:
            told = [(line, _fields(line, self.path)["op"]) for line in self.lines()]
            kept = b"".join(line + b"\n" for line, operation in told if operation not in gone)
            replace_file(self.path, HEADER + kept)
            self.kept.expire(0, {operation for _, operation in told} - gone)
        return len(gone)

    def lines(self) -> list[bytes]:
        """The lines as they are, less the first, and less one that is unfinished. UnknownFormat; Corrupt if the first
        cannot be read."""
        try:
            header, *lines = self.path.read_bytes().split(b"\n")[:-1] or [b""]
        except FileNotFoundError:
            return []
        if header:
            _check_version(header, self.path)
        return lines


def operation_of(line: bytes) -> str:
    """The id of the operation that a step's line, as we write them, belongs to."""
    return line[len(_BEGIN) :].partition(b'"')[0].decode()


def damaged_lines(path: Path) -> Iterator[str]:
    """What is wrong with a log, for a check. UnknownFormat."""
    try:
        lines = Operations(path).lines()
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
        return bool(_fields(line, Path()))
    return False


def _check_version(header: bytes, path: Path) -> None:
    found = _HEADER.fullmatch(header)
    if found is None:
        raise Corrupt(f"{path} is damaged: it does not begin as an operation log", path=str(path))
    if int(found[1]) != VERSION:
        message = f"{path} has version {int(found[1])}, this program knows {VERSION}"
        raise UnknownFormat(message, path=str(path), found=int(found[1]))


def _fields(line: bytes, path: Path) -> Facts:
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


def _printable(word: str) -> str:
    return word.encode("utf-8", "backslashreplace").decode()
