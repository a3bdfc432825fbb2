"""blame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation, split_place
from runtime.cli.options import file_argument, verb
from runtime.cli.output import Output
from runtime.cli.pager import paged
from runtime.cli.quoting import path_fields, quoted, safe
from runtime.cli.render_commits import SHORT, moment, title
from vcs.gitwords import trailer_values
from vcs.snapshot import resolve_parents

if TYPE_CHECKING:
    from vcs.blame import Blamed, Line
    from vcs.model import CommitId
    from vcs.snapshot import CommitInfo

_TITLES = ("COMMIT", "DATE", "AUTHOR", "CONTAINER", "COMMAND", "SUBJECT", "NAME")
_COMMAND_MAX = 40
"""Characters of a command that a table shows."""


@verb("blame", data=True, past=True)
@file_argument("arguments", nargs=-1, required=True, metavar="[REV] PATH")
@click.option("--lines", is_flag=True, help="Of a text, each line with who wrote it.")
def blame(invocation: Invocation, arguments: tuple[str, ...], lines: bool) -> None:
    """Show which commit, command and container last wrote a file.

    Of a directory, each entry has a row. Without REV, it is the branch that HEAD names; REV:PATH is understood too.
    What counts is content, of a directory that of everything below it: `log -- PATH` tells of changed attributes. Where
    a merge has what one of its parents has, that parent is looked at. Renames are not followed.

    \b
    Example:
      treering blame nginx /etc/passwd
      treering blame nginx:/etc
      treering blame --lines nginx /etc/nginx/nginx.conf
    """
    from vcs.blame import blame as blame_of
    from vcs.blame import blame_lines

    store, output = invocation.store, invocation.output
    commit, path = _place(invocation, arguments)
    path = resolve_parents(store.snapshot_of(commit), path)
    commits = _Commits(invocation)
    with paged(output, wanted=invocation.use_pager):
        if lines:
            output.rows(
                enumerate(blame_lines(store, commit, path), 1),
                lambda row: {**commits.fields(row[1].commit), "line": row[0], **path_fields(row[1].text, "text")},
                lambda rows: _write_lines(output, list(rows), commits),
            )
        else:
            output.rows(
                blame_of(store, commit, path),
                lambda row: {**path_fields(row.entry.name or b"/", "name"), **commits.fields(row.commit)},
                lambda rows: _write_rows(output, rows, commits),
            )


def _place(invocation: Invocation, arguments: tuple[str, ...]) -> tuple[CommitId, bytes]:
    if len(arguments) > 2:
        raise click.UsageError(f"{arguments[2]!r} is one argument too many: write [REV] PATH")
    if len(arguments) == 2:
        revision, path = arguments
    elif ":" in arguments[0] and not arguments[0].startswith("/"):
        place = split_place(arguments[0])
        return invocation.commit(place.revision), place.path or b"/"
    else:
        revision, path = "HEAD", arguments[0]
    return invocation.commit(revision), path.encode("utf-8", "surrogateescape")


class _Commits:
    """What is shown of commits. Each is read once."""

    def __init__(self, invocation: Invocation) -> None:
        self._store = invocation.store
        self._known: dict[str, tuple[CommitInfo, dict[str, str]]] = {}

    def get(self, commit: str) -> tuple[CommitInfo, dict[str, str]]:
        """A commit, and its trailers."""
        if commit not in self._known:
            info = self._store.commit(commit)
            self._known[commit] = info, trailer_values(info.message)
        return self._known[commit]

    def fields(self, commit: str) -> dict[str, Any]:
        """A commit for JSON."""
        info, said = self.get(commit)
        return {
            "commit": info.id,
            "date": moment(info.time, info.offset).isoformat(),
            "author": {"name": info.author, "email": info.email},
            "container": said.get("Container"),
            "command": said.get("Command"),
            "title": title(info.message),
        }


def _write_rows(output: Output, rows: Iterable[Blamed], commits: _Commits) -> None:
    output.columns(_TITLES, [list(_cells(row, commits)) for row in rows])


def _cells(row: Blamed, commits: _Commits) -> Iterator[str]:
    info, said = commits.get(row.commit)
    command = said.get("Command", "-")
    yield info.id[:SHORT]
    yield f"{moment(info.time, info.offset):%Y-%m-%d %H:%M}"
    yield safe(info.author)
    yield safe(said.get("Container", "-"))
    yield safe(command if len(command) <= _COMMAND_MAX else command[: _COMMAND_MAX - 3] + "...")
    yield title(info.message)
    yield quoted(row.entry.name or b"/") + ("/" if row.entry.is_dir and row.entry.name else "")


def _write_lines(output: Output, rows: list[tuple[int, Line]], commits: _Commits) -> None:
    """As `git blame` has it: commit, who, when, which line, and the line."""
    width = len(str(len(rows)))
    authors = max((len(safe(commits.get(line.commit)[0].author)) for _, line in rows), default=0)
    for number, line in rows:
        info, _ = commits.get(line.commit)
        when = f"{moment(info.time, info.offset):%Y-%m-%d %H:%M:%S %z}"
        start = f"{output.paint(info.id[:SHORT], 'yellow')} ({safe(info.author):<{authors}} {when} {number:>{width}}) "
        text = line.text.removesuffix(b"\n")
        output.raw(start.encode("utf-8", "surrogateescape"))
        output.raw((safe(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")) + b"\n")


VERBS: dict[str, click.Command] = {"blame": blame}
