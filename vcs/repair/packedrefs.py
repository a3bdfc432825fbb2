"""packed-refs: lines that make no sense go, and what git wants to know beside the others is written anew.

By then each ref whose line was damaged has a file again, by its reflog. Nothing goes that still names a commit which no
other ref names: then the file stays as it is, and the check that follows tells of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from vcs.check.history import PACKED_FIRST
from vcs.existing import files_below, is_file
from vcs.gitfiles import PACKED_HEADER, packed_groups, replace_packed
from vcs.gitobjects import GitObjects
from vcs.repair.keeping import keep

_ID = re.compile(r"[0-9a-f]{40}")
_TAG = 4
"""pygit2's ObjectType."""


def mend_packed_refs(repository: Path, is_commit: Callable[[str], bool]) -> list[str]:
    """Mend packed-refs; returns what was done. `is_commit` tells whether an id leads to a commit that can be read. The
    caller holds the lock on refs. OSError, Damaged."""
    groups = list(packed_groups(repository))
    kept, others = _sorted_out(repository, groups)
    named = {*kept.values(), *_own_files(repository)}
    for ref, oid in others:
        if oid not in named and is_commit(oid):
            if not ref:
                return []
            kept[ref] = oid
    with closing(GitObjects(repository)) as objects:
        whole = [(ref, _lines(objects, ref, kept[ref])) for ref in sorted(kept, key=os.fsencode)]
    if groups and (groups[0][1][0].rstrip("\n") not in PACKED_FIRST or groups[1:] != whole):
        keep(repository, repository / "packed-refs")
        replace_packed(repository, PACKED_HEADER + "".join(line for _, lines in whole for line in lines))
        return ["what made no sense in packed-refs was removed; it is kept in history.git/damaged/packed-refs"]
    return []


def _sorted_out(repository: Path, groups: list[tuple[str, list[str]]]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The refs that have a reflog, as every ref has, with their ids; and the ids of other lines, which may be what is
    left of one, with what the line names, if it makes sense."""
    kept: dict[str, str] = {}
    others: list[tuple[str, str]] = []
    for ref, lines in groups:
        oid = lines[0][:40]
        if not ref:
            others += [("", oid) for oid in _ID.findall(lines[0])]
        elif not is_file(log := repository / "logs" / ref):
            others.append((ref, oid))
        elif ref not in kept or _last(log) == oid:
            kept[ref] = oid
    return kept, others


def _last(log: Path) -> str:
    """Where a reflog says that its ref is."""
    return log.read_bytes().rstrip(b"\n").rpartition(b"\n")[2][41:81].decode("ascii", "replace")


def _own_files(repository: Path) -> Iterator[str]:
    """The ids in refs' own files."""
    for file in files_below(repository / "refs"):
        yield file.read_text(errors="replace").strip()


def _lines(objects: GitObjects, ref: str, oid: str) -> list[str]:
    """A ref's line, and of a tag with a message the one that says what it leads to (git-pack-refs(1))."""
    lines = [f"{oid} {ref}\n"]
    target = oid
    while (found := objects.read(target))[0] == _TAG:
        target = found[1][len("object ") : len("object ") + 40].decode("ascii", "replace")
    return lines if target == oid else [*lines, f"^{target}\n"]
