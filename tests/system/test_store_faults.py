"""The store under faults: killed writers, full disks, racing writers, damaged bytes, wrong formats, no permission."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vcs.check import check
from vcs.errors import Corrupt, Denied, NoSpace, NotAStore, UnknownFormat
from vcs.history import Author, History
from vcs.importer import import_directory
from vcs.layers.writer import INCOMING
from vcs.model import CommitId, RootId
from vcs.store import Store

MAIN = "refs/heads/main"
REPOSITORY = Path(__file__).parents[2]
BECOME_NOBODY = "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts and other users")


def author() -> Author:
    return Author("tester", "tester@localhost", int(time.time()))


def make_files(directory: Path, count: int, seed: int, size: int = 20_000) -> Path:
    """A tree of files that do not compress."""
    chance = random.Random(seed)
    for number in range(count):
        path = directory / f"d{number % 7}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.randrange(size)))
    return directory


def commit_tree(store: Store, source: Path, branch: str = MAIN) -> CommitId:
    with store.batch() as batch:
        root = import_directory(batch, source).root
    parent = store.history.target(branch)
    made = store.add_commit(root, {"config": {}}, "test\n", author(), (parent,) if parent else ())
    store.history.move(branch, made, parent, "test", author())
    return made


def assert_clean(path: Path) -> None:
    with Store.open(path) as store:
        assert check(store).problems == []


def run_child(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, with this module's names."""
    prelude = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\nfrom tests.system.test_store_faults import *\n"
    return subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code), *map(str, args)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    Store.create(path).close()
    return path


KILL_POINTS = {
    "while objects are added": "B._put = killing(B._put, 40)",
    "while a layer is written": "W._write = killing(W._write, 3)",
    "before a layer is renamed": "pathlib.Path.rename = killing(pathlib.Path.rename, 0)",
    "before the index learns of it": "I.add = killing(I.add, 0)",
    "before the commit is written": "H.write_commit = killing(H.write_commit, 0)",
    "before the branch moves": "H.move = killing(H.move, 0)",
    "while the branch moves": "R.move = locked_and_killed",
}


@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_killed_import_leaves_a_clean_store_that_works(store_path: Path, tmp_path: Path, point: str) -> None:
    with Store.open(store_path) as store:
        first = commit_tree(store, make_files(tmp_path / "one", 30, seed=1))
    make_files(tmp_path / "two", 100, seed=2)
    killed = run_child(
        f"""
        import pathlib, signal
        from vcs.gitrefs import GitRefs as R
        from vcs.history import History as H
        from vcs.index import Index as I
        from vcs.layers.writer import LayerWriter as W
        from vcs.batch import Batch as B
        def killing(function, after):
            left = [after]
            def wrapper(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)
            return wrapper
        def locked_and_killed(self, one):
            Path(self._path, one.ref + ".lock").touch()  # what libgit2 leaves when it is killed here
            os.kill(os.getpid(), signal.SIGKILL)
        store = Store.open(Path(sys.argv[1]))
        {KILL_POINTS[point]}
        commit_tree(store, Path(sys.argv[2]))
        """,
        store_path,
        tmp_path / "two",
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_clean(store_path)
    with Store.open(store_path) as store:
        assert store.history.resolve("main") == first
        second = commit_tree(store, tmp_path / "two")
        assert store.commit(second).parents == (first,)
        assert len(store.snapshot_of(second).directory(store.snapshot_of(second).root)) == 7
    assert not list((store_path / "layers").glob(INCOMING + "*"))
    assert_clean(store_path)


def test_a_lost_index_costs_nothing(store_path: Path, tmp_path: Path) -> None:
    with Store.open(store_path) as store:
        commit_tree(store, make_files(tmp_path / "one", 30, seed=1))
    (store_path / "index.db").unlink()
    assert_clean(store_path)
    (store_path / "index.db").write_bytes(b"this is no database" * 1000)
    assert_clean(store_path)


@contextlib.contextmanager
def small_disk(at: Path, size: str) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "treering-test", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


@needs_root
def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "6m") as disk:
        path = disk / "store"
        with Store.create(path) as store:
            first = commit_tree(store, make_files(tmp_path / "small", 20, seed=1))
            with pytest.raises(NoSpace, match="No space left"):
                commit_tree(store, make_files(tmp_path / "large", 600, seed=2, size=40_000))
            assert store.history.resolve("main") == first
        assert not list((path / "layers").glob(INCOMING + "*"))
        assert_clean(path)
        with Store.open(path) as store:
            commit_tree(store, make_files(tmp_path / "third", 20, seed=3))
        assert_clean(path)


@needs_root
@pytest.mark.parametrize("left", range(0, 120_000, 12_000))
def test_a_disk_that_fills_up_anywhere_in_a_commit(tmp_path: Path, left: int) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        path = disk / "store"
        filler = disk / "filler"
        with Store.create(path) as store:
            first = commit_tree(store, make_files(tmp_path / "small", 20, seed=1))
            fill(filler, leave=left)
            try:
                made = commit_tree(store, make_files(tmp_path / "more", 6, seed=4, size=10_000))
            except NoSpace:
                made = first
            assert store.history.resolve("main") == made
        assert_clean(path)  # while the disk is still full
        filler.unlink()
        assert_clean(path)
        with Store.open(path) as store:
            commit_tree(store, tmp_path / "more")


def fill(path: Path, leave: int) -> None:
    """Write a file until the disk is full, then give `leave` bytes back."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(fd, bytes(4096))
    os.close(fd)
    os.truncate(path, max(0, path.stat().st_size - leave))


def test_commits_to_one_branch_at_once_lose_nothing(store_path: Path, tmp_path: Path) -> None:
    with Store.open(store_path) as store:
        commit_tree(store, make_files(tmp_path / "base", 5, seed=0))
    code = """
        from vcs import errors
        with Store.open(Path(sys.argv[1])) as store:
            for number in range(8):
                name = f"w{sys.argv[3]}-{number}"
                source = make_files(Path(sys.argv[2]) / name, 3, seed=int(sys.argv[3]) * 100 + number)
                while True:
                    try:
                        print(commit_tree(store, source), flush=True)
                        break
                    except errors.Conflict as error:
                        assert "has moved" in str(error)
        """
    prelude = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\nfrom tests.system.test_store_faults import *\n"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", prelude + textwrap.dedent(code), str(store_path), str(tmp_path), str(number)],
            stdout=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    acknowledged = [line for worker in workers for line in (worker.communicate(timeout=120)[0]).split()]
    assert [worker.returncode for worker in workers] == [0] * 4
    with Store.open(store_path) as store:
        log = [info.id for info in store.history.log([store.history.resolve("main")])]
    assert len(acknowledged) == len(set(acknowledged)) == 32
    assert set(acknowledged) < set(log)
    assert len(log) == 33
    assert_clean(store_path)


def test_a_flipped_bit_is_found_and_never_read(store_path: Path, tmp_path: Path) -> None:
    with Store.open(store_path) as store:
        commit_tree(store, make_files(tmp_path / "one", 200, seed=1))
    (layer,) = (store_path / "layers").iterdir()
    original = layer.read_bytes()
    expected = {path: path.read_bytes() for path in (tmp_path / "one").rglob("f*")}
    layer.chmod(0o600)
    chance = random.Random(5)
    for _ in range(25):
        position = chance.randrange(len(original))
        layer.write_bytes(
            original[:position] + bytes([original[position] ^ 1 << chance.randrange(8)]) + original[position + 1 :]
        )
        wrong, read = damage(store_path, tmp_path / "one", expected)
        assert not wrong
        with Store.open(store_path) as store:
            problems = check(store).problems
        assert problems
        if read < len(expected):
            assert any(problem.path for problem in problems), "the damaged file is not named"


def damage(store_path: Path, top: Path, expected: dict[Path, bytes]) -> tuple[int, int]:
    """Read every file: how many were given with wrong bytes, and how many could be read."""
    wrong = read = 0
    with Store.open(store_path) as store:
        for path, data in expected.items():
            with contextlib.suppress(Corrupt):
                snapshot = store.snapshot_of(store.history.resolve("main"))
                entry = snapshot.lookup(os.fsencode(path.relative_to(top)))
                wrong += snapshot.read(entry.content) != data  # type: ignore[arg-type]
                read += 1
    return wrong, read


def test_what_is_not_a_store_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("/dev/null")):
        with pytest.raises(NotAStore, match="is not a store"):
            Store.open(path)
    (tmp_path / "format").write_text("something else\n")
    with pytest.raises(NotAStore, match="not one of ours"):
        Store.open(tmp_path)


def test_an_unknown_format_is_refused_and_left_alone(store_path: Path) -> None:
    (store_path / "format").write_text("treering store 99\n")
    before = sorted(store_path.rglob("*"))
    with pytest.raises(UnknownFormat, match="format 99; this program knows format 1"):
        Store.open(store_path)
    assert sorted(store_path.rglob("*")) == before


def test_a_store_is_out_of_reach_of_other_users(store_path: Path) -> None:
    assert store_path.stat().st_mode & 0o777 == 0o700
    for path in store_path.iterdir():
        assert not path.is_dir() or path.stat().st_mode & 0o077 == 0 or path.name == "history.git"


def let_in(directory: Path) -> None:
    """Whoever may enter the temporary directory of the machine, which all may, may enter this one of a test's."""
    for path in [directory, *directory.parents]:
        if path == Path(tempfile.gettempdir()):
            return
        path.chmod(path.stat().st_mode | 0o755)


@needs_root
def test_no_permission_is_one_clear_error(store_path: Path, tmp_path: Path) -> None:
    let_in(tmp_path)
    result = run_child(BECOME_NOBODY + "Store.open(Path(sys.argv[1]))", store_path)
    assert "Denied" in result.stderr
    assert "Permission denied" in result.stderr


@needs_root
def test_an_unreadable_file_stops_an_import_and_says_which(store_path: Path, tmp_path: Path) -> None:
    secret = make_files(tmp_path / "tree", 3, seed=1) / "d1" / "f1"
    secret.chmod(0)
    before = "from vcs.testing import MemoryStore\n"  # nobody may not be able to enter the checkout
    let_in(tmp_path)
    result = run_child(before + BECOME_NOBODY + "import_directory(MemoryStore(), Path(sys.argv[1]))", tmp_path / "tree")
    assert "Denied" in result.stderr
    assert "d1/f1 cannot be read" in result.stderr


@needs_root
def test_a_history_that_cannot_be_written_is_denied_and_not_called_damaged(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        history = History.create(disk / "history.git", disk / "refs")
        first = history.write_commit(RootId(bytes(32)), {}, "one\n", author(), ())
        history.move(MAIN, first, None, "one", author())
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for attempt in (
            lambda: history.write_commit(RootId(bytes([1]) * 32), {}, "two\n", author(), (first,)),
            lambda: history.move("refs/heads/other", first, None, "other", author()),
            lambda: history.delete(MAIN),
        ):
            with pytest.raises(Denied, match="Read-only file system"):
                attempt()
        assert history.target(MAIN) == first
        history.close()
