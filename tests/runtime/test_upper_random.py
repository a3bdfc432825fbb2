"""Whatever is done in the merged view of a real overlay, the scanned upper is what an import of that view gives.

Nothing is left out of the comparison: owners, modes, mtimes (directories' too), extended attributes, contents, holes,
and hard links as the inode numbers of the merged view tell them.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.overlay_cases import Layers, described, exchange, imported, needs_root
from vcs.snapshot import Snapshot

pytestmark = needs_root

EXAMPLES = int(os.environ.get("TREERING_UPPER_EXAMPLES", "120"))
NAMES = [b"a", b"b", b"c", b"d", b"sub", b"new", b"n\xff\n"]
ACL = bytes.fromhex("02000000 01000600ffffffff 02000700 e8030000 04000400ffffffff 10000700ffffffff 20000400ffffffff")


def make_base(top: Path) -> None:
    for name in ("d/sub/deep", "e", "f/sub"):
        (top / name).mkdir(parents=True)
    for number, name in enumerate(("a", "b", "d/a", "d/b", "d/sub/a", "d/sub/deep/a", "f/a", "f/sub/c")):
        (top / name).write_bytes(b"base %d" % number * (number + 1))
        os.utime(top / name, ns=(0, 1_000_000_000 * number + number))
    for group, names in {"l1": ("e/l1", "d/sub/l1", "f/l1"), "l2": ("d/l2", "d/sub/deep/l2")}.items():
        (top / group).write_bytes(group.encode())
        for name in names:
            (top / name).hardlink_to(top / group)
    with (top / "sparse").open("wb") as file:
        file.write(b"head")
        file.truncate(3 << 20)
    (top / "big").write_bytes(os.urandom(700_000))
    (top / "link").symlink_to("d/a")
    os.link(top / "link", top / "e/link", follow_symlinks=False)
    os.mkfifo(top / "d/fifo")
    os.mknod(top / "d/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(top / "d/a", "user.base", b"1")
    os.setxattr(top / "d", "system.posix_acl_default", ACL)
    os.setxattr(top / "b", "trusted.base", b"2")
    for directory in (top / "d/sub", top / "d", top / "e", top / "f", top):
        os.utime(directory, ns=(0, 77_000_000_007))


class Hand:
    """Does things to a mounted tree; every path is picked among what is there, and no symbolic link is followed."""

    def __init__(self, top: Path) -> None:
        self.top = os.fsencode(top)

    def paths(self) -> list[bytes]:
        found = []
        for here, directories, files in os.walk(self.top):
            found += [here + b"/" + name for name in directories + files]
        return sorted(found)

    def any(self, pick: int) -> bytes:
        paths = self.paths() or [self.top + b"/none"]
        return paths[pick % len(paths)]

    def file(self, pick: int) -> bytes:
        paths = [path for path in self.paths() if stat.S_ISREG(os.lstat(path).st_mode)] or [self.top + b"/none"]
        return paths[pick % len(paths)]

    def directory(self, pick: int) -> bytes:
        paths = [self.top, *(p for p in self.paths() if stat.S_ISDIR(os.lstat(p).st_mode))]
        return paths[pick % len(paths)]

    def place(self, pick: int, value: int) -> bytes:
        return self.directory(pick) + b"/" + NAMES[value % len(NAMES)]

    def create(self, pick: int, _: int, value: int) -> None:
        fd = os.open(self.place(pick, value), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
        os.write(fd, b"new %d" % value)
        os.close(fd)

    def write(self, pick: int, _: int, value: int) -> None:
        fd = os.open(self.file(pick), os.O_WRONLY | os.O_NOFOLLOW | (os.O_APPEND if value % 2 else 0))
        os.write(fd, b"written %d" % value)
        os.close(fd)

    def truncate(self, pick: int, _: int, value: int) -> None:
        os.truncate(self.file(pick), (0, 3, 4096, 5 << 20, 1 << 40)[value % 5])

    def punch(self, pick: int, _: int, value: int) -> None:
        fd = os.open(self.file(pick), os.O_WRONLY | os.O_NOFOLLOW)
        os.pwrite(fd, b"far", value << 12)
        os.close(fd)

    def chmod(self, pick: int, _: int, value: int) -> None:
        path = self.any(pick)
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            os.chmod(path, (0o600, 0o755, 0o4711, 0o2750, 0o1777, 0)[value % 6])

    def chown(self, pick: int, _: int, value: int) -> None:
        os.chown(self.any(pick), value, value * 70_000, follow_symlinks=False)

    def utime(self, pick: int, _: int, value: int) -> None:
        os.utime(self.any(pick), ns=(0, (value - 20) * 123_456_789), follow_symlinks=False)

    def move(self, pick: int, other: int, value: int) -> None:
        os.rename(self.any(pick), self.place(other, value))

    def move_over(self, pick: int, other: int, _: int) -> None:
        os.rename(self.any(pick), self.any(other))

    def move_directory(self, pick: int, other: int, value: int) -> None:
        os.rename(self.directory(pick), self.place(other, value))

    def swap(self, pick: int, other: int, _: int) -> None:
        exchange(self.any(pick), self.any(other))

    def remove(self, pick: int, _: int, __: int) -> None:
        _delete(self.any(pick))

    def replace_by_directory(self, pick: int, _: int, value: int) -> None:
        path = self.directory(pick) if value % 3 else self.any(pick)
        _delete(path)
        os.mkdir(path)
        if value % 2:
            os.close(os.open(path + b"/a", os.O_CREAT | os.O_EXCL))

    def mkdir(self, pick: int, _: int, value: int) -> None:
        os.mkdir(self.place(pick, value))

    def link(self, pick: int, other: int, value: int) -> None:
        os.link(self.any(pick), self.place(other, value), follow_symlinks=False)

    def symlink(self, pick: int, _: int, value: int) -> None:
        os.symlink(b"to-%d" % value, self.place(pick, value))

    def mknod(self, pick: int, _: int, value: int) -> None:
        kinds = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
        os.mknod(self.place(pick, value), kinds[value % 4] | 0o600, os.makedev(7, 300 + value))

    def set_xattr(self, pick: int, _: int, value: int) -> None:
        names = (
            "trusted.t",
            "user.x",
            "trusted.overlay.opaque",
            "trusted.overlay.overlay.deep",
            "user.overlay.redirect",
        )
        os.setxattr(self.any(pick), names[value % 5], b"%d" % value, follow_symlinks=False)

    def remove_xattr(self, pick: int, _: int, __: int) -> None:
        path = self.any(pick)
        for name in os.listxattr(path, follow_symlinks=False):
            os.removexattr(path, name, follow_symlinks=False)

    def set_acl(self, pick: int, _: int, value: int) -> None:
        os.setxattr(self.any(pick), f"system.posix_acl_{('access', 'default')[value % 2]}", ACL, follow_symlinks=False)

    def rewrite_the_same(self, pick: int, _: int, __: int) -> None:
        path = self.file(pick)
        before = os.lstat(path)
        data = Path(os.fsdecode(path)).read_bytes() if before.st_size < 1 << 20 else b""
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        os.write(fd, data)
        os.close(fd)
        os.utime(path, ns=(0, before.st_mtime_ns))


def _delete(path: bytes) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


Operation = Callable[[Hand, int, int, int], None]
Step = tuple[Operation, int, int, int]

OPERATIONS: list[Operation] = [
    function for name, function in vars(Hand).items() if callable(function)
    and function.__code__.co_argcount == 4 and not name.startswith("__")
]  # fmt: skip
STEPS = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 60), st.integers(0, 60), st.integers(0, 40)), max_size=14
)


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layers]:
    made = Layers(tmp_path_factory.mktemp("random"))
    make_base(made.lower)
    yield made
    shutil.rmtree(made.top)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 120, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_a_scanned_upper_is_what_the_merged_view_showed(layers: Layers, steps: list[Step]) -> None:
    layers.reset()
    with layers.mounted() as merged:
        hand = Hand(merged)
        for operation, pick, other, value in steps:
            try:
                operation(hand, pick, other, value)
            except OSError:
                continue  # what the kernel refuses is no step
        shown = described(imported(layers.store, merged))
        running = layers.scan().root
    result = layers.scan()
    found = described(layers.scanned())
    assert {path: found.get(path) for path in found if found[path] != shown.get(path)} == {
        path: shown.get(path) for path in found if found[path] != shown.get(path)
    }
    assert found.keys() == shown.keys()
    assert running == result.root


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 120, suppress_health_check=list(HealthCheck))
@given(rounds=st.lists(STEPS, min_size=2, max_size=4))
def test_what_changed_since_a_scan_is_all_that_is_read(layers: Layers, rounds: list[list[Step]]) -> None:
    layers.reset()
    seen = None
    with layers.mounted() as merged:
        hand = Hand(merged)
        for steps in rounds:
            for operation, pick, other, value in steps:
                try:
                    operation(hand, pick, other, value)
                except OSError:
                    continue
            expected = layers.scan()
            result = layers.scan(before=seen, since=1 << 62)
            assert result.root == expected.root
            assert described(Snapshot(layers.store, result.root)) == described(Snapshot(layers.store, expected.root))
            assert result.seen.plain == expected.seen.plain
            assert result.seen.directories.keys() == expected.seen.directories.keys()
            seen = result.seen
