"""Large files of an upper are cloned while a container stands still, and read afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.upper.clones import Clones
from tests.runtime.overlay_cases import Layers, needs_root
from vcs.blobs import LARGE

pytestmark = needs_root


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Path]:
    """A file system whose files can share blocks."""
    image, point = tmp_path / "image", tmp_path / "btrfs"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    point.mkdir()
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, stdin=subprocess.DEVNULL, timeout=60)
    subprocess.run(["mount", "-o", "loop", image, point], check=True, stdin=subprocess.DEVNULL, timeout=60)
    yield point
    subprocess.run(["umount", point], check=True, stdin=subprocess.DEVNULL, timeout=120)


def test_a_large_file_is_as_it_was_when_it_was_cloned(btrfs: Path) -> None:
    layers = Layers(btrfs)
    assert layers.base
    (layers.upper / "d/sub").mkdir(parents=True)
    files = [layers.upper / "large", layers.upper / "d/sub/large"]
    data = os.urandom(LARGE + 12_345)
    for file in files:
        file.write_bytes(data)
    (layers.upper / "small").write_bytes(b"small")
    expected = layers.scan()
    clones = Clones(layers.upper.parent)
    called = []

    def was_read() -> None:
        called.append(1)
        for file in files:
            with file.open("r+b") as opened:
                opened.write(b"changed meanwhile")

    found = layers.scan(clones=clones, was_read=was_read)
    assert found.root == expected.root
    assert called == [1]
    again = layers.scan(clones=clones, before=expected.seen)
    assert again.root != expected.root
    assert again.root == layers.scan().root
    clones.close()
    assert sorted(os.listdir(btrfs)) == ["lower", "merged", "upper", "work"]


def test_where_blocks_cannot_be_shared_files_are_read(tmp_path: Path) -> None:
    """ext4 and tmpfs cannot; elsewhere this tests less."""
    layers = Layers(tmp_path)
    assert layers.base
    (layers.upper / "large").write_bytes(os.urandom(LARGE))
    clones = Clones(layers.upper)
    assert layers.scan(clones=clones).root == layers.scan().root
    clones.close()


def test_hard_links_among_the_changes(btrfs: Path) -> None:
    """What was cloned before that was noticed is forgotten, and cloned again."""
    layers = Layers(btrfs)
    assert layers.base
    (layers.upper / "a").write_bytes(os.urandom(LARGE))
    before = layers.scan().seen
    (layers.upper / "z").write_bytes(b"z")
    os.link(layers.upper / "z", layers.upper / "zz")
    clones = Clones(btrfs)
    found = layers.scan(clones=clones, before=before)
    assert found.root == layers.scan().root
    assert not found.seen.plain
    clones.close()
