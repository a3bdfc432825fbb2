"""What became of packages between two states, one of which may be a container's that is in no commit."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from runtime.packages.inventory import changes, database_chunks
from runtime.packages.model import PackageChanges
from runtime.packages.owners import owner_files
from runtime.packages.unexplained import UnexplainedChange, unexplained
from vcs.errors import Missing
from vcs.snapshot import Snapshot

Pair: TypeAlias = tuple[Snapshot, Snapshot]
Reopen: TypeAlias = Callable[[Collection[bytes]], Pair]
"""Opens both roots again, so that the chunks of these digests can be read."""


@dataclass(frozen=True, slots=True)
class PackageReport:
    """Which packages differ, and which changed files they do not explain; None if that was not asked for."""

    changes: PackageChanges
    unexplained: tuple[UnexplainedChange, ...] | None = None
    notes: tuple[str, ...] = ()
    """What could not be understood."""

    def __bool__(self) -> bool:
        return bool(self.changes or self.unexplained)


def package_report(pair: Pair, reopen: Reopen | None = None, *, files: bool = False) -> PackageReport:
    """Compare two roots; with `files`, look for unexplained changes too.

    What a container wrote is only digested, at first; if a database of packages is among it, it is known by then which
    chunks are to be held, and `reopen` opens both roots once more.
    """
    try:
        return _report(pair, files)
    except Missing:
        if reopen is None:
            raise
    wanted = {chunk for root in pair for chunk in database_chunks(root, owner_files(root) if files else ())}
    return _report(reopen(wanted), files)


def _report(pair: Pair, files: bool) -> PackageReport:
    found = changes(*pair)
    if not files:
        return PackageReport(found, None, found.notes)
    odd = unexplained(*pair, found)
    return PackageReport(found, odd.changes, tuple(dict.fromkeys((*found.notes, *odd.notes))))
