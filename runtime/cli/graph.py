"""A history drawn beside its commits, in ASCII: which commit has which parents.

    *   merge
    |\
    | * on a branch
    * | on the other one
    |/
    * where they part

Each line of descent has a column. After a commit's line come as many lines as its lines of descent need to get to the
columns of its parents, a column a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.cli.output import Output
from runtime.cli.render_commits import Decorations, commit_lines, oneline

if TYPE_CHECKING:
    from vcs.model import CommitId
    from vcs.snapshot import CommitInfo


@dataclass(frozen=True, slots=True)
class Drawn:
    """What stands before a commit's lines, without blanks at the end."""

    first: str
    turns: tuple[str, ...]
    """The lines in which lines of descent change columns; they have to be there."""
    rest: str
    """Before what further lines a commit needs."""


class Graph:
    """The lines of descent at one place of a history: the commit that each leads to."""

    def __init__(self) -> None:
        self._columns: list[str] = []

    def draw(self, commit: str, parents: Sequence[str]) -> Drawn:
        """The next commit. Children come before their parents."""
        if commit not in self._columns:
            self._columns.append(commit)
        here = self._columns.index(commit)
        first = " ".join("*" if column == commit else "|" for column in self._columns)
        before = self._columns
        fresh = [parent for parent in dict.fromkeys(parents) if parent not in before]
        self._columns = [*before[:here], *fresh, *before[here + 1 :]]
        places = {name: place for place, name in enumerate(self._columns)}
        edges = [(place, places[name]) for place, name in enumerate(before) if place != here]
        edges += [(here, places[parent]) for parent in dict.fromkeys(parents)]
        return Drawn(first, tuple(_turns(edges)), " ".join("|" for _ in self._columns))


def _turns(edges: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Lines that lead from columns to columns, one step each."""
    moving = set(edges)
    while any(start != end for start, end in moving):
        marks: dict[int, str] = {}
        for start, end in moving:
            place = 2 * start + (end > start) - (end < start)
            mark = "|" if start == end else "\\" if end > start else "/"
            marks[place] = mark if marks.get(place, mark) == mark else "X"
        yield "".join(marks.get(place, " ") for place in range(max(marks) + 1))
        moving = {(start + (end > start) - (end < start), end) for start, end in moving}


def write_graph(
    output: Output,
    lineage: Iterable[tuple[CommitInfo, Sequence[CommitId]]],
    names: Decorations,
    *,
    short: bool,
) -> None:
    """Commits with their history drawn on the left; `short`: a line for each."""
    graph = Graph()
    for info, parents in lineage:
        drawn = graph.draw(info.id, parents)
        if short:
            lines = [oneline(output, info, names)]
        else:
            lines = list(commit_lines(output, info, names))
            lines.append("")
        for line in _beside(drawn, lines):
            output.line(line)


def _beside(drawn: Drawn, lines: Sequence[str]) -> Iterator[str]:
    """A commit's lines with what is drawn before them."""
    count = max(len(lines), 1 + len(drawn.turns))
    before = [drawn.first, *drawn.turns, *[drawn.rest] * count][:count]
    width = max(map(len, before))
    for number, prefix in enumerate(before):
        text = lines[number] if number < len(lines) else ""
        yield f"{prefix.ljust(width)} {text}".rstrip()
