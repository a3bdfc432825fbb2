"""What is above the roots, node for node as the kernel is told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusefs import facts, moments
from fusefs.journal import FIRST_NUMBER
from fusefs.view import Changing, RootLink, Text
from fusefs.wire.protocol import Opcode
from fusefs.wire.replies import ENDLESS
from tests.fusefs.fake_kernel import FakeKernel
from tests.support.long_history import write_long_history
from tests.support.values import root
from vcs.history import Author
from vcs.model import CommitId
from vcs.snapshot import Names
from vcs.store import Store
from vcs.testing import MemoryNames, MemoryStore

DAY = 86_400
ADA = Author("Ada Tester", "ada@example.org", 1_700_000_000)


class WithContainers(MemoryStore):
    """A store in memory that has containers as well."""

    def __init__(self) -> None:
        super().__init__()
        self.container_map: dict[str, CommitId] = {}

    @property
    def names(self) -> dict[str, Names]:
        return {**super().names, "containers": MemoryNames(self.container_map)}


@pytest.fixture
def store() -> WithContainers:
    return WithContainers()


@pytest.fixture
def kernel(store: WithContainers) -> Iterator[FakeKernel]:
    with FakeKernel(store) as kernel:
        yield kernel


def made(store: MemoryStore, content: bytes, branch: str = "main", message: str = "m", time: int = DAY) -> CommitId:
    return store.add_commit(root(store, {"f": content}), branch, message, time)


def listed(kernel: FakeKernel, *path: bytes) -> list[bytes]:
    directory = kernel.walk(*path).nodeid if path else 1
    return sorted(found.name for found in kernel.readdirplus(directory)[2:])


def target(kernel: FakeKernel, *path: bytes) -> bytes:
    return kernel.get(Opcode.READLINK, kernel.walk(*path).nodeid)


def content(kernel: FakeKernel, *path: bytes) -> bytes:
    node = kernel.walk(*path)
    data = kernel.read(node.nodeid, 0, 1 << 20)
    assert len(data) == node.attr.size
    return data


def tree(store: MemoryStore, commit: CommitId, depth: int) -> bytes:
    return b"../" * depth + b"trees/" + store.commits[commit].root.hex().encode()


# -- what is where


def test_an_empty_store(kernel: FakeKernel) -> None:
    top = [b".treering", b"at", b"branches", b"commits", b"containers", b"tags", b"trees"]
    assert listed(kernel) == top
    for name in top[1:]:
        assert listed(kernel, name) == []
        assert kernel.lookup(kernel.walk(name).nodeid, b"main") is None
    assert listed(kernel, b".treering") == [
        b"README", b"at", b"branches", b"commits", b"containers", b"store", b"tags",
    ]  # fmt: skip
    assert content(kernel, b".treering", b"README") == facts.README
    assert kernel.lookup(kernel.walk(b"at", b"2026-11-01").nodeid, b"main") is None


def test_a_source_without_containers_has_no_directory_of_them() -> None:
    with FakeKernel(MemoryStore()) as kernel:
        assert b"containers" not in listed(kernel) + listed(kernel, b".treering")
        assert kernel.lookup(1, b"containers") is None


def test_links_lead_to_roots_from_every_depth(kernel: FakeKernel, store: WithContainers) -> None:
    one = made(store, b"1")
    store.branch_map |= {"feature/x": one, "feature/deep/y": one}
    store.tag_map["releases/v1"] = one
    store.container_map["web"] = one
    assert target(kernel, b"commits", one.encode()) == tree(store, one, 1)
    assert target(kernel, b"branches", b"main") == tree(store, one, 1)
    assert target(kernel, b"branches", b"feature", b"x") == tree(store, one, 2)
    assert target(kernel, b"branches", b"feature", b"deep", b"y") == tree(store, one, 3)
    assert target(kernel, b"tags", b"releases", b"v1") == tree(store, one, 2)
    assert target(kernel, b"containers", b"web") == tree(store, one, 1)
    assert target(kernel, b"at", b"2026-11-01", b"main") == tree(store, one, 2)
    assert target(kernel, b"at", b"2026-11-01", b"feature", b"deep", b"y") == tree(store, one, 4)
    assert listed(kernel, b"branches", b"feature") == [b"deep", b"x"]
    assert listed(kernel, b"at", b"2026-11-01") == [b"feature", b"main"]
    assert listed(kernel, b"at") == [], "any time is there, and none is listed"


def test_parents_are_the_directories_above(kernel: FakeKernel, store: WithContainers) -> None:
    store.branch_map["a/b/c"] = made(store, b"1")
    for path in ((b"branches", b"a", b"b"), (b".treering", b"branches", b"a"), (b"at", b"2026-11-01", b"a")):
        node, above = kernel.walk(*path).nodeid, kernel.walk(*path[:-1]).nodeid
        assert [(name, ino) for name, ino, _ in kernel.readdir(node)[:2]] == [(b".", node), (b"..", above)]


def test_types_are_told_with_the_names(kernel: FakeKernel, store: WithContainers) -> None:
    store.branch_map["a/b"] = made(store, b"1")
    kinds = {name: kind for name, _, kind in kernel.readdir(kernel.walk(b"branches").nodeid)}
    assert kinds == {b".": 4, b"..": 4, b"main": 10, b"a": 4}
    kinds = {name: kind for name, _, kind in kernel.readdir(kernel.walk(b".treering", b"branches").nodeid)}
    assert kinds == {b".": 4, b"..": 4, b"main": 8, b"a": 4}


# -- what the kernel may keep


def test_lifetimes(kernel: FakeKernel, store: WithContainers) -> None:
    one = made(store, b"1")
    store.branch_map["a/b"] = store.container_map["web"] = one
    for path in ((b"at",), (b"containers",), (b".treering",), (b".treering", b"at")):
        assert kernel.walk(*path).name_lifetime == ENDLESS
    changing = [
        (b"branches", b"main"), (b"branches", b"a"), (b"branches", b"a", b"b"), (b"commits", one.encode()),
        (b"containers", b"web"), (b"at", b"2026-11-01"), (b"at", b"2026-11-01", b"main"), (b".treering", b"store"),
        (b".treering", b"branches", b"main"), (b".treering", b"README"),
    ]  # fmt: skip
    for names in changing:
        found = kernel.walk(*names)
        assert (found.name_lifetime, found.lifetime) == (0, ENDLESS), names
        assert found.nodeid >= FIRST_NUMBER
    for path in ((b"at",), (b"at", b"2026-11-01"), (b"containers",), (b".treering", b"tags")):
        assert kernel.lookup(kernel.walk(*path).nodeid, b"absent") is None
        assert kernel.missing_lifetime == 0
        kernel.notices.clear()
        kernel.readdirplus(kernel.walk(*path).nodeid)
        assert len(kernel.notices) == 1, "the kernel drops the listing"


def test_the_same_thing_is_the_same_node_and_another_thing_is_another(
    kernel: FakeKernel, store: WithContainers
) -> None:
    one = made(store, b"1")
    path = (b".treering", b"branches", b"main")
    link, words = kernel.walk(b"branches", b"main"), kernel.walk(*path)
    first = content(kernel, *path)
    two = made(store, b"2", message="second")
    assert kernel.walk(b"branches", b"main").nodeid != link.nodeid
    assert kernel.walk(*path).nodeid != words.nodeid
    assert b"second" in content(kernel, *path)
    assert kernel.read(words.nodeid, 0, 4096) == first
    store.branch_map["main"] = one
    assert (kernel.walk(b"branches", b"main").nodeid, kernel.walk(*path).nodeid) == (link.nodeid, words.nodeid)
    for number in (link.nodeid, words.nodeid):
        kernel.forget(number, 9)
        assert number not in kernel.filesystem.table.nodes
    assert kernel.walk(b"branches", b"main").nodeid == link.nodeid, "also after the kernel forgot it"
    assert kernel.walk(b"commits", two.encode()).nodeid != kernel.walk(b"commits", one.encode()).nodeid


def test_two_commits_of_one_root_are_told_apart(kernel: FakeKernel, store: WithContainers) -> None:
    """A link says a root and a time, words say a commit."""
    made(store, b"1", message="one")
    path = (b".treering", b"branches", b"main")
    before = kernel.walk(*path).nodeid
    made(store, b"1", message="two")
    assert kernel.walk(*path).nodeid != before
    assert b"two" in content(kernel, *path)


def test_every_node_is_made_again_from_its_key(kernel: FakeKernel, store: WithContainers) -> None:
    one = made(store, b"1", message="words\0and zeros")
    store.branch_map["a/b/c"] = store.tag_map["v1"] = store.container_map["web"] = one
    for path in (
        (b"branches", b"a", b"b", b"c"), (b"tags", b"v1"), (b"commits", one.encode()), (b"containers", b"web"),
        (b"at", b"2026-11-01T12:30:00+01:00", b"a", b"b", b"c"), (b".treering", b"at", b"2026-11-01", b"a", b"b", b"c"),
        (b".treering", b"commits", one.encode()), (b".treering", b"README"), (b".treering", b"store"),
    ):  # fmt: skip
        kernel.walk(*path)
    view, numbers = kernel.filesystem.view, kernel.filesystem.numbers
    known = {key: node for number, node in kernel.filesystem.table.nodes.items() if (key := numbers.key_of(number))}
    assert {type(node) for node in known.values()} == {Changing, RootLink, Text}
    assert len(known) == 17
    for key, node in known.items():
        again = view.again(key)
        assert again is not node
        assert type(again) is type(node)
        for slot in ("number", "entry", *{"path", "parent", "text"}.intersection(dir(node))):
            assert getattr(again, slot) == getattr(node, slot), (key, slot)
        if isinstance(again, Changing) and isinstance(node, Changing):
            assert view.names(again, 0) == view.names(node, 0)
    del store.commits[one]
    gone = [key for key in known if view.again(key) is None]
    assert {key.split(b"\0")[0] for key in gone} == {b"facts"}, "only words need the commit"
    assert len(gone) == 2
    assert view.again(b"facts\0.treering/commits/x\0" + one.encode() + b"\0other edition") is None


# -- names that change


def test_a_branch_becomes_a_directory_and_a_branch_again(kernel: FakeKernel, store: WithContainers) -> None:
    one = made(store, b"1", "feature")
    link = kernel.walk(b"branches", b"feature")
    assert stat.S_ISLNK(link.attr.mode)
    del store.branch_map["feature"]
    branches = kernel.walk(b"branches").nodeid
    assert kernel.lookup(branches, b"feature") is None
    store.branch_map["feature/x"] = one
    directory = kernel.walk(b"branches", b"feature")
    assert stat.S_ISDIR(directory.attr.mode)
    assert listed(kernel, b"branches", b"feature") == [b"x"]
    assert kernel.get(Opcode.READLINK, link.nodeid) == tree(store, one, 1), "who has it open reads on"
    del store.branch_map["feature/x"]
    assert kernel.lookup(branches, b"feature") is None
    assert [found.name for found in kernel.readdirplus(directory.nodeid)] == [b".", b".."], "who is inside sees that"
    store.branch_map["feature"] = one
    assert kernel.walk(b"branches", b"feature").nodeid == link.nodeid


def test_new_and_removed_names(kernel: FakeKernel, store: WithContainers) -> None:
    one = made(store, b"1")
    for where, names in (
        (b"branches", store.branch_map),
        (b"tags", store.tag_map),
        (b"containers", store.container_map),
    ):
        directory = kernel.walk(where).nodeid
        assert b"new" not in listed(kernel, where)
        names["new"] = one
        assert b"new" in listed(kernel, where)
        assert b"new" in listed(kernel, b".treering", where)
        assert kernel.lookup(directory, b"new") is not None
        del names["new"]
        assert kernel.lookup(directory, b"new") is None
        assert b"new" not in listed(kernel, where)
    two = made(store, b"2")
    assert set(listed(kernel, b"commits")) == {one.encode(), two.encode()}
    assert len(listed(kernel, b"trees")) == 2


# -- times


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        (b"1970-01-01", 0), (b"1970-01-02", DAY), (b"1970-01-02T12:30", DAY + 45_000), (b"1970-01-02 00:00", DAY),
        (b"1970-01-02T00:00:59", DAY + 59), (b"1970-01-02T00:00:59.999999999", DAY + 59),
        (b"1970-01-02T00:00:01,5Z", DAY + 1),
        (b"1970-01-02T01:00+01:00", DAY), (b"1970-01-01T23:00-01", DAY), (b"1970-01-02T05:30:00+0530", DAY),
        (b"1969-12-31T23:59:59.5", -1), (b"9999-12-31", 253_402_214_400), (b"0001-01-01", -62_135_596_800),
        (b"2024-02-29", 1_709_164_800),
    ],
)  # fmt: skip
def test_times(name: bytes, seconds: int) -> None:
    assert moments.parsed(name) == seconds
    assert moments.parsed(moments.text(seconds).encode()) == seconds


@pytest.mark.parametrize(
    "name",
    [
        b"", b".", b"..", b"yesterday", b"2026", b"2026-11", b"2026-11-31", b"2025-02-29", b"0000-01-01", b"2026-13-01",
        b"2026-11-01T", b"2026-11-01T12", b"2026-11-01T24:00", b"2026-11-01T12:60", b"2026-11-01T12:30:60", b"20261101",
        b"2026-11-01T12:30+25:00", b"2026-11-01T12:30+01:75", b"2026-11-01Z", b"2026-11-01T12:30z", b"2026-11-01\n",
        b"2026-11-01T12:30:00." + b"1" * 10, b" 2026-11-01", b"2026-11-01/", b"-026-11-01", b"2026-W44-1",
        "\u0662\u0660\u0662\u0666-11-01".encode(), b"\xff" * 10, b"2" * 255,
    ],
)  # fmt: skip
def test_what_is_no_time(kernel: FakeKernel, name: bytes) -> None:
    assert moments.parsed(name) is None
    for where in ((b"at",), (b".treering", b"at")):
        if name:
            assert kernel.lookup(kernel.walk(*where).nodeid, name) is None


def test_a_branch_at_a_time(kernel: FakeKernel, store: WithContainers) -> None:
    one, two = made(store, b"1", time=DAY), made(store, b"2", time=3 * DAY)
    made(store, b"later", "feature/late", time=5 * DAY)
    assert target(kernel, b"at", b"1970-01-02", b"main") == tree(store, one, 2)
    assert target(kernel, b"at", b"1970-01-03T23:59:59", b"main") == tree(store, one, 2)
    assert target(kernel, b"at", b"1970-01-04", b"main") == tree(store, two, 2)
    assert target(kernel, b"at", b"1970-01-04T02:00:00+02:00", b"main") == tree(store, two, 2)
    assert kernel.lookup(kernel.walk(b"at", b"1970-01-01T23:59:59").nodeid, b"main") is None
    assert listed(kernel, b"at", b"1970-01-01") == []
    assert listed(kernel, b"at", b"1970-01-04") == [b"main"], "a directory is there if a branch in it was"
    assert kernel.lookup(kernel.walk(b"at", b"1970-01-04").nodeid, b"feature") is None
    assert listed(kernel, b"at", b"1970-01-06", b"feature") == [b"late"]
    assert b"at: 1970-01-04T00:00:00+00:00\n" in content(kernel, b".treering", b"at", b"1970-01-04", b"main")


# -- hostile names


@pytest.mark.parametrize("size", [256, 1000, 1023])
def test_names_that_are_too_long(kernel: FakeKernel, store: WithContainers, size: int) -> None:
    made(store, b"1", "b" * 255)
    inside = kernel.walk(b"trees", store.commits[store.branch_map["b" * 255]].root.hex().encode()).nodeid
    for where in (
        1,
        inside,
        *(kernel.walk(name).nodeid for name in (b"at", b"branches", b"commits", b"trees", b".treering")),
    ):
        assert kernel.fails(Opcode.LOOKUP, where, b"b" * size + b"\0") == 36, "ENAMETOOLONG"
        assert kernel.ask(Opcode.LOOKUP, where, b"x" * 255 + b"\0") is not None
    assert kernel.walk(b"branches", b"b" * 255).nodeid


def test_names_of_others_places(kernel: FakeKernel, store: WithContainers) -> None:
    one = made(store, b"1")
    store.branch_map["a/b"] = one
    for where in (
        (b"branches",),
        (b"branches", b"a"),
        (b"at", b"2026-11-01"),
        (b".treering",),
        (b".treering", b"branches"),
    ):
        for name in (b"..", b".", b"a\n", b"\xff\xfe", b"*", b"trees", b"refs", one.encode()):
            assert kernel.lookup(kernel.walk(*where).nodeid, name) is None, (where, name)
    for name in (b"A" * 40, one.encode()[:12], b"g" * 40, b"0" * 64, b"\xe9" * 40):
        assert kernel.lookup(kernel.walk(b"commits").nodeid, name) is None


def test_branches_need_not_be_utf8(kernel: FakeKernel, store: WithContainers) -> None:
    store.branch_map[os.fsdecode(b"\xff\xfe/\xe9")] = one = made(store, b"1")
    assert listed(kernel, b"branches") == [b"main", b"\xff\xfe"]
    assert target(kernel, b"branches", b"\xff\xfe", b"\xe9") == tree(store, one, 2)
    assert content(kernel, b".treering", b"branches", b"\xff\xfe", b"\xe9").decode().startswith("branch: ")


# -- words


def test_what_is_said_of_a_commit(kernel: FakeKernel, store: WithContainers) -> None:
    first = made(store, b"1")
    made(store, b"2", message="A title\n\nand more\n\n\n", time=1_700_000_000)
    root_id = store.commits[store.branch_map["main"]].root.hex()
    facts_of = (
        f"commit: {store.branch_map['main']}\nroot: {root_id}\nparent: {first}\nauthor: tester <tester@localhost>\n"
        "date: 2023-11-14T22:13:20+00:00\n\nA title\n\nand more\n"
    )
    commit = store.branch_map["main"]
    store.branch_map["a/b"] = store.tag_map["v1"] = store.container_map["web"] = commit
    assert content(kernel, b".treering", b"commits", commit.encode()).decode() == facts_of
    assert content(kernel, b".treering", b"branches", b"a", b"b").decode() == "branch: a/b\n" + facts_of
    assert content(kernel, b".treering", b"tags", b"v1").decode() == "tag: v1\n" + facts_of
    assert content(kernel, b".treering", b"containers", b"web").decode() == "container: web\n" + facts_of
    found = kernel.walk(b".treering", b"branches", b"main")
    assert (found.attr.mode, found.attr.mtime) == (stat.S_IFREG | 0o444, (1_700_000_000, 0))
    assert kernel.read(found.nodeid, 8, 4) == b"main"
    assert kernel.read(found.nodeid, 5000, 10) == b""
    assert content(kernel, b".treering", b"store") == b"store: in memory\n"


@pytest.mark.parametrize("message", ["", "\udcff broken", "\x1b[31m\r\n\0", "m" * 3_000_000, "\n\n\n"])
def test_messages_of_any_kind(kernel: FakeKernel, store: WithContainers, message: str) -> None:
    made(store, b"1", message=message, time=1 << 60)
    data = content(kernel, b".treering", b"branches", b"main") if len(message) < 1000 else b""
    node = kernel.walk(b".treering", b"branches", b"main")
    whole = b"".join(kernel.read(node.nodeid, offset, 1 << 20) for offset in range(0, node.attr.size, 1 << 20))
    assert len(whole) == node.attr.size
    assert not data or whole == data
    head, _, rest = whole.decode().partition("\n\n")
    assert rest == message.rstrip().encode("utf-8", "replace").decode() + "\n"
    assert "seconds after 1970" in head


def test_ten_thousand_of_everything(tmp_path: Path) -> None:
    """A listing is as many messages as it has parts of a buffer, and a name is one more."""
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            same = root(batch, {"f": b"f"})
        ids = write_long_history(store.path / "history.git", same, 10_000)
        with FakeKernel(store) as kernel:
            for where, names in (
                (b"commits", {commit.encode() for commit in ids}),
                (b"branches", {b"b%05d" % number for number in range(10_000)}),
                (b"tags", {b"t%05d" % number for number in range(10_000)}),
            ):
                for top in ((), (b".treering",)):
                    node = kernel.walk(*top, where).nodeid
                    before = kernel.session.served
                    found = kernel.readdir(node, 1 << 17)
                    assert len(found) == 10_002
                    assert {name for name, _, _ in found[2:]} == names
                    assert kernel.session.served - before < 10
            assert target(kernel, b"branches", b"b04321") == b"../trees/" + same.hex().encode()
            assert f"commit: {ids[1234]}\n".encode() in content(kernel, b".treering", b"tags", b"t01234")
            assert len(kernel.filesystem.table.nodes) < 20, "a listing hands out no nodes"
