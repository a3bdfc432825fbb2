"""Directories deleted: deep ones, wide ones, and with what must stay."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runtime.system.deletion import delete_tree
from tests.support.descriptors import descriptors_left

DEPTH = 3000


def make_deep(top: Path, depth: int, name: str = "d" * 200) -> None:
    """Directories one in another, each with a file and an empty directory beside the next."""
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_CREAT, dir_fd=at))
        os.mkdir("beside", dir_fd=at)
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def test_deeper_than_paths_descriptors_and_calls(tmp_path: Path) -> None:
    make_deep(tmp_path / "top", DEPTH)
    with descriptors_left(100):
        delete_tree(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "stays").mkdir()
    (tmp_path / "stays/file").touch()
    (tmp_path / "top/below").mkdir(parents=True)
    (tmp_path / "top/link").symlink_to(tmp_path / "stays")
    (tmp_path / "top/below/link").symlink_to(tmp_path / "stays/file")
    (tmp_path / "itself").symlink_to(tmp_path / "stays")
    delete_tree(tmp_path / "top")
    delete_tree(tmp_path / "itself")
    delete_tree(tmp_path / "nothing")
    assert {path.name for path in tmp_path.iterdir()} == {"stays", "itself"}
    assert (tmp_path / "stays/file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a mount that is in the way")
def test_what_cannot_be_deleted_stays_and_nothing_else(tmp_path: Path) -> None:
    make_deep(tmp_path / "top", 200, "d")
    held = tmp_path / "top" / "/".join("d" * 150) / "beside"
    subprocess.run(["mount", "-t", "tmpfs", "treering-test", str(held)], check=True)
    try:
        delete_tree(tmp_path / "top")
        left = [names for _, names, files in os.walk(tmp_path / "top") if names or files]
        assert sum(map(len, left)) < 150
        assert any("beside" in names for names in left)
    finally:
        subprocess.run(["umount", str(next((tmp_path / "top").rglob("beside")))], check=True)
    delete_tree(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []
