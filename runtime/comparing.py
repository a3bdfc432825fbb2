"""What became of containers, next to one another: how each ended, how long it ran, and what differs from a common base.

Nothing is stored, and nothing opened that is the same in both: a container's upper is scanned into a scratch, and
subtrees with equal digests are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from runtime.containers import Container, Containers
from runtime.packages import PackageChanges
from runtime.packages.report import Pair, package_report
from runtime.state import Exited, State, load_run, state_of
from runtime.states import States
from vcs.diff import Change, diff
from vcs.model import CommitId
from vcs.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compared: a container's state now, or a commit."""

    name: str
    """As it was given."""
    commit: CommitId
    """The commit, or the container's head."""
    container: Container | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """A subject, and how it differs from the base."""

    subject: Subject
    state: State | None
    """What the container does; None for a commit."""
    seconds: float | None
    """How long its last run took, or has taken so far; None if it never ran or nobody knows."""
    changes: tuple[Change, ...]
    packages: PackageChanges

    @property
    def counts(self) -> Counter[str]:
        """How many changes there are of each letter."""
        return Counter(change.letter for change in self.changes)

    @property
    def size(self) -> int:
        """Bytes in files that are new or have another content."""
        return sum(
            change.new.size
            for change in self.changes
            if change.new and not change.new.is_dir and (change.old is None or "content" in change.what)
        )


def compare(containers: Containers, base: Subject, subjects: Iterable[Subject], now: float) -> Iterator[Compared]:
    """Each subject, compared with the base. `now` is the time in seconds since 1970."""
    start = _snapshot(containers, base)
    for subject in subjects:
        end = start if subject == base else _snapshot(containers, subject)
        state, seconds = _last_run(subject.container, now) if subject.container else (None, None)
        found = _packages(containers, (base, subject), (start, end))
        yield Compared(subject, state, seconds, tuple(diff(start, end)), found)


def _snapshot(containers: Containers, subject: Subject, wanted: Collection[bytes] = ()) -> Snapshot:
    """A subject's root; of what a container wrote, only chunks of the `wanted` digests can be read."""
    if subject.container is None:
        return containers.store.snapshot_of(subject.commit)
    return States(containers).compare(subject.container, wanted=wanted)[1]


def _packages(containers: Containers, subjects: tuple[Subject, Subject], roots: Pair) -> PackageChanges:
    """The packages that differ."""

    def reopen(wanted: Collection[bytes]) -> Pair:
        old, new = (
            _snapshot(containers, subject, wanted) if subject.container else root
            for subject, root in zip(subjects, roots, strict=True)
        )
        return old, new

    return package_report(roots, reopen).changes


def _last_run(container: Container, now: float) -> tuple[State, float | None]:
    """What a container does, and for how long it has run the last time."""
    state, run = state_of(container.paths.directory), load_run(container.paths.directory)
    started = run.started if run else None
    ended = state.ended if isinstance(state, Exited) else now
    return state, None if started is None or ended is None else max(0.0, ended - started)
