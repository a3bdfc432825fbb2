"""grep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation, split_place
from runtime.cli.options import file_argument, verb
from runtime.cli.output import Output
from runtime.cli.pager import paged
from runtime.cli.quoting import path_fields, quoted, safe

if TYPE_CHECKING:
    from vcs.grep import Hit, Pattern


@dataclass(frozen=True, slots=True)
class _Row:
    """A hit, and the file that it is in. `prefix` names the revision, where several were given."""

    revision: str
    prefix: str
    path: bytes
    hit: Hit

    @property
    def file(self) -> tuple[str, bytes]:
        return self.revision, self.path


@verb("grep", data=True, past=True)
@click.argument("pattern")
@file_argument("places", nargs=-1, required=True, metavar="REV[:PATH]...")
@click.option("-i", "--ignore-case", is_flag=True, help="Capital and small letters are the same (of ASCII).")
@click.option("-w", "--word-regexp", "words", is_flag=True, help="What matches is no part of a longer word.")
@click.option("-F", "--fixed-strings", "fixed", is_flag=True, help="PATTERN stands for itself.")
@click.option("-n", "--line-number", "numbers", is_flag=True, help="The lines' numbers too.")
@click.option("-l", "--files-with-matches", "only_names", is_flag=True, help="Only the paths of files that match.")
@click.option("-c", "--count", "only_counts", is_flag=True, help="Only how many lines of each file match.")
def grep(
    invocation: Invocation,
    pattern: str,
    places: tuple[str, ...],
    ignore_case: bool,
    words: bool,
    fixed: bool,
    numbers: bool,
    only_names: bool,
    only_counts: bool,
) -> int:
    """Search the files of commits for a pattern.

    PATTERN is a regular expression as Python has them, matched with the bytes of each line. Binary files that match are
    named, but their lines are not printed. A content is searched once, however many files and commits have it. Symbolic
    links are not followed, except in PATH.

    Exits with 1 if nothing matches.

    \b
    Example:
      treering grep -n PermitRootLogin nginx:/etc/ssh
      treering grep -l password main nginx:/etc
      treering grep -F --format jsonl 10.0.0.7 nginx:/etc
    """
    from vcs.grep import Pattern

    if only_names and only_counts:
        raise click.UsageError("-l and -c exclude each other")
    wanted = Pattern.of(pattern.encode("utf-8", "surrogateescape"), fixed=fixed, ignore_case=ignore_case, words=words)
    output = invocation.output
    seen = _Seen(_rows(invocation, wanted, places, first_only=only_names))
    with paged(output, wanted=invocation.use_pager):
        if only_names:
            output.rows(seen, _file_fields, lambda rows: _write_names(output, rows))
        elif only_counts:
            output.rows(
                _counts(seen),
                lambda row: {**_file_fields(row[0]), "count": row[1]},
                lambda rows: _write_counts(output, rows),
            )
        else:
            output.rows(seen, _hit_fields, lambda rows: _write_hits(output, rows, wanted, numbers))
    return 0 if seen.any else 1


class _Seen:
    """Rows that are passed on, and whether there were any."""

    def __init__(self, rows: Iterator[_Row]) -> None:
        self._rows = rows
        self.any = False

    def __iter__(self) -> Iterator[_Row]:
        for row in self._rows:
            self.any = True
            yield row


def _rows(invocation: Invocation, pattern: Pattern, places: tuple[str, ...], *, first_only: bool) -> Iterator[_Row]:
    from vcs.grep import Search

    search = Search(pattern, first_only=first_only)
    opened = [(split_place(text).revision, *invocation.open_place(text)) for text in places]
    for revision, snapshot, path in opened:
        prefix = f"{safe(revision)}:" if len(places) > 1 else ""
        for here, hit in search.below(snapshot, snapshot.resolve(path)):
            yield _Row(revision, prefix, here, hit)


# -- for programs


def _file_fields(row: _Row) -> dict[str, Any]:
    return {"revision": row.revision, **path_fields(row.path), "binary": row.hit.number is None}


def _hit_fields(row: _Row) -> dict[str, Any]:
    if row.hit.number is None:
        return {**_file_fields(row), "line": None, "text": None}
    return {**_file_fields(row), "line": row.hit.number, **path_fields(row.hit.text, "text")}


def _counts(rows: Iterable[_Row]) -> Iterator[tuple[_Row, int | None]]:
    """A row of each file, and how many lines match; None for a binary one."""
    for _, group in groupby(rows, lambda row: row.file):
        found = list(group)
        yield found[0], None if found[0].hit.number is None else len(found)


# -- for people


def _write_names(output: Output, rows: Iterable[_Row]) -> None:
    for row in rows:
        output.line(_name(output, row))


def _write_counts(output: Output, rows: Iterable[tuple[_Row, int | None]]) -> None:
    for row, count in rows:
        output.line(_binary(row) if count is None else f"{_name(output, row)}:{count}")


def _write_hits(output: Output, rows: Iterable[_Row], pattern: Pattern, numbers: bool) -> None:
    for row in rows:
        if row.hit.number is None:
            output.line(_binary(row))
            continue
        start = f"{_name(output, row)}:" + (f"{output.paint(str(row.hit.number), 'green')}:" if numbers else "")
        output.raw(start.encode("utf-8", "surrogateescape") + _shown(output, row.hit.text, pattern) + b"\n")


def _name(output: Output, row: _Row) -> str:
    return row.prefix + output.paint(quoted(row.path), "magenta")


def _binary(row: _Row) -> str:
    return f"Binary file {row.prefix}{quoted(row.path)} matches"


def _shown(output: Output, line: bytes, pattern: Pattern) -> bytes:
    """A line as it is; on a terminal, made safe, and with what matches in colour."""
    if not output.colours:
        return line
    parts: list[str] = []
    done = 0
    for match in pattern.regex.finditer(line):
        if match.end() > match.start():
            parts += [_text(line[done : match.start()]), output.paint(_text(match[0]), "red")]
            done = match.end()
    return "".join([*parts, _text(line[done:])]).encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return safe(data.decode("utf-8", "surrogateescape"))


VERBS: dict[str, click.Command] = {"grep": grep}
