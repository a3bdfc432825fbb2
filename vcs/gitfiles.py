"""What git says of the files of a repository, read without its library (gitformat-pack(5))."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from vcs.durable import sync_all, sync_directory
from vcs.errors import Corrupt
from vcs.existing import is_directory, is_file, is_there
from vcs.gitwords import NO_ID

PACKED_HEADER = "# pack-refs with: peeled fully-peeled sorted \n"
"""Of a file that we make: what it names are commits, which need not be peeled."""
PACKED_REF = re.compile(r"([0-9a-f]{40}) (refs/\S+)\n")


def is_summed(data: bytes) -> bool:
    """Whether a file ends with the SHA-1 of what is before, as packs and their indexes do."""
    return hashlib.sha1(memoryview(data)[:-20]).digest() == data[-20:]


def check_pack_indexes(packs: Path) -> None:
    """Corrupt if a pack's index is damaged. libgit2 does not look, and its process dies of an offset beyond the pack
    (1.9.7). Takes 1 ms for 10,000 commits."""
    for name in os.listdir(packs) if is_directory(packs) else ():
        if not name.endswith(".idx"):
            continue
        with contextlib.suppress(FileNotFoundError):  # removed by gc just now
            if not is_summed((packs / name).read_bytes()):
                raise Corrupt(f"the history's pack index {name} is damaged", path=str(packs / name))


def packed_refs(repository: Path) -> list[str]:
    """The refs that packed-refs names, whether or not a file of their own overrides it."""
    return [found[2] for line in _packed_lines(repository) if (found := PACKED_REF.fullmatch(line))]


def drop_overridden(repository: Path) -> int:
    """Remove from packed-refs what refs' own files say otherwise, durably; returns how many lines. The caller holds the
    lock on refs, and removes what only these lines name.

    Git forgets them when it packs refs again. Until then they may name what is gone, and a check could not tell that
    from damage. A line that says the same as the file stays: git may be about to remove the file.
    """
    kept: list[str] = []
    dropped = 0
    for ref, lines in packed_groups(repository):
        found = PACKED_REF.fullmatch(lines[0]) if ref else None
        if found and _is_overridden(repository / found[2], found[1]):
            dropped += 1
        else:
            kept += lines
    if dropped:
        replace_packed(repository, "".join(kept))
    return dropped


def add_refs(repository: Path, refs: Mapping[str, str], logs: Mapping[str, bytes]) -> None:
    """Name commits by refs that are not there yet, durably: all of them or, if the machine stops, none. `logs` are
    their reflogs. The refs are lines of packed-refs: one file for all. The caller holds the lock on refs. OSError, with
    nothing left behind.

    git's lock is there before the reflogs are, durably: where it is, a reflog without a ref is a killed process's.
    """
    with _packed_locked(repository) as file:
        try:
            sync_directory(repository)
            _add_logs(repository, logs)
            _add_packed(repository, refs, file)
        except BaseException:
            with contextlib.suppress(OSError):
                drop_refs(repository, refs)
            raise


def _add_logs(repository: Path, logs: Mapping[str, bytes]) -> None:
    paths = {repository / "logs" / ref: text for ref, text in logs.items()}
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    directories = {above for path in paths for above in path.parents if repository in above.parents}
    sync_all([*paths, *directories])


def _add_packed(repository: Path, refs: Mapping[str, str], file: TextIO) -> None:
    groups = list(packed_groups(repository)) or [("", [PACKED_HEADER])]
    groups += [(ref, [f"{oid} {ref}\n"]) for ref, oid in refs.items()]
    groups.sort(key=lambda group: os.fsencode(group[0]))  # the file says that it is sorted; what is no ref comes first
    _write_packed(repository, "".join(line for _, lines in groups for line in lines), file)


def drop_refs(repository: Path, refs: Iterable[str], *, durable: bool = True) -> None:
    """Remove refs and their reflogs, with up to three flushes for each directory that held some, unless they may come
    back. The caller holds the lock on refs. A crash leaves some of them.

    A ref that goes becomes git's lock on it, until its reflog is gone: see is_interrupted().
    """
    gone = frozenset(refs)
    groups = list(packed_groups(repository))
    if packed := {ref for ref, _ in groups if ref in gone}:
        locks = [repository / f"{ref}.lock" for ref in packed if not is_there(repository / ref)]
        for lock in locks:
            lock.parent.mkdir(parents=True, exist_ok=True)
            lock.touch()
        _sync_directories(lock.parent for lock in locks if durable)
        # First: a ref that lost its file only would be what its line says.
        replace_packed(repository, "".join(line for ref, lines in groups if ref not in gone for line in lines))
    locked = set()
    for ref in gone:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if is_file(repository / ref):
                (repository / f"{ref}.lock").unlink(missing_ok=True)  # of the same file, replace() would do nothing
                (repository / ref).replace(repository / f"{ref}.lock")
                locked.add((repository / ref).parent)
    # Each before the next: btrfs keeps no order among directories.
    _sync_directories(path for path in locked if durable)
    touched = _drop_files(repository / "logs", gone)
    _sync_directories(path for path in touched if durable)
    touched = _drop_files(repository, (f"{ref}.lock" for ref in gone))
    _sync_directories(path for path in touched if durable)


def _sync_directories(paths: Iterable[Path]) -> None:
    """Make the names in directories durable; one that is gone went with another, and the one above it is here too."""
    sync_all([path for path in sorted(set(paths)) if is_directory(path)])


def _drop_files(top: Path, names: Iterable[str]) -> set[Path]:
    """Remove files of refs below a directory. Returns the directories that have changed."""
    touched = set()
    for name in sorted(names):
        path = top / name
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        remove_empty(path, top / "refs")
        touched.add(next(directory for directory in path.parents if is_directory(directory)))
    return touched


def is_interrupted(repository: Path, ref: str, lines: Iterable[str]) -> bool:
    """Whether a ref that is not there, but has a reflog of these lines, is one that a killed process was about to make
    or to remove: the reflog comes first and goes last, under git's lock. The lock on packed-refs is for new refs."""
    if is_there(repository / f"{ref}.lock"):
        return True
    return is_there(repository / "packed-refs.lock") and all(line.startswith(NO_ID) for line in lines)


def remove_stale(repository: Path) -> bool:
    """Remove git's `.lock` files that killed processes left, and before them the reflogs of refs that they did not come
    to make, or have removed. Returns whether there were any. The caller holds the lock on refs."""
    stale = [*repository.glob("*.lock"), *(repository / "refs").rglob("*.lock")]
    if not stale:
        return False
    logs = repository / "logs"
    found = [log.relative_to(logs).as_posix() for log in (logs / "refs").rglob("*") if log.is_file()]
    drop_interrupted(repository, found)
    for lock in stale:
        lock.unlink(missing_ok=True)
        remove_empty(lock, repository / "refs")
    return True


def drop_interrupted(repository: Path, refs: Iterable[str], *, is_ours: bool = False) -> None:
    """Remove the reflogs of refs that are not there and that somebody began to make or to remove; `is_ours`: we have,
    just now. The caller holds the lock on refs."""
    packed = frozenset(packed_refs(repository))
    for ref in refs:
        log = repository / "logs" / ref
        if ref in packed or is_file(repository / ref) or not is_file(log):
            continue
        if is_ours or is_interrupted(repository, ref, log.read_text(errors="surrogateescape").splitlines()):
            _drop_files(repository / "logs", [ref])


def _is_overridden(file: Path, oid: str) -> bool:
    try:
        return file.read_text(errors="replace").strip() not in ("", oid)
    except OSError:
        return False


def _packed_lines(repository: Path) -> list[str]:
    try:
        return (repository / "packed-refs").read_text(errors="surrogateescape").splitlines(keepends=True)
    except FileNotFoundError:
        return []


def packed_groups(repository: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines of packed-refs by their refs, each with what the tag leads to; under "" what belongs to none."""
    group: tuple[str, list[str]] | None = None
    for line in _packed_lines(repository):
        if line.startswith("^") and group:
            group[1].append(line)
            continue
        if group:
            yield group
        found = PACKED_REF.fullmatch(line)
        group = found[2] if found else "", [line]
    if group:
        yield group


def replace_packed(repository: Path, text: str) -> None:
    """Write packed-refs anew, durably. The caller holds the lock on refs."""
    with _packed_locked(repository) as file:
        _write_packed(repository, text, file)


@contextlib.contextmanager
def _packed_locked(repository: Path) -> Iterator[TextIO]:
    """As git does it: what is written is the lock at the same time."""
    lock = repository / "packed-refs.lock"
    if is_there(lock):
        remove_stale(repository)  # a killed process left it
    with lock.open("x", errors="surrogateescape") as file:
        try:
            yield file
        except BaseException:
            lock.unlink(missing_ok=True)
            raise


def _write_packed(repository: Path, text: str, file: TextIO) -> None:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
    os.replace(file.name, repository / "packed-refs")
    sync_directory(repository)


def remove_empty(path: Path, top: Path) -> None:
    """Remove the directories that held a file and are empty now; those directly in `top` (heads, tags) stay."""
    for directory in path.parents:
        if directory.parent in (top, top.parent):
            return
        try:
            directory.rmdir()
        except OSError:
            return
