"""Images in and out again: what we save comes back as it was, and what others made is the same tree after both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support.busybox_root import make_busybox_root
from tests.support.compare import differences, has_same_bytes
from tests.support.rich_tree import CAPABILITY, needs_root
from tests.system.test_images_out import KINDS, SPARSE, Commit, build, tool

pytestmark = needs_root


def opened(path: Path) -> Cli:
    cli = Cli(path)
    cli("init")
    return cli


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_and_imported_is_the_same_image(tmp_path: Path, kind: Callable[[Path, Commit], None]) -> None:
    first, second = opened(tmp_path / "first"), opened(tmp_path / "second")
    build(first, tmp_path, kind)
    saved = first.json("save", "main", "-o", str(tmp_path / "one"))
    second("import", str(tmp_path / "one"))
    again = second.json("save", "main", "-o", str(tmp_path / "two"))
    assert again["id"] == saved["id"]  # so the config: its history and its layers
    assert again["layers"] == saved["layers"]


def umoci_steps(root: Path, repack: Commit) -> None:
    """An image that umoci makes: whiteouts, hard links across layers, odd names, set-user-ID, capabilities."""
    make_busybox_root(root, bare=True)
    os.chmod(root / "bin/busybox", 0o4755)
    repack()
    shutil.rmtree(root / "home")
    (root / os.fsdecode(b"odd-\xff")).write_text("odd")
    os.link(root / "bin/busybox", root / "bin/busybox-too")
    repack()
    (root / "home").write_text("a file now")
    (root / os.fsdecode(b"odd-\xff")).unlink()
    (root / "ping").write_bytes(b"\x7fELF")
    os.setxattr(root / "ping", "security.capability", CAPABILITY)
    repack()


def test_an_image_of_umocis(tmp_path: Path) -> None:
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    tool("umoci", "init", "--layout", layout)
    tool("umoci", "new", "--image", f"{layout}:work")
    tool("umoci", "unpack", "--image", f"{layout}:work", bundle)

    def repack() -> None:
        tool("umoci", "repack", "--refresh-bundle", "--image", f"{layout}:work", bundle)

    umoci_steps(bundle / "rootfs", repack)
    cli = opened(tmp_path / "store")
    cli("import", str(layout), "--image", "work")
    cli("save", "main", "-o", str(tmp_path / "saved"))
    for name, image in (("theirs", f"{layout}:work"), ("ours", f"{tmp_path}/saved:main")):
        tool("umoci", "unpack", "--image", image, tmp_path / name)
    theirs, ours = tmp_path / "theirs/rootfs", tmp_path / "ours/rootfs"
    assert differences(theirs, ours, ignore=SPARSE) == []
    assert has_same_bytes(theirs, ours)
    assert os.getxattr(ours / "ping", "security.capability") == CAPABILITY
    assert (ours / "bin/busybox").stat().st_ino == (ours / "bin/busybox-too").stat().st_ino
