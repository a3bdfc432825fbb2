"""What was changed in containers and is not committed, put aside, and brought into a container again.

A stash is a commit of the container's state on its head, which `refs/stashes/<number>` keeps. To put it aside, the
container continues on its head with an empty upper, as after a rollback. To bring it back is the three-way merge of
vcs.merging, as with cherry-pick:

    base     the stash's parent     ours     the container's state, committed or not     theirs     the stash

What comes of that is no commit of anybody's: the container gets it below an empty upper, and its head stays where it
is. So what differs is a change that is not committed yet.

The stash is written before the container changes, and dropped after the container has it: a process that is killed in
between leaves it in both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runtime import generations
from runtime.capturing.capture import Capture
from runtime.commits import Wish, first_line
from runtime.containers import Container, Containers
from runtime.state import is_running
from runtime.states import States
from vcs.diff import Change, diff
from vcs.errors import Conflict, NotFound
from vcs.gitwords import trailers
from vcs.history import Author
from vcs.merging import Favour, MergeConflict, Stale, merge_roots
from vcs.model import CommitId
from vcs.snapshot import CommitInfo

STASHES = "refs/stashes/"
_ID = "Container-Id"


@dataclass(frozen=True, slots=True)
class Stash:
    """Changes that were put aside."""

    number: int
    """Its own as long as it is there; the next one's is higher."""
    info: CommitInfo

    @property
    def ref(self) -> str:
        return f"{STASHES}{self.number}"

    @property
    def base(self) -> CommitId:
        """What the container's head was."""
        return self.info.parents[0]

    @property
    def container(self) -> str:
        """The id of the container that it was made of."""
        return dict(trailers(self.info.message)).get(_ID, "")

    @property
    def container_name(self) -> str:
        """What that was called then."""
        return dict(trailers(self.info.message)).get("Container", "")


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a container that a stash was brought into."""

    how: Literal["applied", "up-to-date", "conflicts"]
    container: Container
    changes: tuple[Change, ...] = ()
    """What is new in it."""
    conflicts: tuple[MergeConflict, ...] = ()
    """Those that kept it from being done, or were decided for the favoured side."""
    stale: tuple[Stale, ...] = ()


class Stashes:
    """The stashes of a store."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._store = containers.store
        self._history = containers.store.history
        self._states = States(containers)

    def all(self) -> list[Stash]:
        """Every stash, newest first."""
        numbered = {int(name): commit for name, commit in self._history.refs(STASHES).items() if name.isdecimal()}
        return [Stash(number, self._store.commit(numbered[number])) for number in sorted(numbered, reverse=True)]

    def find(self, number: int | None = None) -> Stash:
        """A stash by its number; the newest if it is not given. NotFound."""
        if number is not None:
            commit = self._history.target(f"{STASHES}{number}")
            if commit is None:
                raise NotFound(f"no stash {number}", stash=number)
            return Stash(number, self._store.commit(commit))
        newest = max((int(name) for name in self._history.refs(STASHES) if name.isdecimal()), default=None)
        if newest is None:
            raise NotFound("there is no stash", stash=None)
        return self.find(newest)

    def push(self, container: Container, text: str | None, author: Author) -> tuple[Stash, Sequence[Change]] | None:
        """Put aside what is changed in a container since its last commit, and tell what that is; the container is as
        that commit then. None if nothing is changed. `text`: the message, a usual one if it is None. Conflict while it
        runs."""
        with self._containers.changing(container) as now, self._store.writing():
            _must_be_stopped(now, "stashed")
            head = self._states.head(now)
            if text is None:
                text = f"Stash of {now.name} on {head[:12]} {first_line(self._store.commit(head).message)}"
            wish = Wish(text, trailers={_ID: now.id}, pause=False)
            result = self._states.record(now, wish, author)
            if not result.made:
                return None
            stash = self._keep(result.commit, f"stash: {wish.title}", author)
            generations.begin(self._containers, now, head, author, "stash", keep=True)
            return stash, result.changes

    def _keep(self, commit: CommitId, reason: str, author: Author) -> Stash:
        with self._history.locked():
            numbers = [int(name) for name in self._history.refs(STASHES) if name.isdecimal()]
            stash = Stash(max(numbers, default=0) + 1, self._store.commit(commit))
            self._history.move(stash.ref, commit, None, reason, author)
            return stash

    def apply(
        self, stash: Stash, container: Container, favour: Favour, author: Author, *, drop: bool = False
    ) -> Applied:
        """Bring a stash into a container, and `drop` it then. With conflicts, and no side favoured, nothing is changed
        and the stash is kept. Conflict while the container runs."""
        with self._containers.changing(container) as now, self._store.writing():
            _must_be_stopped(now, "changed by a stash")
            with self._store.batch() as batch:
                state = Capture(self._store, now).now(batch).root
            base, ours, theirs = (
                self._store.snapshot_of(stash.base), self._store.snapshot(state), self._store.snapshot(stash.info.root)
            )  # fmt: skip
            merged = merge_roots(base, ours, theirs, favour)
            found = Applied("conflicts", now, (), tuple(merged.conflicts), tuple(merged.stale))
            if found.conflicts and favour is None:
                return found
            with self._store.batch() as batch:
                root = merged.write(batch)
            changes = tuple(diff(ours, self._store.snapshot(root)))
            found = dataclasses.replace(found, how="up-to-date" if root == state else "applied", changes=changes)
            if root != state:
                head = self._states.head(now)
                text = f"State of {now.name} with stash {stash.number}\n"
                below = self._store.add_commit(root, self._history.config(head), text, author, (head,))
                reason = f"stash {stash.number} applied"
                generations.begin(self._containers, now, below, author, reason, keep=True, head=head)
            if drop:
                self.drop([stash])
            return found

    def owner(self, stash: Stash) -> Container:
        """The container that a stash was made of. NotFound if it was removed."""
        try:
            return self._containers.get(stash.container)
        except (NotFound, ValueError):
            name, number = stash.container_name, stash.number
            raise NotFound(f"container {name!r}, of which stash {number} was made, was removed", into=name) from None

    def drop(self, stashes: Sequence[Stash]) -> None:
        """Let stashes go."""
        self._history.delete_all(stash.ref for stash in stashes)


def _must_be_stopped(container: Container, what: str) -> None:
    if is_running(container.paths.directory):
        raise Conflict(f"container {container.name!r} is running; it cannot be {what}", container=container.name)
