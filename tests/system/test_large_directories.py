"""200,000 names in one directory: what a change, a comparison and a look cost is counted in nodes and messages."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from runtime.containers import Container, Containers
from runtime.settings import Settings
from runtime.states import CommitResult, States
from tests.fusefs.serving import needs_fuse, serving
from tests.support.values import DIRECTORY, FILE
from vcs.check import check
from vcs.diff import diff
from vcs.history import Author
from vcs.model import EMPTY_FILE, CommitId, Entry, Tree
from vcs.snapshot import Snapshot
from vcs.store import Store
from vcs.trees import TreeWriter, write_root, write_tree

COUNT = 200_000
DEPTH = 3
"""Nodes from the directory's top to a name."""
AUTHOR = Author("tester", "tester@localhost", 1_700_000_000)

pytestmark = needs_fuse


@dataclass
class Bench:
    """A store with a commit of a large directory, and a container on it."""

    store: Store
    base: CommitId
    container: Container
    nested: bool
    """Whether the directory's names are directories."""
    opened: list[bytes]
    """The objects that were read."""

    @property
    def top(self) -> Path:
        return self.container.upper

    def commit(self) -> CommitResult:
        result = States(Containers(self.store)).commit(self.container, "change", AUTHOR)
        self.container = Containers(self.store).reload(self.container)
        return result

    def snapshot(self, commit: str) -> Snapshot:
        return self.store.snapshot_of(commit)


def name(number: int) -> bytes:
    return b"file-%08d" % number


@pytest.fixture(scope="module", params=["files", "directories"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One directory of files, or of directories with a file each."""
    opened: list[bytes] = []
    nested = request.param == "directories"
    with Store.create(tmp_path_factory.mktemp("large") / "store") as store:
        with store.batch() as batch:
            inner = write_tree(batch, [Entry(b"inner", FILE, 0, 0, 0, EMPTY_FILE)])
            like = Entry(b"", FILE, 0, 0, 0, EMPTY_FILE)
            if nested:
                like = Entry(b"", DIRECTORY, 0, 0, 0, inner)
            writer = TreeWriter(batch)
            for start in range(0, COUNT, 1000):
                writer.extend([replace(like, name=name(number)) for number in range(start, start + 1000)])
            top = Entry(b"large", DIRECTORY, 0, 0, 0, writer.close())
            root = write_root(batch, Entry(b"", DIRECTORY, 0, 0, 0, write_tree(batch, [top])))
        base = store.add_commit(root, {}, "base\n", AUTHOR)
        store.history.move("refs/heads/main", base, None, "base", AUTHOR)
        container = Containers(store).create("main", base, Settings(), AUTHOR, "large")
        get = store.get
        store.get = lambda digest: opened.append(digest) or get(digest)  # type: ignore[method-assign]
        yield Bench(store, base, container, nested, opened)
        store.get = get  # type: ignore[method-assign]
        assert not check(store).problems


@contextmanager
def counted(bench: Bench, most: int) -> Iterator[None]:
    """At most so many objects are read."""
    bench.opened.clear()
    yield
    assert 0 < len(bench.opened) <= most


def test_a_commit_of_three_names_costs_their_nodes(bench: Bench) -> None:
    upper = bench.top / "large"
    upper.mkdir(parents=True)
    (upper / os.fsdecode(name(1000))).write_text("changed")
    os.mknod(upper / os.fsdecode(name(77_777)), stat.S_IFCHR, 0)
    (upper / "file-00123456-new").write_text("new")
    before = bench.snapshot(bench.base)
    # Read: the paths of three names, by the scan and by the edit, then those that differ on both sides.
    with counted(bench, 3 * 2 * DEPTH + 2 * (3 * 2 * DEPTH) + 20):
        result = bench.commit()
    expected = {("A", b"file-00123456-new"), ("D", name(77_777)), ("T" if bench.nested else "M", name(1000))}
    if bench.nested:
        expected |= {("D", name(1000) + b"/inner"), ("D", name(77_777) + b"/inner")}
    assert {(change.letter, change.path) for change in result.changes} == {
        (letter, b"/large/" + path) for letter, path in expected
    }
    assert result.added < 100_000
    after = bench.snapshot(result.commit)
    tree = after.lookup(b"large").content
    assert isinstance(tree, Tree)
    assert len(after.directory(after.lookup(b"large"))) == COUNT
    wanted = [entry for entry in before.directory(before.lookup(b"large")) if entry.name != name(77_777)]
    wanted = [entry if entry.name != name(1000) else after.lookup(b"large/" + name(1000)) for entry in wanted]
    wanted.append(after.lookup(b"large/file-00123456-new"))
    with bench.store.batch() as batch:
        assert write_tree(batch, wanted) == tree
    assert batch.added == 0, "written whole, it is the same"


def test_a_comparison_of_two_such_roots_reads_what_differs(bench: Bench) -> None:
    head = States(Containers(bench.store)).head(bench.container)
    assert head != bench.base
    old, new = bench.snapshot(bench.base), bench.snapshot(head)
    with counted(bench, 2 * (3 * 2 * DEPTH) + 10):
        changes = diff(old, new)
    assert 3 <= len(changes) <= 5
    upper = bench.top / "large"
    upper.mkdir(parents=True)
    (upper / os.fsdecode(name(5))).write_text("not committed")
    with counted(bench, 3 * DEPTH + 3 * DEPTH + 20):
        changes = States(Containers(bench.store)).changes(bench.container)
    assert b"/large/" + name(5) in [change.path for change in changes]


def test_the_first_names_and_one_name_take_few_messages(bench: Bench, tmp_path: Path) -> None:
    root = bench.snapshot(bench.base).id.hex()
    with serving(bench.store, tmp_path / "mnt", trace=True) as mounted:
        large = mounted / "trees" / root / "large"
        log = tmp_path / "mnt.log"
        one = os.lstat(large / os.fsdecode(name(123_456)))
        step = 1 if stat.S_ISREG(one.st_mode) else 2
        lookups = messages(log)
        assert lookups["READDIRPLUS"] == lookups["READDIR"] == 0
        with os.scandir(large) as names:
            first = list(itertools.islice(names, 10))
        assert [os.fsencode(entry.name) for entry in first] == [name(number) for number in range(10)]
        assert messages(log)["READDIRPLUS"] <= 2, "the listing streams"
        listed = subprocess.run(["ls", "-f", large], check=True, capture_output=True).stdout.split()
        assert listed[2:] == [name(number) for number in range(COUNT)]
        numbers = [os.lstat(large / os.fsdecode(name(number))).st_ino for number in (0, 1, 123_456, COUNT - 1)]
        base = os.lstat(large).st_ino
        assert numbers == [base + 1 + step * number for number in (0, 1, 123_456, COUNT - 1)]
        assert one.st_ino == numbers[2]


def messages(log: Path) -> dict[str, int]:
    """How many messages of a kind the service has got."""
    text = log.read_text()
    return {kind: text.count(f" {kind} ") for kind in ("LOOKUP", "READDIR", "READDIRPLUS")}
