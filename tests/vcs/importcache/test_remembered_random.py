"""Imports that remember the last one, after edits by chance."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.importing import (
    agree,
    same_size_same_mtime,
    settle,
)
from vcs.store import Store

NAMES = ["a", "b", "c", "dir", "e" * 40]
ACTIONS = ("write", "overwrite", "mkdir", "remove", "rename", "link", "chmod", "xattr", "symlink", "touch", "settle")
edits = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 60), st.integers(0, 60), st.sampled_from(NAMES)), max_size=8
)


@settings(max_examples=40)
@given(rounds=st.lists(edits, min_size=2, max_size=5))
def test_any_edits(
    store: Store, tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[str, int, int, str]]]
) -> None:
    top = tmp_path_factory.mktemp("chance")
    for number, name in enumerate(["a", "b", "x/a", "x/b", "x/y/a", "z/a"]):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"{number}")
    for steps in rounds:
        for action, one, two, name in steps:
            edit(top, action, one, two, name)
        agree(store, top)
    shutil.rmtree(top)


def edit(top: Path, action: str, one: int, two: int, name: str) -> None:
    """Do something to the tree; what cannot be done is not done."""
    paths = sorted(top.rglob("*"))
    directories = [top, *(path for path in paths if path.is_dir() and not path.is_symlink())]
    files = [path for path in paths if stat.S_ISREG(path.lstat().st_mode)]
    target = directories[one % len(directories)] / name
    if action == "settle":
        settle(top)
    elif action == "mkdir" and not os.path.lexists(target):
        target.mkdir()
    elif action == "write" and not target.is_dir():
        target.write_text(f"{one}-{two}")
    elif action == "symlink" and not os.path.lexists(target):
        target.symlink_to(f"{two}")
    elif action == "link" and files and not os.path.lexists(target):
        os.link(files[two % len(files)], target)
    elif action == "overwrite" and files:
        same_size_same_mtime(files[two % len(files)])
    elif paths:
        path = paths[two % len(paths)]
        if action == "remove":
            shutil.rmtree(path) if path in directories else path.unlink()
        elif action == "rename" and path not in target.parents and not os.path.lexists(target):
            path.rename(target)
        elif action == "chmod" and not path.is_symlink():
            path.chmod(0o700 + one % 8)
        elif action == "xattr" and not path.is_symlink():
            os.setxattr(path, "user.x", b"%d" % one)
        elif action == "touch":
            os.utime(path, ns=(one, two), follow_symlinks=False)
