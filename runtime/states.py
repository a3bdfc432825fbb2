"""What is in a container: compared, committed, rolled back, forked.

A container's state is its base commit with its upper on top. Its head is the newest commit of that state: the base,
or what was committed since while it ran. Git keeps the head (`refs/containers/<id>/<generation>`), so a crash between
two steps of a commit leaves the container and the history agreeing.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runtime.containers import REMOVED, Container, Containers, make_generation
from runtime.records import Generation
from runtime.state import is_running
from runtime.stubs import read_stubs
from runtime.upper import UpperResult, prefix_of, scan_upper
from vcs.diff import Change, diff
from vcs.errors import Conflict, NotFound
from vcs.history import BRANCHES, Author
from vcs.model import CommitId
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot
from vcs.statcache import StatCache
from vcs.trees import Sink


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What a commit did. `made` is False where nothing had changed; then `commit` is the one that says it already."""

    commit: CommitId
    made: bool
    changes: tuple[Change, ...]
    added: int
    """Bytes that the store grew by, in layers."""
    unsteady: tuple[bytes, ...] = ()
    """Paths of files that were written to while they were read: their content may never have been so at once."""


class States:
    """Operations on the states of a store's containers."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._store = containers.store
        self._history = containers.store.history

    def head(self, container: Container) -> CommitId:
        """The newest commit of the container's state."""
        return self._history.target(container.ref) or container.base

    def compare(self, container: Container, keep: int = 0) -> tuple[Snapshot, Snapshot]:
        """The container's head, and its state now. Nothing is stored; `keep` bytes of new contents can be read."""
        head = self._store.snapshot_of(self.head(container))
        scratch = Scratch(self._store, keep)
        return head, Snapshot(scratch, self._scan(container, scratch, self._cache(container)).root)

    def changes(self, container: Container) -> list[Change]:
        """What differs between the container's head and its state now. Nothing is stored."""
        return diff(*self.compare(container))

    def commit(
        self,
        container: Container,
        message: str,
        author: Author,
        *,
        branch: str | None = None,
        allow_empty: bool = False,
    ) -> CommitResult:
        """Commit the container's state on top of its head, and point `branch` at it.

        Conflict, with nothing changed, if the branch has commits that the container does not stand on. A stopped
        container continues on the new commit with an empty upper; a running one keeps its upper.
        """
        with self._containers.changing(container) as now, self._store.writing():
            # Before the scan: what a container writes between the scan and its end is in no commit.
            stopped = not is_running(now.paths.directory)
            head = self.head(now)
            tip = self._tip(branch, head)
            result, cache = self._write(now, head, message, author, allow_empty)
            reason = f"commit: {_title(message)}"
            self._adopt(now, result, head, author, reason, stopped)
            if branch is not None and tip != result.commit:
                self._history.move(BRANCHES + branch, result.commit, tip, reason, author)
            if not stopped:
                cache.save(self._cache_path(now))
            return result

    def rollback(self, container: Container, commit: CommitId, author: Author) -> Container:
        """Make the container's root an earlier (or any) commit again. Its state until now is kept: see undo_rollback.

        Conflict while it runs.
        """
        with self._containers.changing(container) as now:
            self._must_be_stopped(now, "rolled back")
            return self._start_generation(now, commit, author, "rollback", keep=True)

    def undo_rollback(self, container: Container) -> Container:
        """Return to the state before the last rollback, keeping the one that is left. NotFound if there is none."""
        with self._containers.changing(container) as now:
            self._must_be_stopped(now, "rolled back")
            previous = now.record.generation.previous
            if previous is None:
                raise NotFound(f"{now.name!r} was not rolled back", container=now.name)
            kept = tuple(
                msgspec.structs.replace(generation, previous=now.record.current)
                if generation.number == previous
                else generation
                for generation in now.record.generations
            )
            return self._containers.replace(
                now, msgspec.structs.replace(now.record, generations=kept, current=previous)
            )

    def fork(self, container: Container, count: int, author: Author, name: str | None = None) -> list[Container]:
        """New containers from this one's current state, which becomes a commit (on no branch) if it has changed."""
        with self._containers.changing(container) as now, self._store.writing():
            stopped = not is_running(now.paths.directory)
            head = self.head(now)
            result, _ = self._write(now, head, f"Fork of {now.name}", author, allow_empty=False)
            self._adopt(now, result, head, author, f"fork of {now.name}", stopped)
        stem = name or container.name
        taken = {other.name for other in self._containers.all()}
        names = (f"{stem}-{number}" for number in range(1, len(taken) + count + 1))
        free = [candidate for candidate in names if candidate not in taken][:count]
        settings = container.record.settings
        return [
            self._containers.create(container.name, result.commit, settings, author, candidate) for candidate in free
        ]

    def save(self, container: Container, author: Author, *, discard: bool = False) -> list[CommitId]:
        """Keep every state of a container, before it is removed: what differs from its head becomes a commit (not with
        `discard`), and what no branch or tag has is kept under `refs/removed/<id>/`. Returns the commits kept there."""
        tips = {*self._store.branches().values(), *self._store.tags().values()}
        kept = []
        for generation in container.record.generations:
            view = Container(msgspec.structs.replace(container.record, current=generation.number), container.paths)
            commit = self.head(view)
            with self._store.writing():
                if not discard:
                    message = f"Last state of {container.name}"
                    commit = self._write(view, commit, message, author, allow_empty=False)[0].commit
                if not any(self._history.is_ancestor(commit, tip) for tip in tips):
                    ref = f"{REMOVED}{container.id}/{generation.number}"
                    self._history.move(ref, commit, None, f"last state of {container.name}", author, force=True)
                    kept.append(commit)
        return list(dict.fromkeys(kept))

    def _tip(self, branch: str | None, head: CommitId) -> CommitId | None:
        """Where the branch is, if it may move to a child of `head`."""
        if branch is None:
            return None
        tip = self._history.target(BRANCHES + branch)
        if tip is not None and not self._history.is_ancestor(tip, head):
            raise Conflict(
                f"branch {branch!r} is at {tip[:12]}, which the container does not stand on (it stands on {head[:12]})",
                branch=branch, found=tip, expected=head,
            )  # fmt: skip
        return tip

    def _write(
        self, container: Container, head: CommitId, message: str, author: Author, allow_empty: bool
    ) -> tuple[CommitResult, StatCache]:
        """Write a commit of the container's state, which nothing refers to yet; and what was read for it."""
        info = self._store.commit(head)
        cache = self._cache(container)
        with self._store.batch() as batch:
            scan = self._scan(container, batch, cache)
        if scan.root == info.root and not allow_empty:
            return CommitResult(head, False, (), 0), cache
        changes = diff(self._store.snapshot(info.root), self._store.snapshot(scan.root))
        text = _with_trailers(message, container, changes)
        commit = self._store.add_commit(scan.root, self._history.config(head), text, author, (head,))
        return CommitResult(commit, True, tuple(changes), batch.added, scan.unsteady), cache

    def _scan(self, container: Container, sink: Sink, cache: StatCache) -> UpperResult:
        base = self._store.snapshot_of(container.base)
        if not container.upper.is_dir():  # it was never started: the first start makes its upper
            return UpperResult(base.id, base.root, 0, 0, 0, 0, ())
        generation = container.paths.generation(container.record.current)
        stubs, prefix = read_stubs(generation), prefix_of(generation)
        ids = container.record.ids
        return scan_upper(container.upper, base, sink, stubs=stubs, prefix=prefix, cache=cache, ids=ids)

    def _cache(self, container: Container) -> StatCache:
        """What the last commit of this generation read: its files are in the store, and need not be read again."""
        return StatCache.load(self._cache_path(container))

    @staticmethod
    def _cache_path(container: Container) -> Path:
        return container.paths.generation(container.record.current) / "statcache"

    def _adopt(
        self, container: Container, result: CommitResult, head: CommitId, author: Author, reason: str, stopped: bool
    ) -> None:
        """Let the container stand on the commit of its state: before a branch does, so that a crash in between leaves
        a container with nothing to commit, whose next commit moves the branch."""
        if not result.made:
            return
        if stopped:
            self._start_generation(container, result.commit, author, reason, keep=False)
        else:
            self._history.move(container.ref, result.commit, head, reason, author)

    def _start_generation(
        self, container: Container, base: CommitId, author: Author, reason: str, *, keep: bool
    ) -> Container:
        """Continue on `base` with an empty upper. The generation until now is kept, or deleted as `base` has it all."""
        record = container.record
        number = record.next_number
        self._history.move(record.ref(number), base, None, reason, author, force=True)
        make_generation(container.paths, number)
        old = record.generation
        fresh = Generation(number, base, time.time(), old.number if keep else old.previous)
        others = record.generations if keep else _without(record.generations, old.number, number)
        changed = self._containers.replace(
            container, msgspec.structs.replace(record, generations=(*others, fresh), current=number)
        )
        if not keep:
            self._containers.discard(container, old)
        return changed

    def _must_be_stopped(self, container: Container, what: str) -> None:
        if is_running(container.paths.directory):
            raise Conflict(f"container {container.name!r} is running; it cannot be {what}", container=container.name)


def _without(generations: tuple[Generation, ...], old: int, new: int) -> tuple[Generation, ...]:
    """The generations less `old`; an undo that would have led to it leads to `new`."""
    return tuple(
        msgspec.structs.replace(generation, previous=new) if generation.previous == old else generation
        for generation in generations
        if generation.number != old
    )


def _title(message: str) -> str:
    return message.strip().split("\n", 1)[0]


def _with_trailers(message: str, container: Container, changes: list[Change]) -> str:
    """The message, with what made the commit as git trailers (git-interpret-trailers(1))."""
    counts = Counter[str](change.letter for change in changes)
    lines = [f"Container: {container.name}"]
    if container.record.settings.args:
        command = " ".join(container.record.settings.args)
        lines.append(f"Command: {command.replace(chr(10), ' ')[:500]}")
    if counts:
        lines.append("Changes: " + " ".join(f"{letter}{counts[letter]}" for letter in "AMDRT" if counts[letter]))
    return f"{message.strip()}\n\n" + "\n".join(lines) + "\n"
