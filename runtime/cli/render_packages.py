"""Packages that differ, and changed files that they do not explain, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from runtime.cli.output import Output, count_text, message, size_text
from runtime.cli.quoting import path_fields, quoted, safe
from runtime.packages import Package, PackageChanges
from runtime.packages.report import PackageReport
from runtime.packages.unexplained import UnexplainedChange

_TITLES = ("KIND", "NAME", "OLD VERSION", "NEW VERSION")
_SHOWN_NOTES = 10
"""So many notes are told."""


class _Row(NamedTuple):
    """A package that differs. One of both is there at least."""

    old: Package | None
    new: Package | None
    status: str

    @property
    def package(self) -> Package:
        package = self.new or self.old
        assert package is not None
        return package

    @property
    def size_change(self) -> int | None:
        """Bytes that it takes more; None if the database does not tell."""
        before, after = (0 if package is None else package.size for package in (self.old, self.new))
        return None if before is None or after is None else after - before


def package_fields(package: Package) -> dict[str, Any]:
    """A package for JSON."""
    fields = {"kind": package.kind, "name": package.name, "version": package.version}
    more = {"architecture": package.architecture, "place": package.place}
    return fields | {name: value for name, value in more.items() if value}


def report_fields(report: PackageReport) -> list[dict[str, Any]]:
    """Each package that differs and, if they were asked for, each unexplained change, for JSON."""
    return [
        *(_package_row(row) for row in _rows(report.changes)),
        *(_file_row(change) for change in report.unexplained or ()),
    ]


def write_report(output: Output, report: PackageReport) -> None:
    """Tables for people; or rows for programs. What of the databases could not be understood goes to stderr."""
    if output.is_table:
        write_package_table(output, report.changes)
        if report.unexplained is not None:
            _write_unexplained(output, report.unexplained, apart=bool(report.changes))
    else:
        output.rows(report_fields(report), dict, lambda _: None)
    output.flush()
    tell_notes(report.notes)


def write_package_table(output: Output, changes: PackageChanges) -> None:
    """A line for each package that differs; nothing if none does."""
    rows = list(_rows(changes))
    with_place = any(row.package.place for row in rows)
    names = Counter((row.package.kind, row.package.name, row.package.place) for row in rows)
    sizes = [_size_text(row.size_change) for row in rows]
    width = max(map(len, (*sizes, "SIZE")))  # a last column is not padded
    lines = []
    for row, size in zip(rows, sizes, strict=True):
        package = row.package
        twice = names[package.kind, package.name, package.place] > 1 and package.architecture
        name = f"{package.name}:{package.architecture}" if twice else package.name
        cells = (package.kind, name, *(side.version if side else "-" for side in (row.old, row.new)))
        place = (safe(package.place),) if with_place else ()
        lines.append((*map(safe, cells), size.rjust(width), *place))
    if lines:
        output.columns((*_TITLES, "SIZE".rjust(width), *(["PLACE"] if with_place else [])), lines)


def package_lines(output: Output, changes: PackageChanges) -> Iterator[str]:
    """A line for each package that differs: + added, - removed, ~ of another version."""
    for row in _rows(changes):
        sign, colour = {"added": ("+", "green"), "removed": ("-", "red")}.get(row.status, ("~", "yellow"))
        versions = dict.fromkeys(side.version for side in (row.old, row.new) if side)
        text = f"{sign} {row.package.kind} {row.package.name} {' -> '.join(versions)}"
        yield f"    {output.paint(safe(text), colour)}"


def package_summary(changes: PackageChanges) -> str:
    """Such as `2 packages changed: 1 added, 1 upgraded`."""
    counts = Counter(row.status for row in _rows(changes))
    parts = [f"{count:,} {status}" for status, count in counts.items()]
    total = counts.total()
    return f"{count_text(total, 'package')} changed: {', '.join(parts)}" if total else "no packages changed"


def tell_notes(notes: Sequence[str]) -> None:
    """Warn of what could not be understood."""
    for note in notes[:_SHOWN_NOTES]:
        message(f"warning: {safe(note)}")
    if len(notes) > _SHOWN_NOTES:
        message(f"warning: and {len(notes) - _SHOWN_NOTES:,} more")


def _rows(changes: PackageChanges) -> Iterator[_Row]:
    rows = [_Row(None, package, "added") for package in changes.added]
    rows += [_Row(package, None, "removed") for package in changes.removed]
    for change in changes.changed:
        status = {None: "changed", True: "downgraded", False: "upgraded"}[change.is_downgrade]
        rows.append(_Row(change.old, change.new, status))
    return iter(sorted(rows, key=lambda row: row.package))


def _package_row(row: _Row) -> dict[str, Any]:
    package = row.package
    return {
        "type": "package",
        "kind": package.kind,
        "name": package.name,
        "status": row.status,
        "old_version": row.old.version if row.old else None,
        "new_version": row.new.version if row.new else None,
        "architecture": package.architecture or None,
        "place": package.place or None,
        "old_size": row.old.size if row.old else None,
        "new_size": row.new.size if row.new else None,
        "size_change": row.size_change,
    }


def _file_row(unexplained: UnexplainedChange) -> dict[str, Any]:
    owner = unexplained.owner
    return {
        "type": "file",
        "why": unexplained.why,
        "status": unexplained.change.letter,
        **path_fields(unexplained.change.path),
        "what": list(unexplained.change.what),
        "kind": owner.kind if owner else None,
        "package": owner.name if owner else None,
    }


def _write_unexplained(output: Output, changes: Sequence[UnexplainedChange], apart: bool) -> None:
    if not changes:
        return
    if apart:
        output.line()
    lines = [
        (
            change.why,
            change.change.letter,
            f"{change.owner.kind} {safe(change.owner.name)}" if change.owner else "-",
            quoted(change.change.path),
        )
        for change in changes
    ]
    output.columns(("UNEXPLAINED", "CHANGE", "PACKAGE", "PATH"), lines)


def _size_text(change: int | None) -> str:
    if change is None:
        return "?"
    return ("+" if change > 0 else "-" if change < 0 else "") + size_text(abs(change))
