"""A store's bisection: verdicts are given one process at a time, and their commits kept.

A commit that has a verdict is kept from gc by `refs/treering/bisect/<its id>`. It gets that ref before the file has the
verdict, and loses it after the file is gone: whoever is killed in between leaves refs, or reflogs of refs that were not
made yet, which the next command takes away. Neither is an operation (vcs.operations): no branch, tag or container is
another, and a verdict is taken back by another one on the same commit.

`locks/bisect` is held while the file changes, `locks/bisect-run` while a command gives the verdicts: then nobody else
may.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from msgspec.structs import replace

from vcs.bisection import notebook
from vcs.bisection.midpoint import Outlook, outlook
from vcs.bisection.notebook import Mark, Notebook, Verdict, Words
from vcs.bisection.span import reachable, span
from vcs.commits import Commits
from vcs.errors import AlreadyExists, Conflict, NotFound
from vcs.existing import names_in
from vcs.gitwords import Author
from vcs.locks import flocked
from vcs.model import CommitId
from vcs.store import Store, translated

REFS = "refs/treering/bisect/"


class Bisection:
    """The one bisection that a store may have."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs = False

    def read(self) -> Notebook:
        """What is known of it. NotFound if there is none; Corrupt, UnknownFormat."""
        found = notebook.load(self._store.path)
        if found is None:
            raise NotFound("there is no bisection", bisect=None)
        return found

    def outlook(self, found: Notebook) -> Outlook:
        """What follows from the verdicts. Conflict if they contradict one another."""
        verdicts = found.verdicts()
        return outlook(self._parents, verdicts.bad, verdicts.good, verdicts.skipped)

    def between(self, start: CommitId, end: CommitId) -> list[CommitId]:
        """The commits that `end` has and `start` has not, ancestors first."""
        known = reachable(self._parents, [start])
        return [] if end in known else list(span(self._parents, end, known))

    def start(self, bad: CommitId | None, good: Iterable[CommitId], author: Author, words: Words) -> Outlook:
        """Begin one. AlreadyExists if there is one; Conflict if what is said contradicts itself."""
        marks = [_mark("bad", bad)] if bad else []
        with self._changing():
            if notebook.load(self._store.path) is not None:
                raise AlreadyExists("there is a bisection already", bisect=None)
            return self._write(Notebook((*marks, *(_mark("good", one) for one in good)), words=words), author)

    def mark(
        self,
        verdict: Verdict,
        commits: Sequence[CommitId],
        author: Author,
        *,
        exit_code: int | None = None,
        words: Words | None = None,
    ) -> Outlook:
        """Give a verdict on some commits; it takes the place of an earlier one. NotFound if there is no bisection;
        Conflict if verdicts would contradict one another, or a command gives them: then nothing is changed."""
        with self._changing():
            found = self.read()
            marks = (*found.marks, *(_mark(verdict, commit, exit_code) for commit in commits))
            return self._write(replace(found, marks=marks, words=words or found.words), author)

    def reset(self) -> bool:
        """End it, and keep its commits no longer; whether there was one."""
        with self._changing():
            was = notebook.remove(self._store.path)
            self._drop(set())
            return was

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While a command gives the verdicts. Conflict if another one does."""
        with self._locked_run(fcntl.LOCK_EX):
            self._runs = True
            try:
                yield
            finally:
                self._runs = False

    # -- details

    @cached_property
    def _commits(self) -> Commits:
        return Commits(self._store.history.raw)

    def _parents(self, commit: CommitId) -> Sequence[CommitId]:
        return self._commits.read(commit).parents

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with translated("the bisection cannot be changed"), contextlib.ExitStack() as stack:
            if not self._runs:
                stack.enter_context(self._locked_run(fcntl.LOCK_SH))
            stack.enter_context(flocked(self._store.path / "locks" / "bisect", fcntl.LOCK_EX))
            yield

    @contextlib.contextmanager
    def _locked_run(self, mode: int) -> Iterator[None]:
        fd = os.open(self._store.path / "locks" / "bisect-run", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("another `treering bisect` is at work in this store", bisect=None) from None
            yield
        finally:
            os.close(fd)

    def _write(self, found: Notebook, author: Author) -> Outlook:
        ahead = self.outlook(found)
        self._keep({CommitId(mark.commit) for mark in found.marks}, author)
        current = ahead.commit if ahead.state == "test" else None
        notebook.save(self._store.path, replace(found, current=current))
        return ahead

    def _keep(self, commits: set[CommitId], author: Author) -> None:
        """Have gc keep these, and no others that a killed process has left. NotFound if one is gone."""
        history = self._store.history
        with history.locked(), self._store.operations.silent():
            there = history.refs(REFS)
            fresh = {REFS + commit: commit for commit in sorted(commits) if commit not in there}
            if fresh:
                history.name_all(fresh, "bisect", author)
        self._drop(commits)

    def _drop(self, but: set[CommitId]) -> None:
        history = self._store.history
        with history.locked(), self._store.operations.silent():
            logs = self._store.path / "history.git" / "logs" / REFS
            there = {*history.refs(REFS), *names_in(logs)}
            gone = sorted(REFS + name for name in there - but)
            if gone:
                history.delete_all(gone)


def _mark(verdict: Verdict, commit: CommitId, exit_code: int | None = None) -> Mark:
    return Mark(verdict, commit, int(time.time()), exit_code)
