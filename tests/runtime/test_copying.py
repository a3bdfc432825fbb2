"""Copying by descriptors: what arrives, and that nothing outside a root is reached while its links change."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from runtime.copying.archives import read_archive, write_archive
from runtime.copying.item import Copied
from runtime.copying.places import Inside, Machine, opened_directory, opened_source, opened_target, parse
from runtime.copying.target import Owners
from runtime.copying.trees import Tree
from runtime.system.rootaccess import Root
from tests.support.compare import differences
from tests.support.killing import killed_anywhere
from tests.support.rich_tree import make
from vcs.errors import BadInput, TreeringError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

KEEP = Owners(keep=True)


@contextmanager
def inside(root: Path) -> Iterator[Inside]:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Inside(Root(fd), "box")
    finally:
        os.close(fd)


def copy_out(root: Path, path: str, target: Path, owners: Owners = KEEP, every_xattr: bool = True) -> Copied:
    copied = Copied()
    with inside(root) as side, ExitStack() as stack:
        given = parse(os.fsencode(path))
        top = stack.enter_context(opened_source(side, given, follow=False))
        tree = Tree(top, copied, every_xattr=every_xattr)
        is_directory = stat.S_ISDIR(os.fstat(top).st_mode)
        opened = opened_target(
            Machine(), parse(os.fsencode(target)), given.name,
            is_directory=is_directory, is_content=given.is_content, owners=owners, copied=copied,
        )  # fmt: skip
        made = stack.enter_context(opened)
        for item in tree:
            made.add(item)
    return copied


def copy_in(source: Path | str, root: Path, path: str, owners: Owners = KEEP) -> Copied:
    copied = Copied()
    with inside(root) as side, ExitStack() as stack:
        given = parse(os.fsencode(source))
        top = stack.enter_context(opened_source(Machine(), given, follow=False))
        opened = opened_target(
            side, parse(os.fsencode(path)), given.name,
            is_directory=os.path.isdir(source), is_content=given.is_content, owners=owners, copied=copied,
        )  # fmt: skip
        made = stack.enter_context(opened)
        for item in Tree(top, copied, every_xattr=True):
            made.add(item)
    return copied


def test_everything_arrives_as_it_was(tmp_path: Path) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    root.mkdir()
    make(source, sockets=False)
    copy_in(source, root, "/there")
    assert differences(source, root / "there", ignore=frozenset({"extents"})) == []
    copy_out(root, "/there", tmp_path / "back")
    assert differences(source, tmp_path / "back", ignore=frozenset({"extents"})) == []


def test_holes_stay_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(500 << 20)
        file.write(b"data")
    (tmp_path / "root").mkdir()
    copy_in(tmp_path / "sparse", tmp_path / "root", "/")
    made = tmp_path / "root/sparse"
    assert made.stat().st_size == 1 << 30
    assert made.stat().st_blocks * 512 < 1 << 20
    with made.open("rb") as file:
        file.seek(500 << 20)
        assert file.read(5) == b"data\0"


@pytest.mark.parametrize(
    ("owner", "user", "mode", "expected"),
    [
        (0, 0, 0o6755, 0o6755),
        (1000, 0, 0o6755, 0o755),
        (1000, 1000, 0o6755, 0o6755),
        (0, 1000, 0o4755, 0o755),
    ],
)
def test_set_ids_stay_where_they_mean_the_same(tmp_path: Path, owner: int, user: int, mode: int, expected: int) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "tool").touch()
    os.chown(root / "tool", owner, owner)
    (root / "tool").chmod(mode)
    copy_out(root, "/tool", tmp_path / "tool", Owners(False, user, user))
    status = (tmp_path / "tool").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (user, expected)


def test_a_directory_that_is_there_keeps_its_attributes(tmp_path: Path) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    (source / "etc").mkdir(parents=True)
    (source / "etc/file").touch()
    (source / "etc").chmod(0o700)
    (root / "etc").mkdir(parents=True)
    (root / "etc").chmod(0o751)
    copy_in(source / "etc", root, "/")
    assert stat.S_IMODE((root / "etc").stat().st_mode) == 0o751
    assert (root / "etc/file").exists()


def test_links_inside_lead_nowhere_outside(tmp_path: Path) -> None:
    """At the target a link is followed, in the container's own root; below it, never."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (root / "real").mkdir(parents=True)
    (root / "absolute").symlink_to("/real")
    (root / "escape").symlink_to(outside)
    (root / "up").symlink_to("../../../outside")
    (root / "file").symlink_to(outside / "file")
    source = tmp_path / "source"
    (source / "escape").mkdir(parents=True)
    (source / "escape/x").write_text("x")
    (source / "x").write_text("x")

    copy_in(source / "x", root, "/absolute")
    assert (root / "real/x").read_text() == "x"
    for target in ("/escape/x", "/up/x", "/file"):
        with pytest.raises(TreeringError):
            copy_in(source / "x", root, target)
    with pytest.raises(OSError, match="no directory, and stays"):
        copy_in(f"{source}/.", root, "/")
    assert list(outside.iterdir()) == []
    assert (root / "escape").is_symlink()


def test_what_is_written_is_never_half_there(tmp_path: Path) -> None:
    """A file that cannot be read to its end leaves the old one, and nothing beside it."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_text("old")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("file")
        member.size = 100_000
        tar.addfile(member, io.BytesIO(bytes(100_000)))
    with inside(root) as side, opened_directory(side, parse(b"/"), KEEP, Copied()) as target:
        item = next(read_archive(io.BytesIO(archive.getvalue()[:50_000])))
        with pytest.raises(BadInput):
            target.add(item)
    assert [entry.name for entry in root.iterdir()] == ["file"]
    assert (root / "file").read_text() == "old"


def test_archives_of_the_hostile(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, target in (("link", str(outside)), ("up", "../../outside")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
        member = tarfile.TarInfo("hard")
        member.type, member.linkname = tarfile.LNKTYPE, f"link/{outside.name}"
        for name in ("link/x", "up/x"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    failures = 0
    copied = Copied()
    with inside(root) as side, opened_directory(side, parse(b"/"), KEEP, copied) as made:
        for item in read_archive(io.BytesIO(archive.getvalue())):
            try:
                made.add(item)
            except OSError:
                failures += 1
    assert failures == 2
    assert list(outside.iterdir()) == []

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a/../../x"), io.BytesIO())
    with pytest.raises(BadInput, match="leads out"):
        list(read_archive(io.BytesIO(archive.getvalue())))


def test_an_archive_and_back(tmp_path: Path) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    root.mkdir()
    make(source, sockets=False)
    for name in ("sparse", "z-link", "hole", "hole-first"):  # holes come out as zeros
        (source / name).unlink()
    out = io.BytesIO()
    with inside(tmp_path) as side, opened_source(side, parse(b"/source"), follow=False) as top:
        write_archive(Tree(top, Copied(), every_xattr=True), b"source", out, Copied())
    out.seek(0)
    with inside(root) as side, opened_directory(side, parse(b"/"), KEEP, Copied()) as target:
        for item in read_archive(out, every_xattr=True):
            target.add(item)
    assert differences(source, root / "source", ignore=frozenset({"extents"})) == []


def test_devices_and_fifos_are_copied_not_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "dir").mkdir(parents=True)
    os.mkfifo(root / "dir/fifo", 0o640)
    os.mknod(root / "dir/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    copy_out(root, "/dir", tmp_path / "out")
    assert stat.S_ISFIFO((tmp_path / "out/fifo").lstat().st_mode)
    assert (tmp_path / "out/null").lstat().st_rdev == os.makedev(1, 3)


# -- where it goes


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """What is copied, and a root to copy it to."""
    here, root = tmp_path / "here", tmp_path / "root"
    (here / "tree").mkdir(parents=True)
    (here / "file").write_text("new")
    (here / "tree/leaf").write_text("new")
    (here / "link").symlink_to("file")
    for name in ("dir", "full", "taken/leaf"):
        (root / name).mkdir(parents=True)
    (root / "dir/old").write_text("old")
    (root / "full/tree").touch()
    (root / "to-dir").symlink_to("/dir")
    (root / "to-old").symlink_to("dir/old")
    (root / "to-new").symlink_to("/dir/new")
    return here, root


@pytest.mark.parametrize(
    ("source", "target", "made"),
    [
        ("file", "/dir", "dir/file"),
        ("file", "/dir/", "dir/file"),
        ("file", "/dir/.", "dir/file"),
        ("file", "/dir/new", "dir/new"),
        ("file", "dir/new", "dir/new"),
        ("file", "/dir/old", "dir/old"),
        ("file", "/to-dir", "dir/file"),
        ("file", "/to-old", "dir/old"),
        ("file", "/to-new", "dir/new"),
        ("file", "/to-dir/new", "dir/new"),
        ("file", "/dir/../dir/x/../y", "dir/y"),
        ("link", "/dir", "dir/link"),
        ("tree", "/dir", "dir/tree/leaf"),
        ("tree/", "/dir", "dir/tree/leaf"),
        ("tree", "/dir/new", "dir/new/leaf"),
        ("tree", "/dir/new/", "dir/new/leaf"),
        ("tree/.", "/dir", "dir/leaf"),
        ("tree/.", "/dir/new", "dir/new/leaf"),
        ("tree/.", "/to-dir", "dir/leaf"),
        ("tree/../tree", "/", "tree/leaf"),
    ],
)
def test_where_it_goes(places: tuple[Path, Path], source: str, target: str, made: str) -> None:
    here, root = places
    copy_in(f"{here}/{source}", root, target)
    found = root / made
    assert os.readlink(found) == "file" if source == "link" else found.read_text() == "new"
    assert not found.is_symlink() or source == "link"
    assert not list(root.rglob(".treering-*"))


def test_a_copy_that_is_killed_leaves_nothing_beside_it(places: tuple[Path, Path], tmp_path: Path) -> None:
    here, root = places

    def work(arm: Callable[[], None]) -> None:
        arm()
        copy_in(f"{here}/file", root, "/dir/killed")

    made = []
    for _ in killed_anywhere(work, tmp_path / "errors"):
        assert not list(root.rglob(".treering-*"))
        made.append((root / "dir/killed").exists())
        (root / "dir/killed").unlink(missing_ok=True)
    assert made.count(False) > 3
    assert made[-1]


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("file", "/nowhere/new", "there is no box:/nowhere"),
        ("file", "/dir/new/", "there is no directory box:/dir/new"),
        ("file", "/dir/old/", "box:/dir/old is not a directory"),
        ("file", "/dir/old/below", "there is no box:/dir/old/below"),
        ("file/", "/dir", "is not a directory"),
        ("tree", "/dir/old", "a directory cannot be copied to box:/dir/old"),
        ("missing", "/dir", "there is no "),
        ("tree", "/full", "no directory, and stays"),
        ("tree/.", "/taken", "a directory cannot be replaced"),
    ],
)
def test_what_does_not_go(places: tuple[Path, Path], source: str, target: str, says: str) -> None:
    here, root = places
    before = state(root)
    with pytest.raises((TreeringError, OSError), match=says):
        copy_in(f"{here}/{source}", root, target)
    assert state(root).keys() == before.keys()
    assert (root / "dir/old").read_text() == "old"


# -- attacks

EXCHANGE = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
os.chdir(sys.argv[1])
pairs = [os.fsencode(pair).split(b",") for pair in sys.argv[2:]]
end = time.monotonic() + 60
print("ready", flush=True)
while time.monotonic() < end:
    for one, other in pairs:
        libc.renameat2(-100, one, -100, other, 2)
"""


@contextmanager
def exchanging(directory: Path, *pairs: str) -> Iterator[None]:
    """Exchange names in a directory all the time, as a hostile container would."""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", EXCHANGE, str(directory), *pairs],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as attacker:  # fmt: skip
        try:
            assert attacker.stdout
            assert attacker.stdout.readline() == b"ready\n"
            yield
        finally:
            attacker.kill()


@pytest.fixture
def trap(tmp_path: Path) -> tuple[Path, Path]:
    """A root in which /work/dir is exchanged with a link out of it, and what must not be reached."""
    outside = tmp_path / "outside"
    (outside / "dir").mkdir(parents=True)
    (outside / "secret").write_text("SECRET")
    (outside / "dir/secret").write_text("SECRET")
    work = tmp_path / "root/work"
    (work / "dir").mkdir(parents=True)
    (work / "dir/secret").write_text("own")
    (work / "out").symlink_to(outside)
    (work / "file").write_text("own")
    (work / "link").symlink_to(outside / "secret")
    return tmp_path / "root", outside


def state(directory: Path) -> dict[str, tuple[int, int, int, int, bytes]]:
    return {
        str(path.relative_to(directory)): (
            path.lstat().st_mode,
            path.lstat().st_uid,
            path.lstat().st_mtime_ns,
            path.lstat().st_nlink,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in (directory, *sorted(directory.rglob("*")))
    }


ATTACKED = ("dir,out", "file,link")
_SECONDS = 2.0


def rounds() -> Iterator[int]:
    """So long that each kind of race is won and lost many times."""
    end = time.monotonic() + _SECONDS
    number = 0
    while time.monotonic() < end or number < 50:
        yield number
        number += 1


def test_nothing_outside_is_read(trap: tuple[Path, Path], tmp_path: Path) -> None:
    root, outside = trap
    seen: set[str] = set()
    before = state(outside)
    with exchanging(root / "work", *ATTACKED):
        for number in rounds():
            target = tmp_path / f"copies/{number}"
            target.mkdir(parents=True)
            for path in ("/work", "/work/dir/secret", "/work/file", "/work/dir/."):
                try:
                    copy_out(root, path, target)
                    seen.add(f"{path} copied")
                except (OSError, TreeringError):
                    seen.add(f"{path} refused")
            for found in target.rglob("*"):
                if found.is_symlink():
                    seen.add("link")
                elif found.is_file():
                    assert found.read_text() == "own", found
                    seen.add("file")
    assert state(outside) == before
    assert {"link", "file", "/work copied", "/work/dir/secret copied", "/work/dir/secret refused"} <= seen


def test_nothing_outside_is_written(trap: tuple[Path, Path], tmp_path: Path) -> None:
    root, outside = trap
    source = tmp_path / "source"
    (source / "dir").mkdir(parents=True)
    (source / "dir/secret").write_text("overwritten")
    (source / "dir/more").write_text("overwritten")
    os.mkfifo(source / "dir/fifo", 0o666)
    (source / "file").write_text("overwritten")
    before = state(outside)
    seen: set[str] = set()
    tasks: list[tuple[Path | str, str]] = [
        (source / "file", "/work/dir/secret"), (source / "file", "/work/file"), (source / "file", "/work/link"),
        (source / "dir", "/work"), (f"{source}/.", "/work"), (source / "dir/fifo", "/work/dir/fifo"),
    ]  # fmt: skip
    with exchanging(root / "work", *ATTACKED):
        for _ in rounds():
            for what, where in tasks:
                try:
                    copy_in(what, root, where, Owners(False, 1, 1))
                    seen.add(f"{where} copied")
                except (OSError, TreeringError):
                    seen.add(f"{where} refused")
    assert state(outside) == before
    assert {"/work/dir/secret copied", "/work/dir/secret refused", "/work refused", "/work copied"} <= seen


def test_the_attack_is_one(trap: tuple[Path, Path]) -> None:
    """Who checks first and opens then is led outside: so the tests above would see it."""
    root, _ = trap
    work = root / "work"
    with exchanging(work, *ATTACKED):
        for _ in range(100_000):
            if not (work / "file").is_symlink():
                try:
                    if (work / "file").read_text() == "SECRET":
                        return
                except OSError:
                    continue
    pytest.fail("not once in 100,000 tries")
