"""What is in a container: compared, committed, rolled back.

A container's state is its base commit with its upper on top. Its head is the newest commit of that state: the base,
or what was committed since while it ran. Git keeps the head (`refs/containers/<id>/<generation>`), so a crash between
two steps of a commit leaves the container and the history agreeing.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from runtime import generations
from runtime.capturing.capture import Capture
from runtime.commits import CommitResult, Edit, Wish
from runtime.containers import REMOVED, Container, Containers
from runtime.hooks import Hooks
from runtime.secrets import Policy, SecretWatch
from runtime.state import is_running
from runtime.storehooks import Before, Event, run_after, run_before
from runtime.upper import Seen, UpperResult
from vcs.diff import Change, diff
from vcs.errors import Conflict
from vcs.history import BRANCHES, Author
from vcs.ignore import Patterns
from vcs.model import CommitId, RootId
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot
from vcs.trees import write_root

__all__ = ["CommitResult", "States"]


class States:
    """Operations on the states of a store's containers."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._store = containers.store
        self._history = containers.store.history

    def head(self, container: Container) -> CommitId:
        """The newest commit of the container's state."""
        return self._history.target(container.ref) or container.base

    def compare(self, container: Container, keep: int = 0, wanted: Collection[bytes] = ()) -> tuple[Snapshot, Snapshot]:
        """The container's head, and its state now. Nothing is stored; `keep` bytes of new contents can be read, and
        the chunks of these digests."""
        head = self._store.snapshot_of(self.head(container))
        scratch = Scratch(self._store, keep, wanted)
        return head, Snapshot(scratch, Capture(self._store, container).now(scratch).root)

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
        trailers: Mapping[str, str] | None = None,
        changes: Sequence[Edit] = (),
        squash: bool = False,
        pause: bool = True,
        secrets: Policy = "off",
        pre_hook: str | None = None,
        post_hook: str | None = None,
        verify: bool = True,
        exclude: Patterns | None = None,
        parents: tuple[CommitId, ...] = (),
    ) -> CommitResult:
        """Commit the container's state on top of its head, and point `branch` at it.

        Conflict, with nothing changed, if the branch has commits that the container does not stand on. A stopped
        container continues on the new commit with an empty upper; a running one keeps its upper, and stands still for
        a moment unless `pause` is False or it has no cgroup to be frozen in.

        `trailers`: further ones, see runtime.commits. `changes`: edits of the image config (runtime.imagechange).
        `squash`: the commit's parent is what the container was made from; `parents`: its parents are these, a merge's
        (branches.resolving), and no branch gets the state of a container in which a merge is under way without them.
        `secrets`: what to do about those in what the commit adds; SecretsFound, with nothing changed, if there are some
        and that is to refuse. `pre_hook` and `post_hook`: shell commands that are run in the container, which must run
        then: before it stands still, and when it goes on. EngineError with the command's output if the first fails; if
        it does not, the second is run whatever happens. `verify`: the store's hook before a commit, or a merge, is run,
        and HookRefused if it fails. `exclude`: what matches is neither read nor committed, but is as the container's
        head has it; a stopped container keeps its upper then.
        """
        wish = Wish(message, allow_empty, trailers or {}, changes, squash, pause, secrets, verify, exclude, parents)
        hooks = Hooks(container, pre_hook, post_hook)
        hooks.before()
        try:
            result, event = self._commit(container, wish, author, branch, hooks.after)
        finally:
            hooks.after()
        told = run_after(self._store.path, "post-merge" if parents else "post-commit", event) if result.made else ()
        return dataclasses.replace(result, failed_hook=hooks.failed, hooks=(*result.hooks, *told))

    def _commit(
        self, container: Container, wish: Wish, author: Author, branch: str | None, was_read: Callable[[], None]
    ) -> tuple[CommitResult, Event]:
        with self._containers.changing(container) as now, self._store.writing():
            # Before the scan: what a container writes between the scan and its end is in no commit.
            stopped = not is_running(now.paths.directory)
            head = self.head(now)
            if branch is not None and not wish.parents:
                must_not_merge(now)
            parent = self._origin(now) if wish.squash else (*wish.parents, head)[0]
            tip = self._tip(branch, parent)
            capture = Capture(self._store, now, wish.exclude)
            result, seen = self._write(capture, now, head, parent, wish, author, was_read)
            event = Event(result.commit, parent, now, branch, lambda: result.changes)
            if result.made and wish.verify:  # it goes on by now, if it stood still
                hook: Before = "pre-merge-commit" if wish.parents else "pre-commit"
                result = dataclasses.replace(result, hooks=run_before(self._store.path, hook, event))
            reason = f"commit: {wish.title}"
            self._adopt(now, result, head, author, reason, stopped and not wish.exclude)
            if branch is not None and tip != result.commit:
                self._history.move(BRANCHES + branch, result.commit, tip, reason, author)
            if not stopped:
                capture.keep(seen)
            return result, event

    def settle(self, container: Container, author: Author) -> Container:
        """Before a stopped container starts again: let it stand on its head with an empty upper, if its state is
        exactly that; otherwise it keeps base and upper. The caller holds its lock. Nothing is committed.

        A commit of a running container leaves its upper as it is, so without this it would go on for ever on an old
        base with an upper that grows.
        """
        head = self.head(container)
        if head == container.base:
            return container
        before = self._store.snapshot_of(head)
        if Capture(self._store, container).now(Scratch(self._store)).root != before.id:
            return container
        with self._store.operations.silent():  # neither its head nor its state is another
            reason = "start: on the last commit"
            return generations.begin(self._containers, container, head, author, reason, keep=False)

    def rollback(self, container: Container, commit: CommitId, author: Author) -> Container:
        """Make the container's root an earlier (or any) commit again. Its state until now is kept: see undo_rollback.

        Conflict while it runs, or if it is no state of the merge that is under way in it.
        """
        with self._containers.changing(container) as now:
            self._must_be_stopped(now, "rolled back")
            merging = now.record.merging
            if merging is not None and not self._history.is_ancestor(merging.start, commit):
                must_not_merge(now)
            return generations.begin(self._containers, now, commit, author, "rollback", keep=True)

    def undo_rollback(self, container: Container) -> Container:
        """Return to the state before the last rollback, keeping the one that is left. NotFound if there is none."""
        with self._containers.changing(container) as now:
            self._must_be_stopped(now, "rolled back")
            return generations.go_back(self._containers, now)

    def tips(self) -> frozenset[CommitId]:
        """Where branches and tags are."""
        return frozenset({*self._store.branches().values(), *self._store.tags().values()})

    def save(
        self, container: Container, author: Author, *, discard: bool = False, tips: Collection[CommitId] | None = None
    ) -> list[CommitId]:
        """Keep every state of a container, before it is removed: what differs from its head becomes a commit (not with
        `discard`), and what no branch or tag has is kept under `refs/removed/<id>/`, but for what a container that goes
        at its end (--rm) was made from. Returns the commits kept there. Who removes many looks once where branches and
        tags are, and gives their `tips`."""
        kept = []
        for generation in container.record.generations:
            view = Container(msgspec.structs.replace(container.record, current=generation.number), container.paths)
            commit = self.head(view)
            with self._store.writing():
                if not discard:
                    wish = Wish(f"Last state of {container.name}", pause=False)
                    capture = Capture(self._store, view)
                    commit = self._write(capture, view, commit, commit, wish, author)[0].commit
                is_own = commit != view.base or not view.record.settings.remove
                if is_own and not self._is_had(commit, view, tips):
                    ref = f"{REMOVED}{container.id}/{generation.number}"
                    self._history.move(ref, commit, None, f"last state of {container.name}", author, force=True)
                    kept.append(commit)
        return list(dict.fromkeys(kept))

    def record(self, container: Container, wish: Wish, author: Author) -> CommitResult:
        """Write a commit of the container's state on its head, which nothing refers to yet. The caller holds its lock,
        and the store's lease (Store.writing)."""
        head = self.head(container)
        return self._write(Capture(self._store, container), container, head, head, wish, author)[0]

    def _is_had(self, commit: CommitId, container: Container, tips: Collection[CommitId] | None) -> bool:
        """Whether a branch or tag has a commit. The branch that the container was made from mostly does, and there may
        be ten thousand others."""
        first = self._history.target(BRANCHES + container.record.image)
        if first is not None and self._history.is_ancestor(commit, first):
            return True
        return any(self._history.is_ancestor(commit, tip) for tip in (self.tips() if tips is None else tips))

    def _origin(self, container: Container) -> CommitId:
        """The commit that the container was made from: where its reflog begins, if it still stands on that."""
        head = self.head(container)
        for change in reversed(self._history.reflog(container.ref)):
            return change.new if self._history.is_ancestor(change.new, head) else container.base
        return container.base

    def _tip(self, branch: str | None, parent: CommitId) -> CommitId | None:
        """Where the branch is, if it may move to a child of `parent`."""
        if branch is None:
            return None
        tip = self._history.target(BRANCHES + branch)
        if tip is not None and not self._history.is_ancestor(tip, parent):
            raise Conflict(
                f"branch {branch!r} is at {tip[:12]}, which the container does not stand on "
                f"(it stands on {parent[:12]})", branch=branch, found=tip, expected=parent,
            )  # fmt: skip
        return tip

    def _write(
        self,
        capture: Capture,
        container: Container,
        head: CommitId,
        parent: CommitId,
        wish: Wish,
        author: Author,
        was_read: Callable[[], None] = lambda: None,
    ) -> tuple[CommitResult, Seen]:
        """Write a commit of the container's state, which nothing refers to yet; and what was read for it. `was_read` is
        called when all was read, and the container goes on if it stood."""
        paused = None
        scan: UpperResult
        before = self._store.commit(head).root
        with self._store.batch() as batch:
            watch = SecretWatch(self._store, batch, wish.secrets)
            if wish.pause and capture.can_freeze:
                scan, paused = capture.at_once(watch, was_read)
            else:
                scan = capture.now(watch)
                was_read()
            watch.refuse(before, scan.root)
        if scan.left_out and head != container.base:
            scan = dataclasses.replace(scan, root=self._as_in(head, scan))
        config = self._history.config(head)
        wanted = wish.config(config)
        parents = wish.parents or (parent,)
        same = scan.root == before and wanted == config and parents == (head,)
        if same and not wish.allow_empty:
            return CommitResult(head, False, (), 0, paused=paused), scan.seen
        changes = diff(self._store.snapshot_of(parent), self._store.snapshot(scan.root))
        commit = self._store.add_commit(scan.root, wanted, wish.text(container, changes), author, parents)
        secrets = watch.findings(before, scan.root)
        return CommitResult(commit, True, tuple(changes), batch.added, scan.unsteady, paused, secrets), scan.seen

    def _as_in(self, head: CommitId, scan: UpperResult) -> RootId:
        """The scanned root with what was left out as the container's head has it, and not as its base does. Conflict if
        there are hard links in that: their other names would be other files."""
        from vcs.merging.edits import edited  # 10 ms, and hardly ever needed

        there = self._store.snapshot_of(head)
        edits = {path: there.find(path) for path in scan.left_out}
        for path, entry in edits.items():
            if entry is not None and any(one.link for _, one in there.walk(path)):
                raise Conflict(f"{os.fsdecode(path)!r} has hard links in it, so it cannot be left out", path=path)
        with self._store.batch() as batch:
            return write_root(batch, edited(self._store, batch, scan.entry, edits))

    def _adopt(
        self, container: Container, result: CommitResult, head: CommitId, author: Author, reason: str, stopped: bool
    ) -> None:
        """Let the container stand on the commit of its state: before a branch does, so that a crash in between leaves
        a container with nothing to commit, whose next commit moves the branch."""
        if not result.made:
            return
        if stopped:
            generations.begin(self._containers, container, result.commit, author, reason, keep=False)
        else:
            self._history.move(container.ref, result.commit, head, reason, author)

    def _must_be_stopped(self, container: Container, what: str) -> None:
        if is_running(container.paths.directory):
            raise Conflict(f"container {container.name!r} is running; it cannot be {what}", container=container.name)


def must_not_merge(container: Container) -> None:
    """Conflict if a merge is under way in a container: its state has both sides of what is not decided."""
    merging = container.record.merging
    if merging is not None:
        message = f"a merge into {merging.branch!r} is under way in container {container.name!r}"
        raise Conflict(message, merging=container.name)
