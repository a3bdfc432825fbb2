"""Stores with garbage, and what is left of them: for tests of garbage collection."""

from __future__ import annotations

import os
import random
import subprocess
import time

from tests.support.values import Spec, root
from vcs.errors import Missing
from vcs.history import Author
from vcs.model import CommitId, RootId
from vcs.store import Store

NOW = float("inf")
"""Every reflog entry has expired."""


def author() -> Author:
    return Author("tester", "tester@localhost", int(time.time()))


def write(store: Store, spec: Spec) -> RootId:
    with store.batch() as batch:
        return root(batch, spec)


def commit(store: Store, spec: Spec, ref: str = "refs/heads/main") -> CommitId:
    with store.writing():
        made = write(store, spec)
        old = store.history.target(ref)
        commit = store.add_commit(made, {"config": {}}, "test\n", author(), (old,) if old else ())
        store.history.move(ref, commit, old, "test", author())
    return commit


def noise(seed: object, size: int = 2000) -> bytes:
    return random.Random(str(seed)).randbytes(size)


def files(store: Store) -> set[str]:
    return set(os.listdir(store.path / "layers"))


def is_readable(store: Store, root: RootId) -> bool:
    """Whether every file of a root can be read; fails if a part can. What `store` has in memory does not count."""
    with Store.open(store.path) as fresh:
        try:
            snapshot = fresh.snapshot(root)
        except Missing:
            return False
        for _, entry in snapshot.walk():
            if entry.is_file:
                snapshot.read(entry.content)  # type: ignore[arg-type]
        return True


def git_fsck(store: Store) -> str:
    done = subprocess.run(
        ["git", "-C", str(store.path / "history.git"), "fsck", "--full", "--strict", "--no-dangling"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr if done.returncode or "error" in done.stderr else ""
