"""Containers lie apart on ext4; on other file systems they are made all the same."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from runtime.containers import Containers
from runtime.settings import Settings
from runtime.system import mounts
from runtime.system.spreading import GETFLAGS, TOPDIR, spread
from vcs.history import Author
from vcs.model import EMPTY_FILE, Entry
from vcs.store import Store
from vcs.trees import write_root, write_tree


def _with_a_container(place: Path) -> Path:
    author = Author("tester", "tester@localhost", int(time.time()))
    with Store.create(place) as store:
        with store.batch() as batch:
            tree = write_tree(batch, [Entry(b"file", 0o100644, 0, 0, 0, EMPTY_FILE)])
            root = write_root(batch, Entry(b"", 0o40755, 0, 0, 0, tree))
        commit = store.add_commit(root, {}, "base\n", author)
        container = Containers(store).create("main", commit, Settings(), author, "one")
        assert container.paths.directory.parent == place / "containers"
        assert container.paths.record.is_file()
    return place / "containers"


def flags_of(directory: Path) -> int:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return int.from_bytes(fcntl.ioctl(fd, GETFLAGS, bytes(8)), sys.byteorder)
    finally:
        os.close(fd)


def test_on_ext4_containers_lie_apart(tmp_path: Path) -> None:
    if mounts.file_system_type(bytes(tmp_path)) != mounts.EXT4_MAGIC:
        pytest.skip("the temporary directory is not on ext4")
    assert not flags_of(tmp_path) & TOPDIR
    containers = _with_a_container(tmp_path / "store")
    before = flags_of(containers)
    assert before & TOPDIR
    spread(containers)  # once more changes nothing
    assert flags_of(containers) == before


def test_elsewhere_nothing_is_asked_of_the_file_system() -> None:
    if mounts.file_system_type(b"/dev/shm") == mounts.EXT4_MAGIC:
        pytest.skip("/dev/shm is on ext4")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        _with_a_container(Path(place) / "store")
