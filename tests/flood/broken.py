"""Variants of the program with a fault each: a flood that does not notice them says nothing.

python -m tests.flood.broken VARIANT ARGUMENT...      runs a treering command of the variant
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vcs.collect import collection
from vcs.history import History
from vcs.leases import Leased
from vcs.operations import Operations

_STALL = 3.0
"""Seconds; a collection beside other processes takes less."""


def _leases_ignored() -> None:
    """gc does not look at what writers count on; and these take their time, so that it meets them within seconds."""
    collection.read_leases = lambda *_, **__: Leased()  # type: ignore[attr-defined]
    real = History.move

    def move(self: History, *arguments: Any, **more: Any) -> None:
        time.sleep(_STALL)
        real(self, *arguments, **more)

    History.move = move  # type: ignore[method-assign]


def _refs_unlocked() -> None:
    """A ref moves from wherever it is: who is second wins."""
    real = History.move

    def move(self: History, ref: str, new: Any, expected: Any, *arguments: Any, **more: Any) -> None:
        real(self, ref, new, self.target(ref), *arguments, **more)

    History.move = move  # type: ignore[method-assign]


def _operations_forgotten() -> None:
    """gc does not keep what the operation log names."""
    Operations.young_ids = lambda self, since: set()  # type: ignore[method-assign]


VARIANTS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "leases-ignored": _leases_ignored,
    "refs-unlocked": _refs_unlocked,
    "operations-forgotten": _operations_forgotten,
}
