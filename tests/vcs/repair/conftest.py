"""A store that is whole, a copy of it to be damaged, and what both show."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.flips import Expected, make_store


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("repair") / "store"
    make_store(store)
    return store


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    path = tmp_path / "store"
    shutil.copytree(pristine, path)
    return path


@pytest.fixture(scope="module")
def expected(pristine: Path) -> Expected:
    return Expected(pristine)
