"""The end of a build: its commit signed if that is wished, asked of the store's hooks, and named by the branch.

The steps before are not signed, nor is any hook asked for them: they are the cache, which other builds find too.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.commits import brought
from runtime.storehooks import Event, HookRun, run_before
from vcs.gitwords import BRANCHES, Author
from vcs.model import CommitId
from vcs.signed import Sign, signature_of, without_signature
from vcs.store import Store


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of the branch."""

    event: Event | None = None
    """That it has moved; None if it did not."""
    hooks: tuple[HookRun, ...] = ()
    """What came of the hook that was asked."""

    @property
    def moved(self) -> bool:
        return self.event is not None


def signed(store: Store, commit: CommitId, branch: str | None, sign: Sign) -> CommitId:
    """A step's commit, signed. If the branch names that already, it is that one: a signature is made once."""
    history = store.history
    raw = history.raw(commit)
    tip = history.target(BRANCHES + branch) if branch is not None else None
    if tip is not None and signature_of(there := history.raw(tip)) and without_signature(there) == raw:
        return tip
    info = history.info(commit)
    author = Author(info.author, info.email, info.time, info.offset)
    before, store.sign = store.sign, sign
    try:
        return store.add_commit(info.root, history.config(commit), info.message, author, info.parents)
    finally:
        store.sign = before


def finish(store: Store, commit: CommitId, branch: str, reason: str, author: Author, *, verify: bool) -> Finished:
    """Have the branch name the commit. HookRefused, unless `verify` is not set, if the hook pre-commit does not want
    it; then the branch stays, and the steps are found by the next build all the same. post-commit is the caller's to
    run, when nothing is held any more: it may do anything."""
    ref = BRANCHES + branch
    tip = store.history.target(ref)
    if tip == commit:
        return Finished()
    old = store.commit(tip).root if tip is not None else None
    new = store.commit(commit).root
    event = Event(commit, tip, branch=branch, changes=lambda: brought(store, old, new))
    hooks = run_before(store.path, "pre-commit", event) if verify else ()
    store.history.move(ref, commit, tip, reason, author)
    return Finished(event, hooks)
