"""The examples in docstrings say what is."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    for package in ("vcs", "fusefs", "runtime")
    for path in (PROJECT / package).rglob("*.py")
    if ">>> " in path.read_text()
)


def test_there_are_some() -> None:
    assert len(MODULES) > 10


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    found = doctest.testmod(import_module(name))
    assert found.attempted
    assert not found.failed
