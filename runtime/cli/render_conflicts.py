"""Conflicts of a merge, and files that it leaves stale, for people and for programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runtime.cli.output import Output, message
from runtime.cli.quoting import path_fields, quoted, safe

if TYPE_CHECKING:
    from vcs.merging import Favour, MergeConflict, Stale

_NAMED = 3
"""So many stale files are named for each command."""


def write_conflicts(output: Output, conflicts: Iterable[MergeConflict]) -> None:
    """A line for each conflict."""
    output.columns(("PATH", "CONFLICT", "OURS", "THEIRS", "WHERE"), map(_cells, conflicts))
    output.flush()


def conflict_fields(conflicts: Iterable[MergeConflict], favour: Favour) -> list[dict[str, Any]]:
    """Conflicts for JSON, each with the side that it was decided for."""
    return [
        {
            **path_fields(conflict.path),
            "kind": conflict.kind,
            "ours": conflict.ours,
            "theirs": conflict.theirs,
            "detail": conflict.detail or None,
            "taken": favour,
        }
        for conflict in conflicts
    ]


def stale_fields(stale: Iterable[Stale]) -> list[dict[str, Any]]:
    """Stale files for JSON."""
    return [{**path_fields(one.path), "command": one.command or None} for one in stale]


def warn_of_stale(stale: Iterable[Stale]) -> None:
    """What has to be made anew, by command."""
    commands: dict[str, list[str]] = defaultdict(list)
    for file in stale:
        if file.command:
            commands[file.command].append(quoted(file.path))
    for command, paths in commands.items():
        more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
        named = ", ".join(paths[:_NAMED]) + more
        message(f"warning: stale, since both changed it: {named}; in a container on it, run: {command}")


def _cells(conflict: MergeConflict) -> tuple[str, ...]:
    path = quoted(conflict.path)
    if conflict.kind == "config":
        path = f"config.json: {path}"
    return path, conflict.kind, safe(conflict.ours), safe(conflict.theirs), safe(conflict.detail) or "-"
