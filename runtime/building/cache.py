"""What was built before, found again: a ref for each step, named by a key of all that the step depends on.

    refs/treering/build/<key>    the commit that a step made

A key is the BLAKE3 of the parent commit's id, the instruction, the config after it, and the digests of what is copied.
So the cache is the history itself: there is nothing in it but commits, and what is not there is built again. gc drops
refs older than `git config treering.buildCache` says.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from runtime.system.deletion import delete_tree
from vcs.encoding import digest
from vcs.existing import is_directory
from vcs.history import Author
from vcs.model import CommitId
from vcs.rewriting import leading_to
from vcs.store import Store

BUILDS = "refs/treering/build/"
SETTING = "treering.buildCache"
DEFAULT_KEPT = "30d"
_VERSION = 1


def step_key(parent: CommitId | None, *facts: Any) -> str:
    """The key of a step on a commit; `facts` are plain values."""
    text = json.dumps([_VERSION, parent, *facts], sort_keys=True, ensure_ascii=True)
    return digest(text.encode()).hex()


def find(store: Store, key: str) -> CommitId | None:
    """The commit that a step made before."""
    return store.history.target(BUILDS + key)


def keep(store: Store, key: str, commit: CommitId, author: Author) -> None:
    """Have a step found again, durably. It is no operation of the user's."""
    with store.operations.silent():
        store.history.move(BUILDS + key, commit, None, "build", author, force=True)


def expired(store: Store, since: float) -> list[str]:
    """The refs of steps that were made before `since` (seconds since 1970)."""
    history = store.history
    refs = [BUILDS + name for name in history.refs(BUILDS)]
    return [ref for ref in refs if all(change.time < since for change in history.reflog(ref)[:1])]


def forget(store: Store, refs: Sequence[str]) -> None:
    """Keep these steps no longer."""
    with store.operations.silent():
        store.history.delete_all(refs)


def forget_leading_to(store: Store, commits: Set[CommitId]) -> None:
    """Keep no step that keeps one of these commits."""
    found = {BUILDS + name: commit for name, commit in store.history.refs(BUILDS).items()}
    leading = leading_to(store.history, set(found.values()), commits) if found else set()
    forget(store, [ref for ref, commit in found.items() if commit in leading])


def directories(store: Store) -> Path:
    """Where the directories of --mount=type=cache are."""
    path = store.caches / "build"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def expired_directories(store: Store, since: float) -> list[Path]:
    """Those that no RUN has used since then."""
    path = store.path / "caches" / "build"
    if not is_directory(path):
        return []
    found = [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    return sorted(one for one in found if _used(one) < min(since, time.time()))


def remove_directory(path: Path) -> None:
    """Delete one, unless a RUN has it now."""
    from runtime.building.cachemounts import taken

    with taken(path) as is_free:
        if is_free:
            delete_tree(path)


def _used(path: Path) -> float:
    try:
        return path.with_name(path.name + ".lock").stat().st_mtime
    except FileNotFoundError:
        return 0.0
