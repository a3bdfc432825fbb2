"""Other people's programs on a container's root, on a plain overlay, and on the commit of what they did: briefly.
`python -m tests.posix.suites` gives them more to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, Command
from tests.posix.suites import SHORT, compare, fio, prepared

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: containers")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cli, Path]]:
    there = [suite for suite in SHORT.values() if not suite.missing()]
    with prepared(tmp_path_factory.mktemp("suites"), there) as made:
        yield made


@pytest.mark.parametrize("name", SHORT)
def test_it_says_the_same_in_a_container(place: tuple[Cli, Path], name: str) -> None:
    if missing := SHORT[name].missing():
        pytest.skip(f"there is no {', '.join(missing)}")
    assert compare(SHORT[name], *place) == []


@dataclass(frozen=True)
class Broken(Cli):
    """A program whose commits have a wrong byte in each large file."""

    @property
    def command(self) -> Command:
        python, *_ = super().command
        return [python, "-P", "-m", "tests.posix.broken", "bytes"]


def test_a_wrong_byte_in_a_commit_is_noticed(place: tuple[Cli, Path]) -> None:
    cli, root = place
    suite = fio(1, "psync")
    if suite.missing():
        pytest.skip("there is no fio")
    wrong = compare(suite, Broken(cli.store), root)
    assert len(wrong) == 1
    assert "in a container of the commit" in wrong[0]
