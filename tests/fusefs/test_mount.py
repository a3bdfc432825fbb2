"""A snapshot, mounted for real, looked at with the system's own tools."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs import mounting
from tests.fusefs.serving import commit, needs_fuse, serving
from tests.support.rich_tree import NOBODY, acl
from tests.support.values import file, link, root
from vcs.blobs import BlobWriter, put_data
from vcs.model import Device, Entry, Link, RootId, Special
from vcs.store import Store
from vcs.testing import MemoryStore

pytestmark = needs_fuse

TERA = 1 << 40
ACL = acl((1, 6, NOBODY), (2, 4, 4242), (4, 4, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY))
NAMES = (b"not-\xff\xfe-utf8", b"new\nline", b"n" * 255, "ümlaut".encode(), b"-dash", b"a space", b"back\\slash")


def sample(store: MemoryStore) -> RootId:
    writer = BlobWriter(store)
    writer.feed(b"head")
    writer.hole(TERA)
    writer.feed(b"tail")
    large = BlobWriter(store)
    for number in range(1 << 16):
        large.feed(number.to_bytes(4, "little") * 16)
    names = {name: b"content of " + name for name in NAMES}
    hard = file(put_data(store, b"linked"), link=Link(b"g" * 16, 3))
    spec = {
        "names": names,
        "many": {f"{number:05}": b"" for number in range(10_000)},
        "sparse": file(writer.finish()),
        "large": file(large.finish()),
        "link": link("names/-dash"),
        "null": Entry(b"", stat.S_IFCHR | 0o666, 0, 0, 0, Device(1, 3)),
        "disk": Entry(b"", stat.S_IFBLK | 0o660, 0, 6, 0, Device(259, 1_000_000)),
        "pipe": Entry(b"", stat.S_IFIFO | 0o600, 0, 0, 0, Special()),
        "socket": Entry(b"", stat.S_IFSOCK | 0o755, 0, 0, 0, Special()),
        "hard": {"a": hard, "b": hard, "deep": {"c": hard}},
        "same": {"one": b"same content", "two": b"same content"},
        "acl": file(put_data(store, b"x"), 0o640, xattrs=((b"system.posix_acl_access", ACL), (b"user.n", b"v\0v"))),
        "times": file(put_data(store, b"t"), 0o4751, uid=4_000_000_000, gid=77, mtime=-1_234_567_891),
    }
    return root(store, spec)


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    store = MemoryStore()
    made = sample(store)
    store.add_commit(made, "main")
    with serving(store, tmp_path_factory.mktemp("mount") / "mnt") as point:
        yield point / "branches/main"


def test_the_mount_is_what_it_should_be(top: Path) -> None:
    mount = mounting.mount_at(top.parents[1])
    assert mount is not None
    assert (mount.filesystem, mount.source) == (mounting.FILESYSTEM, b"test")
    line = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {mount.device} " in line)
    for option in ("ro,nosuid,nodev", "default_permissions", "user_id=0"):
        assert option in line
    readahead = Path(f"/sys/class/bdi/{mount.device}/read_ahead_kb")
    assert int(readahead.read_text()) == mounting.READAHEAD
    assert os.statvfs(top).f_namemax == 255


def test_names(top: Path) -> None:
    here = os.fsencode(top / "names")
    assert sorted(os.listdir(here)) == sorted(NAMES)
    for name in NAMES:
        with open(here + b"/" + name, "rb") as opened:
            assert opened.read() == b"content of " + name
    assert not os.path.lexists(here + b"/" + b"x" * 255)


def test_a_directory_of_ten_thousand(top: Path) -> None:
    expected = [f"{number:05}" for number in range(10_000)]
    for _ in range(2):
        assert sorted(os.listdir(top / "many")) == expected
    listed = subprocess.run(["ls", "-U", top / "many"], check=True, capture_output=True, text=True).stdout.split()
    assert sorted(listed) == expected
    assert len({os.lstat(top / "many" / name).st_ino for name in expected}) == 10_000


def test_types_and_attributes(top: Path) -> None:
    shown = subprocess.run(
        ["stat", "-c", "%n %F %a %u %g %t:%T", *sorted(os.listdir(top))],
        cwd=top, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert "null character special file 666 0 0 1:3" in shown
    assert "disk block special file 660 0 6 103:f4240" in shown
    assert "pipe fifo 600 0 0 0:0" in shown
    assert "socket socket 755 0 0 0:0" in shown
    assert "link symbolic link 777 0 0 0:0" in shown
    assert "times regular file 4751 4000000000 77 0:0" in shown
    assert os.stat(top / "times").st_mtime_ns == -1_234_567_891
    assert os.readlink(top / "link") == "names/-dash"
    assert (top / "link").read_bytes() == b"content of -dash"


def test_reading_a_large_file_in_any_order(top: Path) -> None:
    expected = b"".join(number.to_bytes(4, "little") * 16 for number in range(1 << 16))
    assert (top / "large").read_bytes() == expected
    with open(top / "large", "rb", buffering=0) as opened:
        for offset in (len(expected) - 10, 0, 1_000_001, 3 << 20, len(expected) + 5):
            assert os.pread(opened.fileno(), 5000, offset) == expected[offset : offset + 5000]


def test_a_terabyte_of_hole_is_never_read(top: Path) -> None:
    with open(top / "sparse", "rb", buffering=0) as opened:
        fd = opened.fileno()
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 4
        assert os.lseek(fd, 4, os.SEEK_DATA) == TERA + 4
        assert os.pread(fd, 100, TERA + 2) == b"\0\0tail"
        assert os.fstat(fd).st_size == TERA + 8
        assert os.fstat(fd).st_blocks * 512 <= 4096


def test_hard_links_are_one_file_and_equal_files_are_two(top: Path) -> None:
    linked = [os.lstat(top / "hard" / name) for name in ("a", "b", "deep/c")]
    assert {found.st_nlink for found in linked} == {3}
    assert len({found.st_ino for found in linked}) == 1
    assert os.lstat(top / "same/one").st_ino != os.lstat(top / "same/two").st_ino
    assert all(os.lstat(top / name).st_ino < 20_000 for name in os.listdir(top))


def test_extended_attributes_and_access_lists(top: Path) -> None:
    assert os.getxattr(top / "acl", "user.n") == b"v\0v"
    assert set(os.listxattr(top / "acl")) == {"system.posix_acl_access", "user.n"}
    assert os.listxattr(top / "times") == []
    shown = subprocess.run(["getfacl", "-cnp", top / "acl"], check=True, capture_output=True, text=True).stdout
    assert shown.split() == ["user::rw-", "user:4242:r--", "group::r--", "mask::r--", "other::---"]


@pytest.mark.parametrize("attempt", ["touch new", "rm large", "chmod 777 large", "echo x >large", "mv large big"])
def test_nothing_can_be_written(top: Path, attempt: str) -> None:
    done = subprocess.run(["sh", "-c", attempt], cwd=top, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "Read-only file system" in done.stderr


def test_a_second_look_asks_nothing(tmp_path: Path) -> None:
    """The kernel serves names, attributes, links, absent names, listings and contents itself."""
    store = MemoryStore()
    store.add_commit(root(store, {"d": {"f": b"content", "l": link("f")}, "e": b"x" * 100_000}), "main")
    with serving(store, tmp_path / "mnt", trace=True) as point:
        here = (point / "branches/main").resolve()

        def look() -> None:
            assert sorted(os.listdir(here)) == ["d", "e"]
            assert os.listdir(here / "d")
            assert (here / "d/l").read_bytes() == b"content"
            assert len((here / "e").read_bytes()) == 100_000
            assert not (here / "absent").exists()
            os.stat(here / "d/f")

        look()
        before = messages(point)
        assert before
        look()
        assert messages(point) == before


def messages(point: Path) -> list[str]:
    """What the kernel has asked so far. When it forgets is its own affair, and each isatty(3), so each open(), asks."""
    lines = Path(f"{point}.log").read_text().splitlines()
    return [line for line in lines if "fusefs.trace" in line and "FORGET" not in line and "IOCTL" not in line]


def test_a_damaged_chunk_is_an_error_of_its_file_alone(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        bad, good = os.urandom(300_000), os.urandom(300_000)
        commit(store, {"bad": bad, "good": good, "small": b"small"})
        layer = next((tmp_path / "store/layers").iterdir())
    data = bytearray(layer.read_bytes())
    at = data.find(bad[100_000:100_100])
    assert at > 0, "random bytes are stored as they are"
    data[at] ^= 1
    layer.chmod(0o600)
    layer.write_bytes(data)
    with Store.open(tmp_path / "store") as store, serving(store, tmp_path / "mnt") as point:
        top = point / "branches/main"
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                (top / "bad").read_bytes()
        assert (top / "good").read_bytes() == good
        assert (top / "small").read_bytes() == b"small"
    log = (tmp_path / "mnt.log").read_text()
    assert f"layer={layer.stem}" in log
    assert "digest=" in log


def test_two_commits_share_a_file(tmp_path: Path) -> None:
    store = MemoryStore()
    store.add_commit(root(store, {"etc": {"kept": b"kept", "changed": b"old"}}), "old")
    store.add_commit(root(store, {"etc": {"kept": b"kept", "changed": b"new"}, "a": b"a"}), "new")
    with serving(store, tmp_path / "mnt") as point:
        old, new = (point / "branches" / name / "etc" for name in ("old", "new"))
        assert os.stat(old / "kept").st_ino == os.stat(new / "kept").st_ino
        assert os.stat(old / "changed").st_ino != os.stat(new / "changed").st_ino
        assert (old / "changed").read_bytes() == b"old"
        assert (new / "changed").read_bytes() == b"new"


def test_commits_that_are_made_while_mounted_appear(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        first = commit(store, {"f": b"1"})
        with Store.open(tmp_path / "store") as other, serving(other, tmp_path / "mnt") as point:
            for _ in range(2):
                assert os.listdir(point / "branches") == ["main"]
                assert (point / "branches/main/f").read_bytes() == b"1"
                assert not (point / "branches/topic").exists()
            second = commit(store, {"f": b"2"})
            commit(store, {"f": b"3"}, "topic/deep")
            assert (point / "branches/main/f").read_bytes() == b"2"
            assert (point / "branches/topic/deep/f").read_bytes() == b"3"
            assert sorted(os.listdir(point / "branches")) == ["main", "topic"]
            assert {first, second} < set(os.listdir(point / "commits"))
            assert len(os.listdir(point / "trees")) == 3
            assert (point / "commits" / first / "f").read_bytes() == b"1"
            assert os.readlink(point / "branches/topic/deep").startswith("../../trees/")
            store.history.delete("refs/heads/topic/deep")
            assert os.listdir(point / "branches") == ["main"]
            assert not (point / "branches/topic").exists()


def test_forgotten_nodes_come_back_with_their_numbers(top: Path) -> None:
    before = {name: os.lstat(top / "names" / os.fsdecode(name)).st_ino for name in NAMES}
    Path("/proc/sys/vm/drop_caches").write_text("2\n")
    assert {name: os.lstat(top / "names" / os.fsdecode(name)).st_ino for name in NAMES} == before
