"""Stores that have files, of which copies can be made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vcs.plain.copies import SIZES, on_main
from vcs.check import check
from vcs.model import Chunked, Data
from vcs.plain import Plain
from vcs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as opened:
        yield opened
    with Store.open(tmp_path / "store") as again:
        assert [problem for problem in check(again).problems if problem.kind != "cache"] == []


@pytest.fixture(params=SIZES)
def file(store: Store, request: pytest.FixtureRequest) -> Plain:
    """A file that `main` has, of either kind."""
    made = on_main(store, SIZES[request.param])
    assert isinstance(made, Chunked if request.param == "list" else Data)
    return made


@pytest.fixture
def large(store: Store) -> Chunked:
    """A file of many chunks that `main` has."""
    made = on_main(store, 3_000_000)
    assert isinstance(made, Chunked)
    return made
