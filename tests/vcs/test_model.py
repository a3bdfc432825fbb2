"""The values: what they answer about themselves, and that they cannot be changed."""

import stat

import pytest

from tests.support.values import EMPTY_TREE, NO_DIGEST
from vcs.model import EMPTY_FILE, Chunked, Data, Device, Entry, Special, Symlink, Tree, type_name


@pytest.mark.parametrize(
    ("mode", "content", "size", "name"),
    [
        (stat.S_IFREG, Data(7, NO_DIGEST), 7, "file"),
        (stat.S_IFREG, EMPTY_FILE, 0, "file"),
        (stat.S_IFREG, Chunked(1 << 40, NO_DIGEST, 0), 1 << 40, "file"),
        (stat.S_IFLNK, Symlink(b"\xff/target"), 8, "symlink"),
        (stat.S_IFCHR, Device(1, 3), 0, "character device"),
        (stat.S_IFBLK, Device(8, 0), 0, "block device"),
        (stat.S_IFIFO, Special(), 0, "fifo"),
        (stat.S_IFSOCK, Special(), 0, "socket"),
        (stat.S_IFDIR, Tree(NO_DIGEST, 3, 99, 0), 0, "directory"),
    ],
)
def test_an_entry_knows_its_size_and_type(mode: int, content: object, size: int, name: str) -> None:
    entry = Entry(b"x", mode | 0o600, 0, 0, 0, content)  # type: ignore[arg-type]
    assert (entry.size, type_name(entry)) == (size, name)
    assert entry.is_dir == (name == "directory")
    assert entry.is_file == (name == "file")


def test_values_are_frozen_hashable_and_compare_by_value() -> None:
    one = Entry(b"x", stat.S_IFDIR | 0o755, 0, 0, 0, EMPTY_TREE)
    with pytest.raises(AttributeError):
        one.uid = 1
    assert {one, Entry(b"x", stat.S_IFDIR | 0o755, 0, 0, 0, EMPTY_TREE)} == {one}
