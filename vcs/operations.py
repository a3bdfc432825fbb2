"""The operation log: what each command did to refs and containers, so that it can be taken back (vcs.takingback).

An operation is what one command changed, or one piece of work that nobody asked for, such as an automatic commit. It is
one or more lines of `STORE/operations.log`, each with a step: changes that are made at once, under the lock on refs, so
that lines of several processes lie one after another. A step's line is written *before* its changes are made, and taken
away again if they cannot be: a process that is killed in between leaves a line that says more than was done, which is
harmless, and never a change that no line tells of. The log is made durable once, at the end (flush): what a power cut
takes is the memory of the last commands, never what they did.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from vcs.durable import read_all, replace_file, sync_directory
from vcs.errors import NotFound
from vcs.gitwords import Author, clean
from vcs.keptreflogs import KeptReflogs
from vcs.operationlines import (
    HEADER,
    Facts,
    Kind,
    Operation,
    check_version,
    fields_of,
    operation_of,
    operations_in,
    printable,
    read_lines,
    sealed,
)

_BACK = re.compile(r"(.*)~(\d{1,9})", re.DOTALL)


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
        self._head = {"args": [printable(word) for word in args], **({"kind": kind, "of": of} if kind else {})}
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
            fields["who"] = printable(f"{clean(who.name)} <{clean(who.email)}>") if who else ""
            fields |= self._head if self._id else {"args": [printable(reason)]}
        if refs:
            fields["refs"] = refs
        if containers:
            fields["containers"] = containers
        if self._has_more:
            fields["more"] = True
        return sealed(fields)

    def append(self, line: bytes) -> int:
        """Add a line; returns the size that the log had. Whatever is unfinished at its end is cut off first."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                size = read_all(fd, size).rfind(b"\n") + 1
                os.ftruncate(fd, size)
            if size:
                check_version(os.pread(fd, 80, 0).split(b"\n")[0], self.path)
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
        if self._dirty:
            self._dirty = False
            with contextlib.suppress(OSError):
                self.sync()

    def sync(self) -> None:
        """Make durable what is in the log, whoever has added it. OSError."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
            is_new = os.pread(fd, 1 << 16, 0).count(b"\n") <= 2  # its name may be new too
        finally:
            os.close(fd)
        if is_new:
            sync_directory(self.path.parent)
        self._dirty = False

    # -- reading

    def read(self) -> list[Operation]:
        """Every operation, oldest first. UnknownFormat; Corrupt if a line is not as it was written."""
        state = self._state()
        if state != self._read_at:
            self._read, self._read_at = operations_in(self.path), state
        return list(self._read)

    def _state(self) -> tuple[int, ...] | None:
        """Changes whenever the file does; None without one."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

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
            told = [(line, fields_of(line, self.path)["op"]) for line in self.lines()]
            kept = b"".join(line + b"\n" for line, operation in told if operation not in gone)
            replace_file(self.path, HEADER + kept)
            self.kept.expire(0, {operation for _, operation in told} - gone)
        return len(gone)

    def lines(self) -> list[bytes]:
        """Its lines as they are (operationlines.read_lines)."""
        return read_lines(self.path)
