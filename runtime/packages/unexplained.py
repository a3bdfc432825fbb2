"""Changed files that no change of a package explains.

    modified   it belongs to a package that is installed as before
    unowned    it belongs to no package

What package managers write for themselves is left out, and so are directories. What belongs to a package that came,
went or changed is taken to be that package's work; whether its content is what the package brings is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.packages.model import Owner, PackageChanges
from runtime.packages.owners import is_bookkeeping, owners
from vcs.diff import Change, diff
from vcs.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class UnexplainedChange:
    """A changed file, and the package that it belongs to if any."""

    change: Change
    owner: Owner | None

    @property
    def why(self) -> Literal["modified", "unowned"]:
        """What is odd about it."""
        return "unowned" if self.owner is None else "modified"


@dataclass(frozen=True, slots=True)
class Unexplained:
    """All of them, by path."""

    changes: tuple[UnexplainedChange, ...]
    notes: tuple[str, ...]
    """What of the lists of files could not be understood."""


def unexplained(old: Snapshot, new: Snapshot, packages: PackageChanges) -> Unexplained:
    """The changed files from one root to the other that `packages`, which changed between them, do not explain."""
    notes: list[str] = []
    changed = [
        change
        for change in diff(old, new, renames=False)
        if not any(entry and entry.is_dir for entry in (change.old, change.new)) and not is_bookkeeping(change.path)
    ]
    known = owners(old, new, [change.path for change in changed], notes.append)
    explained = packages.owners
    found = [
        UnexplainedChange(change, min(theirs, default=None))
        for change in changed
        if explained.isdisjoint(theirs := known.get(change.path, set()))
    ]
    return Unexplained(tuple(found), tuple(dict.fromkeys(notes)))
