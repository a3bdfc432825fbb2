"""What git says of the files of a repository, read without its library (gitformat-pack(5))."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vcs.durable import sync_all, sync_directory
from vcs.errors import Corrupt

_HEADER = "# pack-refs with: peeled fully-peeled sorted \n"
"""Of a file that we make: what it names are commits, which need not be peeled."""
_PACKED_REF = re.compile(r"([0-9a-f]{40}) (refs/\S+)\n")


def is_summed(data: bytes) -> bool:
    """Whether a file ends with the SHA-1 of what is before, as packs and their indexes do."""
    return hashlib.sha1(memoryview(data)[:-20]).digest() == data[-20:]


def check_pack_indexes(packs: Path) -> None:
    """Corrupt if a pack's index is damaged. libgit2 does not look, and its process dies of an offset beyond the pack
    (1.9.7). Takes 1 ms for 10,000 commits."""
    for name in os.listdir(packs) if packs.is_dir() else ():
        if not name.endswith(".idx"):
            continue
        with contextlib.suppress(FileNotFoundError):  # removed by gc just now
            if not is_summed((packs / name).read_bytes()):
                raise Corrupt(f"the history's pack index {name} is damaged", path=str(packs / name))


def packed_refs(repository: Path) -> list[str]:
    """The refs that packed-refs names, whether or not a file of their own overrides it."""
    return [found[2] for line in _packed_lines(repository) if (found := _PACKED_REF.fullmatch(line))]


def drop_overridden(repository: Path) -> int:
    """Remove from packed-refs what refs' own files say otherwise, durably; returns how many lines. The caller holds the
    lock on refs, and removes what only these lines name.

    Git forgets them when it packs refs again. Until then they may name what is gone, and a check could not tell that
    from damage. A line that says the same as the file stays: git may be about to remove the file.
    """
    kept: list[str] = []
    dropped = 0
    for ref, lines in _packed_groups(repository):
        found = _PACKED_REF.fullmatch(lines[0]) if ref else None
        if found and _is_overridden(repository / found[2], found[1]):
            dropped += 1
        else:
            kept += lines
    if dropped:
        _replace_packed(repository, "".join(kept))
    return dropped


def add_refs(repository: Path, refs: Mapping[str, str], logs: Mapping[str, bytes]) -> None:
    """Name commits by refs that are not there yet, durably: all of them or, if the machine stops, none. `logs` are
    their reflogs. The refs are lines of packed-refs: one file for all. The caller holds the lock on refs. OSError, with
    nothing left behind."""
    try:
        _add_logs(repository, logs)
        _add_packed(repository, refs)
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


def _add_packed(repository: Path, refs: Mapping[str, str]) -> None:
    groups = list(_packed_groups(repository)) or [("", [_HEADER])]
    groups += [(ref, [f"{oid} {ref}\n"]) for ref, oid in refs.items()]
    groups.sort(key=lambda group: os.fsencode(group[0]))  # the file says that it is sorted; what is no ref comes first
    _replace_packed(repository, "".join(line for _, lines in groups for line in lines))


def drop_refs(repository: Path, refs: Iterable[str], *, durable: bool = True) -> None:
    """Remove refs and their reflogs, with one flush for each directory that held some, unless they may come back. The
    caller holds the lock on refs. A crash leaves some of them."""
    gone = frozenset(refs)
    groups = list(_packed_groups(repository))
    if any(ref in gone for ref, _ in groups):  # first: a ref that lost its file only would be what its line says
        _replace_packed(repository, "".join(line for ref, lines in groups if ref not in gone for line in lines))
    touched = set()
    for ref in sorted(gone):
        for top in (repository, repository / "logs"):
            path = top / ref
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                continue
            remove_empty(path, top / "refs")
            touched.add(next(directory for directory in path.parents if directory.is_dir()))
    for directory in sorted(touched) if durable else ():
        if directory.is_dir():  # else it went with a later one, and its parent is here too
            sync_directory(directory)


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


def _packed_groups(repository: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines of packed-refs by their refs, each with what the tag leads to; under "" what belongs to none."""
    group: tuple[str, list[str]] | None = None
    for line in _packed_lines(repository):
        if line.startswith("^") and group:
            group[1].append(line)
            continue
        if group:
            yield group
        found = _PACKED_REF.fullmatch(line)
        group = found[2] if found else "", [line]
    if group:
        yield group


def _replace_packed(repository: Path, text: str) -> None:
    """As git does it: what is written is the lock at the same time."""
    lock = repository / "packed-refs.lock"
    lock.unlink(missing_ok=True)  # a killed process left it
    with lock.open("x", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    lock.replace(repository / "packed-refs")
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
