"""The reflogs of a git repository, as files: which commits they keep, and the removal of old lines.

A line is `OLD NEW NAME <EMAIL> SECONDS ZONE<TAB>MESSAGE` (gitrepository-layout(5)). libgit2 can append to a reflog and
read it, but not shorten it. Whoever shortens holds the lock on refs.

A line of ours ends with a seal, by which a check can tell of any byte of it that has changed: a blank, `#`, and the
first eight hexadecimal digits of the BLAKE3 of all that is before. To git it is the end of the message. Lines of other
programs have none, and nobody can tell whether their words are as they were. A flip in a seal does not make a line one
of those: it is one byte away from the seal that the line should have.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import ne
from pathlib import Path

from blake3 import blake3

from vcs.durable import read_all, replace_file, sync_directory
from vcs.existing import files_below
from vcs.gitwords import NO_ID
from vcs.model import CommitId

_LINE = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) .*> (\d{1,20}) [-+]\d{4}(?:\t|$)")
_ASIDE = "reflog.new"
_ZERO = NO_ID.encode()
_SEAL = re.compile(rb" #[0-9a-f]{8}")
_SEAL_SIZE = 10


@dataclass(frozen=True, slots=True)
class RefChange:
    """One line of a ref's reflog, newest first at index 0. An id of None stands for "no commit"."""

    index: int
    old: CommitId | None
    new: CommitId
    who: str
    time: int
    message: str


def seal(line: bytes) -> bytes:
    """What a line, which has no seal yet and no newline, is to end with."""
    return b" #" + blake3(line).hexdigest()[: _SEAL_SIZE - 2].encode()


def is_damaged(line: bytes) -> bool:
    """Whether a line (without its newline) was sealed, and is not as it was then."""
    rest, found = line[:-_SEAL_SIZE], line[-_SEAL_SIZE:]
    right = seal(rest)
    if found == right:
        return False
    return bool(_SEAL.fullmatch(found)) or sum(map(ne, found, right)) == 1


def restored(line: bytes) -> bytes | None:
    """A damaged line as it was, if one byte of it has changed; None if more has."""
    for position in range(len(line)):
        for value in range(256):
            tried = line[:position] + bytes([value]) + line[position + 1 :]
            if tried.endswith(seal(tried[:-_SEAL_SIZE])):
                return tried
    return None


def without_seal(text: bytes) -> bytes:
    """A line, or the message that ends it, less the seal if there is one, right or not."""
    return text[:-_SEAL_SIZE] if _SEAL.fullmatch(text[-_SEAL_SIZE:]) else text


def with_old(line: bytes, old: bytes) -> bytes:
    """A line that comes from another id. Sealed again, if it was and is as it was then."""
    rest, found = line[:-_SEAL_SIZE], line[-_SEAL_SIZE:]
    if found != seal(rest):
        return old + line[len(old) :]
    rest = old + rest[len(old) :]
    return rest + seal(rest)


@contextlib.contextmanager
def heads_line(repository: Path, ref: str) -> Iterator[list[bytes]]:
    """While git's library moves a ref: what it adds to HEAD's reflog is to be the line that the block puts into the
    list it gets, sealed and with its newline, or nothing.

    libgit2 writes HEAD's line when it moves HEAD's branch. If it cannot find out where that was, whatever the reason
    (no descriptor is left, say), it takes it that there was none, and goes on (1.9.7, maybe_append_head in
    refdb_fs.c). So the file is open before: afterwards it might not be to be had.
    """
    if heads_branch(repository) != ref:
        yield []
        return
    try:
        file = os.open(log_path(repository, "HEAD"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:  # no ref has moved yet, so there is no line but one that comes from nothing
        yield []
        return
    lines: list[bytes] = []
    try:
        size = os.fstat(file).st_size
        try:
            yield lines
        finally:
            _put_right(file, size, b"".join(lines))
    finally:
        os.close(file)


def have_line(repository: Path, ref: str, line: bytes) -> None:
    """See that the reflog of a ref that was just moved ends with this line. OSError.

    Where git's library cannot look at its settings, whatever the reason, it takes them for none, and writes no reflog
    (1.9.7, should_write_reflog in refdb_fs.c).
    """
    path = log_path(repository, ref)
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(file).st_size
        if read_all(file, len(line), max(0, size - len(line))) == line:
            return
        os.pwrite(file, line, size)
        os.fsync(file)
    finally:
        os.close(file)
    sync_directory(path.parent)


def heads_branch(repository: Path) -> str | None:
    """The full name of the branch that HEAD is, whether or not there is one; None if HEAD is none."""
    text = (repository / "HEAD").read_bytes()
    return os.fsdecode(text.removeprefix(b"ref: ").strip()) if text.startswith(b"ref: ") else None


def _put_right(file: int, size: int, line: bytes) -> None:
    """What was added to a file that had this size is made this line, or is taken away."""
    added = read_all(file, os.fstat(file).st_size - size, size)
    if added == line:
        return
    if len(added) in (0, len(line)):
        os.pwrite(file, line, size)
    else:
        os.ftruncate(file, size)
    os.fsync(file)


def young_ids(repository: Path, since: float, refs: Container[str]) -> set[str]:
    """The ids in lines that are not older than `since` (seconds since 1970): where refs came from, and went.

    `refs` are the refs that there are, HEAD among them.
    """
    return set().union(*young_ids_by_ref(repository, since, refs).values())


def young_ids_by_ref(repository: Path, since: float, refs: Container[str]) -> dict[str, set[str]]:
    """The same for each of the refs that has a reflog."""
    by_ref = {}
    for name, path in _logs(repository):
        by_ref[name] = ids_in(lines_of(path), since) if name in refs else set()
    return by_ref


def ids_in(lines: Iterable[bytes], since: float) -> set[str]:
    """The ids in those of the lines that are not older than `since`."""
    found: set[bytes] = set()
    for line in lines:
        match = _LINE.match(line)
        if match and int(match[3]) >= since:
            found.update(match.group(1, 2))
    return {raw.decode() for raw in found - {_ZERO}}


def id_at(repository: Path, ref: bytes, time: int) -> tuple[str | None, str | None]:
    """The id that a ref named at a time (seconds since 1970). If its reflog begins later: None, and the id that it
    begins with, None again without one."""
    lines = lines_of(Path(os.fsdecode(os.fsencode(repository) + b"/logs/" + ref)))
    first = None
    for line in reversed(lines):
        match = _LINE.match(line)
        if match:
            if int(match[3]) <= time:
                return match[2].decode(), None
            first = match[2] if match[1] == _ZERO else match[1]
    return None, first.decode() if first else None


def count_old(repository: Path, since: float, refs: Mapping[str, str]) -> int:
    """How many lines expire() would remove."""
    return sum(len(lines) - len(kept) for _, _, lines, kept in _expired(repository, since, refs))


def expire(repository: Path, since: float, refs: Mapping[str, str]) -> int:
    """Remove the lines that are older than `since`, durably; returns how many.

    The line that led a ref to where it is stays; if it is old, then without the id that
    the ref had before, as `git reflog expire --rewrite` writes it. A reflog without a ref, which a process leaves that
    is killed while it makes the ref, goes whatever its age, as deleting the ref would have removed it.
    """
    removed = 0
    for name, path, lines, kept in list(_expired(repository, since, refs)):
        if name in refs:
            _write(repository, path, kept)
        else:
            path.unlink(missing_ok=True)
        removed += len(lines) - len(kept)
    return removed


def carry_on(repository: Path, before: str, ref: str) -> None:
    """Have a ref's reflog go on where that of `before` ends, durably: its newest line, with all of the other's in
    front. Nothing happens if one of the two has no lines."""
    lines, own = (lines_of(log_path(repository, name)) for name in (before, ref))
    ended = _end(lines)
    if ended is not None and own:
        _write(repository, log_path(repository, ref), [*lines, with_old(own[-1], ended)])


def bring_back(repository: Path, ref: str, lines: Sequence[bytes]) -> None:
    """Have a ref that was made again have the reflog that it had, durably: continued()."""
    own = lines_of(log_path(repository, ref))
    found = continued(lines, own)
    if found != own:
        _write(repository, log_path(repository, ref), found)


def continued(lines: Sequence[bytes], own: Sequence[bytes]) -> list[bytes]:
    """The reflog of a ref that was made again: what it had, and what it has now. Its own first line, which made it, is
    left out if the reflog ends where that leads. It stays as it is if it has those lines already, or if there are none.
    """
    made, ended = _LINE.match(own[0]) if own else None, _end(lines)
    if ended is None or made is None or made[1] != _ZERO or own[: len(lines)] == [*lines]:
        return [*own]
    first = [] if made[2] == ended else [with_old(own[0], ended)]
    return [*lines, *first, *own[1:]]


def rewound(lines: Sequence[bytes], old: str | None, new: str | None) -> list[bytes]:
    """The lines that a reflog had when its ref was at `old`, before it went to `new`. None for either stands for "no
    commit", of which a reflog has no line. Where it does not tell of them, its lines are left as they are."""
    kept = list(lines)
    if new is not None:
        kept = kept[: _last_to(kept, new, len(kept))]
    if old is not None:
        kept = kept[: _last_to(kept, old, len(kept)) + 1]
    return kept


def _last_to(lines: Sequence[bytes], oid: str, otherwise: int) -> int:
    """The number of the last line that leads to an id."""
    found = (number for number in reversed(range(len(lines))) if _leads_to(lines[number], oid))
    return next(found, otherwise)


def _leads_to(line: bytes, oid: str) -> bool:
    match = _LINE.match(line)
    return match is not None and match[2] == oid.encode()


def _end(lines: Sequence[bytes]) -> bytes | None:
    """Where a reflog leads to."""
    return next((match[2] for line in reversed(lines) if (match := _LINE.match(line))), None)


def drop(repository: Path, refs: Collection[str], gone: Container[str]) -> int:
    """Remove from these refs' reflogs the lines that lead to an id in `gone`, durably; returns how many. A line that
    came from one comes from what is left before it."""
    removed = 0
    for name, path in list(_logs(repository)):
        if name in refs:
            lines = lines_of(path)
            kept = without(lines, gone)
            if kept != lines:
                _write(repository, path, kept)
                removed += len(lines) - len(kept)
    return removed


def without(lines: Sequence[bytes], gone: Container[str]) -> list[bytes]:
    """The lines, less those that lead to an id in `gone`."""
    kept = []
    last = _ZERO
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            kept.append(line)
        elif match[2].decode() not in gone:
            kept.append(with_old(line, last) if match[1].decode() in gone else line)
            last = match[2]
    return kept


def _expired(
    repository: Path, since: float, refs: Mapping[str, str]
) -> Iterator[tuple[str, Path, list[bytes], list[bytes]]]:
    """The reflogs that expire() changes: what they hold, and what of it stays."""
    for name, path in _logs(repository):
        lines = lines_of(path)
        kept = shortened(lines, since, refs[name]) if name in refs else []
        if kept != lines or name not in refs:
            yield name, path, lines, kept


def shortened(lines: list[bytes], since: float, target: str | None = None) -> list[bytes]:
    """What expire() leaves of the reflog of a ref that is at `target`; where the reflog ends, if that is not given."""
    if target is None:
        target = (_end(lines) or _ZERO).decode()
    matches = [_LINE.match(line) for line in lines]
    # Not always the last: a killed process may have written a line and not moved the ref.
    newest = max((n for n, match in enumerate(matches) if match and match[2].decode() == target), default=-1)
    kept = []
    for number, (line, match) in enumerate(zip(lines, matches, strict=True)):
        if match is None or int(match[3]) >= since:
            kept.append(line)  # who knows what a line says that is none of git's
        elif number == newest:
            kept.append(with_old(line, _ZERO))
    return kept


def remove_remains(repository: Path) -> None:
    """Remove what a rewriting that was not finished left. The caller holds the lock on refs."""
    (repository / _ASIDE).unlink(missing_ok=True)


def _write(repository: Path, path: Path, lines: list[bytes]) -> None:
    """Not aside in the same directory: whatever lies there is a reflog to git. A power cut may leave both names."""
    replace_file(path, b"".join(line + b"\n" for line in lines), aside=repository / _ASIDE)


def _logs(repository: Path) -> Iterator[tuple[str, Path]]:
    """Every reflog, by the name of its ref."""
    top = repository / "logs"
    for path in files_below(top):
        if path.suffix != ".lock":
            yield str(path.relative_to(top)), path


def log_path(repository: Path, ref: str) -> Path:
    """Where a ref's reflog is."""
    return repository / "logs" / ref


def lines_of(path: Path) -> list[bytes]:
    """The lines of a reflog, oldest first, without their newlines; none if there is no such file."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []  # its ref was deleted just now
