"""packed-refs: lines that make no sense go, and what git wants to know beside the others is written anew.

By then each ref whose line was damaged has a file again, by its reflog. A ref without a reflog goes only if its name is
that of another one, but for a byte, which is or was at that commit. Nothing goes that still names a commit which no
other ref names: then the file stays as it is, and the check that follows tells of it.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from vcs.check.history import PACKED_FIRST
from vcs.existing import files_below, is_file
from vcs.gitfiles import PACKED_HEADER, packed_groups, replace_packed
from vcs.gitobjects import KINDS, GitObjects
from vcs.repair.keeping import keep

_ID = re.compile(r"[0-9a-f]{40}")
_NO_NAME = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")
"""What no ref has in its name (git-check-ref-format(1))."""


def mend_packed_refs(repository: Path, is_commit: Callable[[str], bool]) -> list[str]:
    """Mend packed-refs; returns what was done. `is_commit` tells whether an id leads to a commit that can be read. The
    caller holds the lock on refs. OSError, Damaged."""
    groups = list(packed_groups(repository))
    kept, unlogged, torn = _sorted_out(repository, groups)
    kept |= {ref: oid for ref, oid in unlogged.items() if not _is_slip(repository / "logs", ref, oid)}
    named = {*kept.values(), *_own_files(repository)}
    if any(oid not in named and is_commit(oid) for oid in torn):
        return []
    with closing(GitObjects(repository)) as objects:
        whole = [(ref, _lines(objects, ref, kept[ref])) for ref in sorted(kept, key=os.fsencode)]
    if groups and (groups[0][1][0].rstrip("\n") not in PACKED_FIRST or groups[1:] != whole):
        keep(repository, repository / "packed-refs")
        replace_packed(repository, PACKED_HEADER + "".join(line for _, lines in whole for line in lines))
        return ["what made no sense in packed-refs was removed; it is kept in history.git/damaged/packed-refs"]
    return []


def _sorted_out(
    repository: Path, groups: list[tuple[str, list[str]]]
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """The refs that have a reflog, as every ref has, with their ids; those that have none; and the ids in what makes no
    sense."""
    logged: dict[str, str] = {}
    unlogged: dict[str, str] = {}
    torn: list[str] = []
    for ref, lines in groups:
        oid = lines[0][:40]
        if not ref or _NO_NAME.search(ref):
            torn += _ID.findall(lines[0])
        elif not is_file(log := repository / "logs" / ref):
            unlogged[ref] = oid
        elif ref not in logged or _last(log) == oid:
            torn += [logged[ref]] if ref in logged else []
            logged[ref] = oid
        else:
            torn.append(oid)
    return logged, unlogged, torn


def _is_slip(logs: Path, ref: str, oid: str) -> bool:
    """Whether a ref is another one of whose name a byte has changed."""
    return any(
        len(ref) == len(other) and sum(map(operator.ne, ref, other)) == 1 and oid.encode() in log.read_bytes()
        for log in files_below(logs / "refs")
        if (other := log.relative_to(logs).as_posix())
    )


def _last(log: Path) -> str:
    """Where a reflog says that its ref is."""
    return log.read_bytes().rstrip(b"\n").rpartition(b"\n")[2][41:81].decode("ascii", "replace")


def _own_files(repository: Path) -> set[str]:
    """The ids in refs' own files."""
    return {file.read_text(errors="replace").strip() for file in files_below(repository / "refs")}


def _lines(objects: GitObjects, ref: str, oid: str) -> list[str]:
    """A ref's line, and of a tag with a message the one that says what it leads to (git-pack-refs(1))."""
    lines = [f"{oid} {ref}\n"]
    target = oid
    while (found := objects.read(target))[0] == KINDS[b"tag"]:
        target = found[1][len("object ") : len("object ") + 40].decode("ascii", "replace")
    return lines if target == oid else [*lines, f"^{target}\n"]
