"""Imports that remember the last one: the same roots as without a memory, whatever was changed in between."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rich_tree import make, needs_root
from vcs.batch import Batch
from vcs.check import check
from vcs.history import Author
from vcs.ignore import Ignore, Patterns
from vcs.importcache import RECORD_SIZE, UNKNOWN, import_cache, record_of, spoiled
from vcs.importer import ImportResult, import_directory
from vcs.importframe import Frame
from vcs.model import RootId
from vcs.store import Store

BRANCH = "refs/heads/main"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.create(tmp_path_factory.mktemp("import") / "store") as store:
        yield store
        assert check(store).problems == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "etc/deep/deeper").mkdir(parents=True)
    (top / "usr").mkdir()
    (top / "etc/passwd").write_text("root")
    (top / "etc/deep/file").write_text("deep")
    (top / "etc/deep/deeper/last").write_text("last")
    (top / "usr/tool").write_text("tool")
    settle(top)
    return top


def settle(top: Path) -> None:
    """Wait until the clock has left behind every change, so that the cache may rely on what it sees."""
    paths = [top, *(Path(place) / name for place, names, files in os.walk(top) for name in names + files)]
    deadline = time.monotonic() + 20
    while max(path.lstat().st_ctime_ns for path in paths) + 20_000_001 > time.time_ns():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def run(store: Store, top: Path, *, remember: bool = True, keep: bool = True, **options: object) -> ImportResult:
    """Import with the cache, and leave the next one; commit, unless nobody collects garbage meanwhile."""
    with store.writing() as lease, import_cache(store, lease, top, rescan=not remember) as cache:
        with store.batch() as batch:
            result = import_directory(batch, top, cache=cache, **options)  # type: ignore[arg-type]
        if keep:
            commit(store, result.root)
        cache.save(result.root)
    return result


def commit(store: Store, root: RootId) -> None:
    author = Author("tester", "tester@localhost", int(time.time()))
    tip = store.history.target(BRANCH)
    made = store.add_commit(root, {}, "test\n", author, (tip,) if tip else ())
    store.history.move(BRANCH, made, tip, "test", author)


def fresh(store: Store, top: Path, **options: object) -> RootId:
    """The root that an import without a cache makes."""
    with store.batch() as batch:
        return import_directory(batch, top, **options).root  # type: ignore[arg-type]


def agree(store: Store, top: Path, **options: object) -> ImportResult:
    """Import with the cache; what comes out must be what comes out without it."""
    expected = fresh(store, top, **options)
    result = run(store, top, keep=False, **options)
    assert result.root == expected
    return result


def ignoring(*patterns: str) -> Ignore:
    return Ignore(Patterns([("here", pattern) for pattern in patterns]))


_opened: list[object] = []
_watching = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event == "open" and isinstance(arguments[2], int) and not arguments[2] & os.O_DIRECTORY:
        _opened.append(arguments[0])


sys.addaudithook(_hook)


@contextmanager
def opened_files() -> Iterator[list[object]]:
    """The names of the files of the tree that are opened meanwhile."""
    global _watching
    _opened.clear()
    _watching = True
    found: list[object] = []
    try:
        yield found
    finally:
        _watching = False
        found += [name for name in _opened if isinstance(name, bytes)]


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


def same_size_same_mtime(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"X" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


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
    with opened_files() as files:
        agree(store, tree)
        del _opened[:]
        run(store, tree)
    assert files == [b"tool"]


# -- hard links


def test_hard_links_of_an_unchanged_tree(store: Store, tree: Path) -> None:
    os.link(tree / "usr/tool", tree / "etc/deep/tool")
    settle(tree)
    agree(store, tree)
    with opened_files() as files:
        run(store, tree)
    assert files == []
    (tree / "etc/passwd").write_text("more")
    with opened_files() as files:
        result = run(store, tree)
    assert files == [b"passwd"]
    assert result.root == fresh(store, tree)


@pytest.mark.parametrize("name", ["a-first", "etc/middle", "usr/zlast"])
def test_names_of_a_file_come_and_go(store: Store, tree: Path, name: str) -> None:
    os.link(tree / "usr/tool", tree / "etc/deep/tool")
    os.link(tree / "etc/passwd", tree / "usr/passwd")
    run(store, tree)
    os.link(tree / "usr/tool", tree / name)
    agree(store, tree)
    settle(tree)
    agree(store, tree)
    (tree / name).unlink()
    agree(store, tree)
    (tree / "etc/deep/tool").unlink()
    settle(tree)
    agree(store, tree)
    agree(store, tree)


def test_a_linked_file_that_changes(store: Store, tree: Path) -> None:
    os.link(tree / "usr/tool", tree / "etc/deep/tool")
    settle(tree)
    run(store, tree)
    same_size_same_mtime(tree / "usr/tool")
    agree(store, tree)


@pytest.mark.parametrize("touch", [True, False])
def test_a_linked_file_that_changes_between_its_names(store: Store, tree: Path, touch: bool) -> None:
    """All names are given what the first one was read as, and the next import looks again."""
    os.link(tree / "usr/tool", tree / "etc/a-tool")
    os.link(tree / "usr/tool", tree / "usr/z-tool")
    settle(tree)

    class Busy:
        """Puts objects into a batch, and has somebody else change the file as soon as it was read."""

        def __init__(self, batch: Batch) -> None:
            self.batch = batch
            self.put_tree = batch.put_tree

        def put_chunk(self, data: bytes, digest: bytes | None = None) -> bytes:
            if bytes(data) == b"tool":
                os.utime(tree / "usr/tool", ns=(5, 5)) if touch else same_size_same_mtime(tree / "usr/tool")
                settle(tree)
            return self.batch.put_chunk(data, digest)

    with store.writing() as lease, import_cache(store, lease, tree) as cache:
        with store.batch() as batch:
            result = import_directory(Busy(batch), tree, cache=cache)
        cache.save(result.root)
    snapshot = store.snapshot(result.root)
    one, two = snapshot.lookup(b"etc/a-tool"), snapshot.lookup(b"usr/tool")
    assert one.link == two.link is not None
    assert (one.mtime, one.content) == (two.mtime, two.content)
    agree(store, tree)


def test_links_that_patterns_hid_and_hide_no_more(store: Store, tree: Path) -> None:
    """Nothing about the files has changed, so their records are as they were."""
    os.link(tree / "usr/tool", tree / "etc/tool")
    os.link(tree / "usr/tool", tree / "etc/deep/tool")
    settle(tree)
    hide = {count: ignoring(*lines) for count, lines in {1: ["/etc"], 2: ["/etc/deep"], 3: []}.items()}
    for count in (1, 2, 3, 1, 3, 2, 1):
        result = agree(store, tree, ignore=hide[count])
        tool = store.snapshot(result.root).lookup(b"usr/tool")
        assert (tool.link.count if tool.link else 1) == count


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


# -- caches that are of no use


def cache_file(store: Store, top: Path) -> Path:
    with store.writing() as lease, import_cache(store, lease, top) as cache:
        return cache.recorder._path


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "foreign", "gone"])
def test_a_damaged_cache_is_none(store: Store, tree: Path, damage: str) -> None:
    first = run(store, tree)
    path = cache_file(store, tree)
    data = bytearray(path.read_bytes())
    if damage == "empty":
        data.clear()
    elif damage == "cut":
        del data[-10:]
    elif damage == "bit":
        data[len(data) // 2] ^= 4
    elif damage == "foreign":
        data[:] = b"something else\n" * 100
    path.write_bytes(data)
    if damage == "gone":
        path.unlink()
    with opened_files() as files:
        assert run(store, tree).root == first.root
    assert len(files) == 4
    with opened_files() as files:
        run(store, tree)
    assert files == []


def test_a_cache_whose_root_is_not_in_the_store_is_none(store: Store, tree: Path, tmp_path: Path) -> None:
    run(store, tree)
    path = cache_file(store, tree)
    with Store.create(tmp_path / "other") as other:
        shutil.copy(path, other.caches / path.name)
        with opened_files() as files:
            run(other, tree)
        assert len(files) == 4
        assert check(other).problems == []


def test_a_cache_that_gc_deletes_is_none(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gc deletes it between our opening it and our lease: the file that is open has no name any more."""
    run(store, tree)
    path = cache_file(store, tree)
    with store.writing() as lease:
        note = lease.root

        def delete_and_note(root: RootId) -> None:
            path.unlink()
            note(root)

        monkeypatch.setattr(lease, "root", delete_and_note)
        with import_cache(store, lease, tree) as cache:
            assert cache.previous is None


def test_an_import_without_a_commit_leaves_the_old_cache(store: Store, tree: Path) -> None:
    run(store, tree)
    path = cache_file(store, tree)
    data = path.read_bytes()
    (tree / "etc/passwd").write_text("changed")
    with store.writing() as lease, import_cache(store, lease, tree) as cache, store.batch() as batch:
        import_directory(batch, tree, cache=cache)  # and no commit follows
    assert path.read_bytes() == data
    assert [name for name in os.listdir(path.parent) if name.startswith(path.name)] == [path.name]
    agree(store, tree)


def test_a_cache_that_cannot_be_locked_is_not_left(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def failing(file: Any, operation: int) -> None:
        if "/import-" in str(getattr(file, "name", "")):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        flock(file, operation)

    with monkeypatch.context() as patch:
        patch.setattr("vcs.importcache.fcntl.flock", failing)
        run(store, tree)
    assert not cache_file(store, tree).exists()
    agree(store, tree)


# -- by chance

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
