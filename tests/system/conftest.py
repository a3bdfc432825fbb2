"""An ordinary user with a store of his own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.busybox_root import make_busybox_root
from tests.support.ordinary_user import OrdinaryUser, ordinary_user
from tests.system.homes import copy, give


@pytest.fixture(scope="module")
def made() -> Iterator[OrdinaryUser]:
    """The user, and beside his home what it is to hold: a small root, and a store that has it on `main`."""
    with ordinary_user() as user:
        root = make_busybox_root(user.home / "root")
        (root / "etc/noted").write_text("one\n")
        os.setxattr(root / "etc/noted", "user.note", b"kept")
        (root / "etc/old").mkdir()
        (root / "etc/old/file").write_text("moved along\n")
        (root / "home/ana/gone").write_text("gone\n")
        give(user, root)
        user.treering("init")
        imported = user.treering("import", "root", "-m", "base")
        assert "warning" not in imported.stderr
        assert user.settled()
        copy(user.home, user.place / "prepared")
        yield user


@pytest.fixture
def user(made: OrdinaryUser) -> Iterator[OrdinaryUser]:
    """The user, whose home is as it was prepared. Nothing of his may run or be mounted in the end."""
    try:
        made.clear()
        copy(made.place / "prepared", made.home)
        yield made
        assert made.settled()
    finally:
        made.clear()
