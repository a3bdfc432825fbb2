"""Numbers that are too large: each is made, used by the commands that meet it, checked, and removed.

A line for each command: its seconds, those of a processor, the most memory it had, and the store's size after it. Each
yields its findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.flood.place import Place
from tests.flood.scale.branches import branches
from tests.flood.scale.commits import commits
from tests.flood.scale.containers import containers
from tests.flood.scale.deep import deep
from tests.flood.scale.names import names

SCALES: dict[str, Callable[[Place, float], Iterator[str]]] = {
    "containers": containers,
    "branches": branches,
    "commits": commits,
    "names": names,
    "deep": deep,
}
