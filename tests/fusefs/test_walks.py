"""Walks: the next listing is made in advance, and is the very one that would have been made."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusefs import walks
from fusefs.inodes import Folder
from fusefs.journal import Kind, record
from fusefs.wire.protocol import Opcode
from tests.fusefs.fake_kernel import FakeKernel, Found
from tests.support.values import Spec, root
from vcs.errors import Missing
from vcs.model import RootId, Tree
from vcs.testing import MemoryStore

SIZE = 4096


class Counting(MemoryStore):
    """Tells what was opened, and may have lost something."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[bytes] = []
        self.lost: set[bytes] = set()

    def get(self, digest: bytes) -> bytes:
        self.opened.append(digest)
        if digest in self.lost:
            raise Missing("lost", digest=digest.hex())
        return super().get(digest)


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.fixture
def kernel(store: Counting) -> Iterator[FakeKernel]:
    with FakeKernel(store) as made:
        yield made


def top_of(kernel: FakeKernel, made: RootId) -> int:
    return kernel.walk(b"trees", made.hex().encode()).nodeid


def begin(kernel: FakeKernel, node: int, size: int = SIZE) -> bytes:
    """How a listing begins."""
    return kernel.get(Opcode.READDIRPLUS, node, struct.pack("<QQIIQII", 0, 0, size, 0, 0, 0, 0))


def listed(kernel: FakeKernel, node: int) -> dict[bytes, int]:
    """A directory as an overlay lists it: its mark, its names, its end."""
    assert kernel.xattr(node, b"trusted.overlay.opaque").error == errno.ENODATA
    return {found.name: found.nodeid for found in kernel.readdirplus(node, SIZE)[2:]}


def tree_of(kernel: FakeKernel, node: int) -> bytes:
    content = kernel.filesystem.node(node).entry.content
    assert isinstance(content, Tree)
    return content.tree


DEEP: Spec = {
    "a": {"one": b"1", "sub": {"x": b"x", "y": {"z": b"z"}}},
    "b": {"two": b"2"},
    "c": b"file",
    "d": {"e": {}, "f": {"three": b"3"}},
}
ORDER = [b"/a", b"/a/sub", b"/a/sub/y", b"/b", b"/d", b"/d/e", b"/d/f"]
"""As a walk goes."""


def walk(kernel: FakeKernel, top: int) -> Iterator[tuple[bytes, int]]:
    """Go through everything; before each directory but the first is asked for, where that is."""
    waiting = [(b"", top)]
    while waiting:
        path, node = waiting.pop()
        if path:
            yield path, node
        below = [(path + b"/" + name, child) for name, child in listed(kernel, node).items()]
        folders = [(where, child) for where, child in below if isinstance(kernel.filesystem.node(child), Folder)]
        waiting.extend(reversed(folders))


def test_a_walk_finds_the_next_directory_opened(kernel: FakeKernel, store: Counting) -> None:
    seen = []
    for path, node in walk(kernel, top_of(kernel, root(store, DEEP))):
        seen.append(path)
        if len(seen) > 1:
            assert tree_of(kernel, node) in store.opened, path
        else:
            assert tree_of(kernel, node) not in store.opened, "one listing is no walk"
        store.opened.clear()
    assert seen == ORDER


def test_a_prepared_directory_is_numbered_and_answered_once(kernel: FakeKernel, store: Counting) -> None:
    """After the messages between two listings nothing is left to do, and asked again it is made anew."""
    top = top_of(kernel, root(store, DEEP))
    a = listed(kernel, top)[b"a"]
    sub = listed(kernel, a)[b"sub"]
    assert kernel.xattr(sub, b"trusted.overlay.opaque").error == errno.ENODATA
    folder = kernel.filesystem.node(sub)
    assert isinstance(folder, Folder)
    assert folder.numbering is not None
    assert begin(kernel, sub) == begin(kernel, sub)
    assert begin(kernel, sub, 400) != begin(kernel, sub), "a smaller buffer is another question"


def test_a_smaller_buffer_than_what_was_prepared_for(kernel: FakeKernel, store: Counting) -> None:
    top = top_of(kernel, root(store, DEEP))
    sub = listed(kernel, listed(kernel, top)[b"a"])[b"sub"]
    kernel.xattr(sub, b"user.none")
    found = kernel.readdirplus(sub, 400)
    assert [each.name for each in found] == [b".", b"..", b"x", b"y"]


def test_who_asks_for_something_else_is_answered(kernel: FakeKernel, store: Counting) -> None:
    top = top_of(kernel, root(store, DEEP))
    names = listed(kernel, top)
    listed(kernel, names[b"a"])
    assert set(listed(kernel, names[b"d"])) == {b"e", b"f"}
    assert set(listed(kernel, names[b"b"])) == {b"two"}


def test_what_cannot_be_prepared_fails_when_it_is_asked_for(kernel: FakeKernel, store: Counting) -> None:
    """And the walk goes on behind it."""
    top = top_of(kernel, root(store, DEEP))
    names = listed(kernel, top)
    sub = kernel.lookup(names[b"a"], b"sub")
    assert sub is not None
    store.lost.add(tree_of(kernel, sub.nodeid))
    assert listed(kernel, names[b"a"])[b"sub"] == sub.nodeid
    assert store.lost & set(store.opened), "it was tried"
    kernel.xattr(sub.nodeid, b"user.none")
    body = struct.pack("<QQIIQII", 0, 0, SIZE, 0, 0, 0, 0)
    assert kernel.fails(Opcode.READDIRPLUS, sub.nodeid, body) == errno.EIO
    assert set(listed(kernel, names[b"b"])) == {b"two"}
    store.lost.clear()
    assert set(listed(kernel, sub.nodeid)) == {b"x", b"y"}


def test_a_bug_in_what_nobody_asked_for_hurts_nobody(
    kernel: FakeKernel, store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = top_of(kernel, root(store, DEEP))
    a = listed(kernel, top)[b"a"]
    found = kernel.lookup(a, b"sub")
    assert found is not None
    numbering = kernel.filesystem.numbers.numbering
    tried: list[int] = []

    def failing(number: int, *rest: object) -> object:
        if number == found.nodeid and not tried:
            tried.append(number)
            raise RuntimeError("a bug")
        return numbering(number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(kernel.filesystem.numbers, "numbering", failing)
    assert listed(kernel, a)[b"sub"] == found.nodeid
    assert tried
    assert set(listed(kernel, found.nodeid)) == {b"x", b"y"}


def test_what_was_prepared_before_a_root_was_dropped_is_made_anew(kernel: FakeKernel, store: Counting) -> None:
    """Its files may have had the numbers of that root."""
    first, second = root(store, DEEP), root(store, {**DEEP, "other": b"x"})
    numbers = dict(walk(kernel, top_of(kernel, first)))
    old = listed(kernel, numbers[b"/a/sub"])
    top = top_of(kernel, second)
    sub = listed(kernel, listed(kernel, top)[b"a"])[b"sub"]
    kernel.xattr(sub, b"user.none")
    kernel.xattr(sub, b"user.none")
    kernel.journal.append(record(Kind.DROP, kernel.filesystem.numbers.first_number(first, 0)))
    kernel.filesystem.numbers.catch_up()
    assert listed(kernel, sub)[b"x"] == sub + 1 != old[b"x"]


def test_large_directories_are_not_prepared(
    kernel: FakeKernel, store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "_ENTRIES_MOST", 3)
    top = top_of(
        kernel, root(store, {"a": {"f": b""}, "b": {f"{number}": b"" for number in range(4)}, "c": {"g": b""}})
    )
    names = listed(kernel, top)
    assert set(listed(kernel, names[b"a"])) == {b"f"}
    kernel.xattr(names[b"b"], b"user.none")
    assert tree_of(kernel, names[b"b"]) not in store.opened
    assert len(listed(kernel, names[b"b"])) == 4
    kernel.xattr(names[b"c"], b"user.none")
    assert tree_of(kernel, names[b"c"]) in store.opened, "the walk goes on after it"


def test_few_walks_are_followed(kernel: FakeKernel, store: Counting) -> None:
    top = top_of(kernel, root(store, {f"{number:02}": {"d": {"f": b""}} for number in range(30)}))
    for node in listed(kernel, top).values():
        below = listed(kernel, node)[b"d"]
        assert len(kernel.session._dirents.walks._expected) <= walks._WALKS
        assert set(listed(kernel, below)) == {b"f"}


NAMES = st.sampled_from("abcdefg")
SPECS: st.SearchStrategy[Spec] = st.recursive(
    st.dictionaries(NAMES, st.sampled_from([b"1", b"2"]), max_size=4),
    lambda inner: st.dictionaries(NAMES, st.just(b"3") | inner, max_size=5),
    max_leaves=40,
)


class Alike:
    """Whether two answers say the same. A number may be another one: it is given when a listing is made, and whose file
    is in a second root as well, which is listed first, has that of the listing that was made in advance. But what is
    one node for one of them is one for the other."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}

    def __call__(self, one: list[Found], other: list[Found]) -> bool:
        if len(one) != len(other):
            return False
        for ours, theirs in zip(one, other, strict=True):
            self.numbers.setdefault(ours.nodeid, theirs.nodeid)
            self.numbers.setdefault(ours.attr.ino, theirs.attr.ino)
        if len(set(self.numbers.values())) < len(self.numbers):
            return False
        return [self._renumbered(each) for each in one] == other

    def _renumbered(self, found: Found) -> Found:
        attr = replace(found.attr, ino=self.numbers[found.attr.ino])
        return replace(found, nodeid=self.numbers[found.nodeid], attr=attr)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs=st.lists(SPECS, min_size=1, max_size=2), chance=st.randoms(use_true_random=False))
def test_by_chance_all_answers_are_those_of_who_prepares_nothing(
    specs: list[Spec], chance: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Walks side by side, that turn round, take other buffers, and leave something out."""
    store = MemoryStore()
    roots = [root(store, spec) for spec in specs]
    script: list[tuple[int, int]] = []
    alike = Alike()
    with FakeKernel(store) as kernel, FakeKernel(store) as plain:
        monkeypatch.setattr(plain.session._walks, "go_on", lambda: None)
        tops = [(top_of(kernel, made), top_of(plain, made)) for made in roots]
        assert all(one == other for one, other in tops)
        alike.numbers.update(tops)
        going = [[top] for top, _ in tops] * 2
        while going:
            waiting = chance.choice(going)  # type: ignore[attr-defined]
            if not waiting:
                going.remove(waiting)
                continue
            node = waiting.pop() if chance.random() < 0.8 else waiting.pop(0)  # type: ignore[attr-defined]
            size = SIZE if chance.random() < 0.9 else 500  # type: ignore[attr-defined]
            script.append((node, size))
            found = kernel.readdirplus(node, size)
            other = plain.readdirplus(alike.numbers[node], size)
            assert alike(found, other), script
            assert found == other or len(roots) > 1, script
            folders = [each.nodeid for each in found[2:] if each.attr.mode >> 12 == 4 and chance.random() < 0.9]  # type: ignore[attr-defined]
            waiting += reversed(folders)
