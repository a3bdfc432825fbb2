"""What tests of stores share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vcs.check import check
from vcs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store; what a test leaves in it is whole."""
    with Store.create(tmp_path / "store") as made:
        yield made
    with Store.open(tmp_path / "store") as again:
        assert check(again).problems == []
