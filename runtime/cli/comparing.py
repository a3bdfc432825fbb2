"""compare."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import revision_argument, verb
from runtime.cli.output import message, size_text
from runtime.cli.progress import seconds_text
from runtime.cli.quoting import path_fields, quoted, safe
from vcs.errors import NotFound

if TYPE_CHECKING:
    from runtime.comparing import Compared, Subject
    from runtime.packages import PackageChanges
    from runtime.state import State

_PATHS = 3
"""So many differing paths are shown of each."""


@verb("compare", data=True, past=True)
@revision_argument("names", nargs=-1, required=True, metavar="NAME|REV...")
@click.option("--base", metavar="REV", help="What to compare with: a container or a revision.")
@click.option("--merge-base", is_flag=True, help="Compare with the last commit that all of them stand on.")
def compare(invocation: Invocation, names: tuple[str, ...], base: str | None, merge_base: bool) -> None:
    """Show containers or commits next to one another.

    Each is compared with the first, or with --base, or with the --merge-base: how many paths were added, modified,
    deleted, renamed (R) or are of another type (T); the bytes in files that are new or have new content; how many
    packages are new (+), gone (-) or of another version (~): of dpkg, apk, rpm, Python, npm and Ruby; and the first
    paths that differ. Of a container it is the present state, whether committed or not, the exit code, and how long it
    ran. Nothing is stored. --format json has every path and package.

    \b
    Example:
      treering compare works fails
      treering compare --merge-base try-1 try-2 try-3
      treering compare --base main $(treering ps -aq)
    """
    if base is not None and merge_base:
        raise click.UsageError("--base and --merge-base exclude one another")
    subjects = _subjects(invocation, [*names, *([base] if base is not None else [])])
    start = subjects[0]
    if base is not None:
        start = subjects.pop()
    elif merge_base:
        start = _common(invocation, subjects)
    write_comparison(invocation, start, subjects)


def _subjects(invocation: Invocation, names: Sequence[str]) -> list[Subject]:
    """What each name stands for: a revision, or a container if no revision is called so."""
    from runtime.comparing import Subject

    history = invocation.store.history
    known = {container.name: container for container in invocation.containers.all()}
    found = []
    for name in names:
        try:
            found.append(Subject(name, history.resolve(name)))
            continue
        except NotFound:
            pass
        try:
            container = known.get(name) or invocation.containers.find(name)
        except NotFound:
            found.append(Subject(name, invocation.commit(name)))
        else:
            found.append(Subject(container.name, invocation.states.head(container), container))
    if any(subject.container for subject in found):
        invocation.enter_namespaces()
    return found


def _common(invocation: Invocation, subjects: Sequence[Subject]) -> Subject:
    from runtime.cli.render_commits import SHORT
    from runtime.comparing import Subject

    commit = invocation.store.history.merge_base([subject.commit for subject in subjects])
    if commit is None:
        raise NotFound("they have no commit in common; say with --base what to compare them with")
    return Subject(commit[:SHORT], commit)


def write_comparison(invocation: Invocation, base: Subject, subjects: Sequence[Subject]) -> None:
    """A line for each subject."""
    from runtime.comparing import compare as compare_all

    output = invocation.output
    titles = ("NAME", "EXIT CODE", "TIME", "CHANGED", "BYTES", "PACKAGES", "FIRST DIFFERING PATHS")

    def table(rows: Iterable[Compared]) -> None:
        output.columns(titles, [_cells(row) for row in rows], numbers=("TIME", "BYTES"))

    output.rows(compare_all(invocation.containers, base, subjects, time.time()), _fields, table)
    output.flush()
    if output.is_table:
        message(f"Compared with {base.name}")


# -- for people


def _cells(row: Compared) -> tuple[str, ...]:
    counts = row.counts
    return (
        safe(row.subject.name),
        "-" if row.state is None else _outcome(row.state),
        "-" if row.seconds is None else seconds_text(row.seconds),
        " ".join(f"{letter}{counts[letter]}" for letter in "AMDRT" if counts[letter]) or "-",
        size_text(row.size) if row.changes else "-",
        _package_counts(row.packages),
        _paths(row),
    )


def _outcome(state: State) -> str:
    from runtime.state import Created, Exited

    match state:
        case Exited():
            return "unknown" if state.code is None else str(state.code)
        case Created():
            return "not started"
        case _:
            return type(state).__name__.lower()


def _package_counts(changes: PackageChanges) -> str:
    """Such as `+2 -1 ~3`."""
    counts = {"+": len(changes.added), "-": len(changes.removed), "~": len(changes.changed)}
    return " ".join(f"{sign}{count}" for sign, count in counts.items() if count) or "-"


def _paths(row: Compared) -> str:
    shown = [f"{change.letter} {quoted(change.path)}" for change in row.changes[:_PATHS]]
    more = len(row.changes) - len(shown)
    return ", ".join([*shown, *([f"{more:,} more"] if more else [])])


# -- for programs


def _fields(row: Compared) -> dict[str, Any]:
    from runtime.cli.render_packages import package_fields

    container = row.subject.container
    return {
        "name": row.subject.name,
        "container": container.id if container else None,
        "commit": row.subject.commit,
        "state": type(row.state).__name__.lower() if row.state else None,
        "exit_code": getattr(row.state, "code", None),
        "seconds": row.seconds,
        "counts": {letter: row.counts[letter] for letter in "AMDRT"},
        "bytes": row.size,
        "packages": {
            "added": [package_fields(package) for package in row.packages.added],
            "removed": [package_fields(package) for package in row.packages.removed],
            "changed": [
                {**package_fields(change.new), "old_version": change.old.version, "downgrade": change.is_downgrade}
                for change in row.packages.changed
            ],
        },
        "paths": [
            {
                "status": change.letter,
                **path_fields(change.path),
                **({} if change.old_path is None else path_fields(change.old_path, "old_path")),
            }
            for change in row.changes
        ],
    }


VERBS: dict[str, click.Command] = {"compare": compare}
