"""Conflicts of a merge, and files that it leaves stale, for people and for programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runtime.cli.output import Output, message
from runtime.cli.quoting import path_fields, quoted, safe

if TYPE_CHECKING:
    from vcs.merging import MergeConflict, Stale

_NAMED = 3
"""So many stale files are named for each command."""


TITLES = ("PATH", "CONFLICT", "OURS", "THEIRS", "WHERE")


def write_conflicts(output: Output, conflicts: Iterable[MergeConflict]) -> None:
    """A line for each conflict."""
    output.columns(TITLES, map(cells, conflicts))
    output.flush()


def conflict_fields(conflict: MergeConflict) -> dict[str, Any]:
    """A conflict for JSON."""
    return {
        **path_fields(conflict.path),
        "kind": conflict.kind,
        "ours": conflict.ours,
        "theirs": conflict.theirs,
        "detail": conflict.detail or None,
    }


def stale_fields(stale: Iterable[Stale]) -> list[dict[str, Any]]:
    """Stale files for JSON."""
    return [{**path_fields(one.path), "command": one.command or None} for one in stale]


def warn_of_stale(stale: Iterable[Stale], container: str | None = None) -> None:
    """What has to be made anew, by command, and where."""
    where = "a container on it" if container is None else f"container {safe(container)}"
    commands: dict[str, list[str]] = defaultdict(list)
    for file in stale:
        if file.command:
            commands[file.command].append(quoted(file.path))
    for command, paths in commands.items():
        more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
        named = ", ".join(paths[:_NAMED]) + more
        message(f"warning: stale, since both changed it: {named}; in {where}, run: {command}")


def cells(conflict: MergeConflict) -> tuple[str, ...]:
    """A conflict as people read it, by TITLES."""
    path = quoted(conflict.path)
    if conflict.kind == "config":
        path = f"config.json: {path}"
    return path, conflict.kind, safe(conflict.ours), safe(conflict.theirs), safe(conflict.detail) or "-"
