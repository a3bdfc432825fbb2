"""Directories that are cut into nodes after a few names, so that small ones have many levels."""

from __future__ import annotations

import pytest

from vcs import encoding, tree_edit, trees

_LIMITS = {"NODE_LIMIT": 8, "SPLIT_MIN": 2, "_SPLIT_MAX": 6, "_SPLIT_MASK": 1}


def shrink_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make nodes of 2 to 6 items, in every module that knows the limits."""
    for name, value in _LIMITS.items():
        assert hasattr(encoding, name)
        for module in (encoding, trees, tree_edit):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
