"""Numbers that are too large."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.flood.place import Place

SCALES: dict[str, Callable[[Place, float], Iterator[str]]] = {}
