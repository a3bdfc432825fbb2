"""Histories drawn in ASCII."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli.graph import Graph

History = list[tuple[str, str]]


def drawn(history: History) -> str:
    """Each commit (a letter) with its parents (letters), as `log --graph --oneline` has them."""
    graph = Graph()
    lines = []
    for commit, parents in history:
        found = graph.draw(commit, list(parents))
        lines.append(f"{found.first} {commit}")
        lines += found.turns
    return "\n".join(lines)


LINE = (
    [("c", "b"), ("b", "a"), ("a", "")],
    r"""
* c
* b
* a""",
)
MERGE = (
    [("m", "ab"), ("b", "r"), ("a", "r"), ("r", "")],
    r"""
* m
|\
| * b
* | a
|/
* r""",
)
ENDS = (
    [("x", "r"), ("y", "r"), ("r", "")],
    r"""
* x
| * y
|/
* r""",
)
ROOTS = (
    [("x", "a"), ("y", "b"), ("a", ""), ("b", "")],
    r"""
* x
| * y
* | a
 /
* b""",
)
OCTOPUS = (
    [("m", "abc"), ("c", "r"), ("b", "r"), ("a", "r"), ("r", "")],
    r"""
* m
|\
| |\
| | * c
| * | b
| |/
* | a
|/
* r""",
)
FAR = (
    [("m", "an"), ("n", "bo"), ("o", "a"), ("b", "a"), ("a", "")],
    r"""
* m
|\
| * n
| |\
| | * o
| |/
|/|
| * b
|/
* a""",
)
CROSS = (
    [("x", "ab"), ("y", "ab"), ("b", "r"), ("a", "r"), ("r", "")],
    r"""
* x
|\
| | * y
| |/
|/|
| * b
* | a
|/
* r""",
)


@pytest.mark.parametrize(
    ("history", "picture"),
    [LINE, MERGE, ENDS, ROOTS, OCTOPUS, FAR, CROSS],
    ids=["line", "merge", "ends", "roots", "octopus", "far", "cross"],
)
def test_pictures(history: History, picture: str) -> None:
    assert "\n" + drawn(history) == picture


@given(st.lists(st.sets(st.integers(1, 5), max_size=3), max_size=30))
def test_every_commit_has_one_star_and_what_it_leads_to_has_a_line(distances: list[set[int]]) -> None:
    """Commit n has the parents n + d for each d. At the end all lines of descent are at the commits to come."""
    graph = Graph()
    awaited: set[int] = set()
    for number, steps in enumerate(distances):
        parents = [number + step for step in sorted(steps)]
        found = graph.draw(str(number), [str(parent) for parent in parents])
        awaited = (awaited - {number}) | set(parents)
        assert found.first.count("*") == 1
        assert found.rest == " ".join("|" * len(awaited))
