"""Imports that remember the last one: the same roots as without a memory, whatever was changed in between."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.importing import (
    agree,
    fresh,
    ignoring,
    opened_files,
    run,
    same_size_same_mtime,
    settle,
)
from tests.support.rich_tree import make, needs_root
from vcs.ignore import Ignore
from vcs.importcache import RECORD_SIZE, UNKNOWN, record_of, spoiled
from vcs.importframe import Frame
from vcs.store import Store


def test_an_unchanged_tree_is_not_read(store: Store, tree: Path) -> None:
    first = agree(store, tree)
    objects = len(list(store.index.objects()))
    with opened_files() as files:
        again = run(store, tree)
    assert files == []
    assert (again.root, again.entries, again.size) == (first.root, first.entries, first.size)
    assert len(list(store.index.objects())) == objects


def test_only_what_changed_is_read(store: Store, tree: Path) -> None:
    run(store, tree)
    (tree / "etc/deep/deeper/last").write_text("next")
    (tree / "usr/new").write_text("new")
    with opened_files() as files:
        result = run(store, tree)
    assert sorted(files) == [b"last", b"new"]  # type: ignore[type-var]
    assert result.root == fresh(store, tree)
    snapshot = store.snapshot(result.root)
    assert snapshot.find(b"usr/new") is not None
    settle(tree)
    agree(store, tree)  # what was just changed is looked at once more
    with opened_files() as files:
        run(store, tree)
    assert files == []


def test_rescan_reads_everything_and_leaves_a_new_cache(store: Store, tree: Path) -> None:
    run(store, tree)
    with opened_files() as files:
        run(store, tree, remember=False)
    assert len(files) == 4
    with opened_files() as files:
        run(store, tree)
    assert files == []


def replaced(path: Path) -> None:
    """Another file of the same size and time in its place, by rename."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"Y" * status.st_size)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


def to_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("inside")


CHANGES: dict[str, Callable[[Path], object]] = {
    "same size and mtime": same_size_same_mtime,
    "replaced by rename": replaced,
    "mtime": lambda path: os.utime(path, ns=(1, 1)),
    "mode": lambda path: path.chmod(0o4755),
    "an attribute": lambda path: os.setxattr(path, "user.new", b"1"),
    "gone": lambda path: path.unlink(),
    "a directory instead": to_a_directory,
    "a symbolic link instead": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    "renamed": lambda path: path.rename(path.with_name("zzz")),
    "another name": lambda path: os.link(path, path.with_name("link")),
    "its directory's mode": lambda path: path.parent.chmod(0o700),
    "its directory's attribute": lambda path: os.setxattr(path.parent, "user.dir", b"1"),
    "its directory gone": lambda path: shutil.rmtree(path.parent),
    "its directory another": lambda path: (
        path.parent.rename(path.parent.with_name("moved")),
        shutil.copytree(path.parent.with_name("moved"), path.parent),
    ),
    "a file for its directory": lambda path: (shutil.rmtree(path.parent), path.parent.write_text("file")),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("place", ["etc/passwd", "etc/deep/deeper/last"])
def test_every_change_is_seen(store: Store, tree: Path, change: str, place: str) -> None:
    before = run(store, tree)
    CHANGES[change](tree / place)
    after = agree(store, tree)
    assert after.root != before.root
    agree(store, tree)


@needs_root
def test_an_owner_is_seen(store: Store, tree: Path) -> None:
    before = run(store, tree)
    os.chown(tree / "usr/tool", 12, 34)
    assert agree(store, tree).root != before.root


def test_another_directory_at_the_same_path(store: Store, tree: Path) -> None:
    run(store, tree)
    tree.rename(tree.with_name("old"))
    shutil.copytree(tree.with_name("old"), tree, copy_function=shutil.copy2)
    for place, names, files in os.walk(tree):
        for name in names + files:
            os.utime(Path(place) / name, ns=(1, 1))
    agree(store, tree)


def test_the_top_itself(store: Store, tree: Path) -> None:
    before = run(store, tree)
    tree.chmod(0o711)
    with opened_files() as files:
        after = run(store, tree)
    assert files == []
    assert after.root != before.root
    assert after.root == fresh(store, tree)


# -- the racy rule


def frame(began: int, trusted: bool = True) -> Frame:
    return Frame(b"", -1, (0, 0), Ignore(), trusted, 0, began=began)


def test_what_may_still_change_within_a_tick_is_spoiled(tree: Path) -> None:
    status = (tree / "usr/tool").stat()
    record = record_of(status)
    assert len(record) == len(UNKNOWN) == RECORD_SIZE
    now = status.st_ctime_ns
    assert frame(now + 1_000_000).lasting(status, record) == spoiled(record) != record
    assert frame(now - 1).lasting(status, record) == spoiled(record)  # the clock was set back, or ctime is to come
    assert frame(now + 1_000_000_000).lasting(status, record) == record
    assert frame(now + 10_000_000_000).lasting(status, record) == record
    assert frame(now + 10_000_000_000, trusted=False).lasting(status, record) == spoiled(record)


def test_a_file_written_just_now_is_read_again(store: Store, tree: Path) -> None:
    (tree / "usr/tool").write_text("now!")
    run(store, tree)
    with opened_files() as files:
        run(store, tree)
    assert files in ([b"tool"], [])  # unless a tick has passed between write and import
    settle(tree)
    run(store, tree)
    with opened_files() as files:
        run(store, tree)
    assert files == []


def test_a_time_to_come_is_not_trusted(store: Store, tree: Path) -> None:
    later = time.time_ns() + 3_600_000_000_000
    os.utime(tree / "usr/tool", ns=(later, later))
    run(store, tree)
    agree(store, tree)
    with opened_files() as files:
        run(store, tree)
    assert files == [b"tool"]


# -- options


def test_patterns_may_change(store: Store, tree: Path) -> None:
    for lines in ([], ["/etc/deep"], ["last"], [], ["*"], ["usr", "!usr"]):
        agree(store, tree, ignore=ignoring(*lines))


def test_directories_to_leave_out_may_change(store: Store, tree: Path) -> None:
    status = (tree / "etc/deep").stat()
    out = frozenset({(status.st_dev, status.st_ino)})
    for leave_out in (frozenset(), out, out, frozenset()):
        result = agree(store, tree, leave_out=leave_out)
        assert result.skipped == ([b"/etc/deep"] if leave_out else [])


@needs_root
def test_mount_points_come_and_go(store: Store, tree: Path) -> None:
    expected = agree(store, tree).root
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tree / "etc/deep")], check=True)
    try:
        (tree / "etc/deep/other").write_text("other")
        for enter in (False, False, True, True, False):
            result = agree(store, tree, one_file_system=not enter)
            assert result.skipped == ([] if enter else [b"/etc/deep"])
            assert (store.snapshot(result.root).find(b"etc/deep/other") is not None) == enter
    finally:
        subprocess.run(["umount", str(tree / "etc/deep")], check=True)
    assert agree(store, tree).root == expected


@needs_root
def test_what_is_mounted_read_only_is_read_each_time(store: Store, tree: Path) -> None:
    """Images made to be reproducible may differ in nothing that stat(2) says."""
    subprocess.run(["mount", "--bind", "-o", "ro", str(tree), str(tree)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(tree)], check=True)
    try:
        run(store, tree)
        with opened_files() as files:
            run(store, tree)
        assert len(files) == 4
    finally:
        subprocess.run(["umount", str(tree)], check=True)


@needs_root
def test_one_of_everything(store: Store, tmp_path: Path) -> None:
    top = make(tmp_path / "rich")
    first = agree(store, top)
    assert first.whiteouts == [b"/whiteout"]
    settle(top)
    agree(store, top)
    with opened_files() as files:
        again = run(store, top)
    # Its files have times to come, and those are not trusted.
    assert len(files) < first.entries / 3
    assert again.whiteouts == [b"/whiteout"]


# -- large, deep


def test_a_large_directory(store: Store, tmp_path: Path) -> None:
    top = tmp_path / "large"
    top.mkdir()
    for number in range(3000):
        (top / f"{number:05}").symlink_to("x")
    settle(top)
    agree(store, top)
    (top / "02000").unlink()
    (top / "00007").unlink()
    (top / "00007").write_text("seven")
    (top / "99999").mkdir()
    result = agree(store, top)
    assert result.entries == 3000


def test_a_tree_deeper_than_a_path_may_be_long(store: Store, tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("directory-name", dir_fd=here)
        below = os.open("directory-name", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    time.sleep(0.03)
    try:
        assert agree(store, tmp_path).entries == 301
        with opened_files() as files:
            run(store, tmp_path)
        assert files == []
        os.close(os.open("more", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        assert agree(store, tmp_path).entries == 302
    finally:
        os.close(here)
        subprocess.run(["rm", "-rf", str(tmp_path / "directory-name")], check=True)
