"""Differences between two roots: every letter, and that the changes, applied to the old root, give the new one."""

import random
import stat
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.values import Spec, directory, file, link, root
from vcs.blobs import put_data
from vcs.diff import Change, diff
from vcs.model import Chunked, Data, Device, Entry, Link, RootId, Special, Tree
from vcs.snapshot import Snapshot
from vcs.testing import MemoryStore
from vcs.trees import write_root, write_tree


class Counting(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def get(self, digest: bytes) -> bytes:
        self.opened += 1
        return super().get(digest)


def changes(old: Spec, new: Spec, *paths: bytes, renames: bool = True) -> list[Change]:
    store = MemoryStore()
    return diff(Snapshot(store, root(store, old)), Snapshot(store, root(store, new)), paths, renames)


def told(old: Spec, new: Spec, *paths: bytes, renames: bool = True) -> list[str]:
    """The changes as lines: letter, path, and for R where it was."""
    return [
        f"{c.letter} {c.path.decode()}" + (f" < {c.old_path.decode()}" if c.old_path else "")
        for c in changes(old, new, *paths, renames=renames)
    ]


DEVICE = Entry(b"", stat.S_IFCHR | 0o600, 0, 0, 0, Device(1, 3))
FIFO = Entry(b"", stat.S_IFIFO | 0o600, 0, 0, 0, Special())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({"a": b"1"}, {"a": b"1"}, []),
        ({}, {"a": b"1"}, ["A /a"]),
        ({"a": b"1"}, {}, ["D /a"]),
        ({"a": b"1"}, {"a": b"2"}, ["M /a"]),
        ({"a": b"1"}, {"a": {}}, ["T /a"]),
        ({"a": b"1"}, {"a": link("1")}, ["T /a"]),
        ({"a": DEVICE}, {"a": FIFO}, ["T /a"]),
        ({"a": DEVICE}, {"a": replace(DEVICE, content=Device(1, 5))}, ["M /a"]),
        ({"a": link("x")}, {"a": link("y")}, ["M /a"]),
        ({"a": {"b": b"1", "c": {"d": b"2"}}}, {"a": b"x"}, ["T /a", "D /a/b", "D /a/c", "D /a/c/d"]),
        ({"a": b"x"}, {"a": {"b": b"1"}}, ["T /a", "A /a/b"]),
        ({}, {"a": {"b": {"c": b"1"}}}, ["A /a", "A /a/b", "A /a/b/c"]),
        ({"a": {"b": {"c": b"1"}}}, {}, ["D /a", "D /a/b", "D /a/b/c"]),
        ({"a": b"1"}, {"b": b"1"}, ["R /b < /a"]),
        ({"a": {"x": b"1", "y": b"2"}}, {"b": {"x": b"1", "y": b"2"}}, ["R /b < /a"]),
        ({"a": {"x": b"1"}}, {"n": {"m": {"x": b"1"}}}, ["A /n", "R /n/m < /a"]),
        ({"a": {"x": b"1"}}, {"b": {"x": b"1", "z": b"2"}}, ["D /a", "A /b", "R /b/x < /a/x", "A /b/z"]),
        ({"a": b"1", "z": b"1"}, {"d": {"z": b"1", "a": b"1"}}, ["A /d", "R /d/a < /a", "R /d/z < /z"]),
        ({"a": b"1"}, {"b": b"1", "c": b"1"}, ["R /b < /a", "A /c"]),
        ({"a": b"1", "b": b"1"}, {"c": b"1"}, ["D /b", "R /c < /a"]),
        ({"a": b""}, {"b": b""}, ["D /a", "A /b"]),
        ({"a": {}}, {"b": {}}, ["D /a", "A /b"]),
        ({"a": b"same"}, {"a": b"other", "b": b"same"}, ["M /a", "A /b"]),
        ({"a": {"x": b"1"}, "g": b"0"}, {"n": {"m": {"x": b"1"}}, "g": b"1"}, ["M /g", "A /n", "R /n/m < /a"]),
        ({"a": {"x": b"1"}}, {"g": b"1", "n": {"m": {"x": b"1"}}}, ["A /g", "A /n", "R /n/m < /a"]),
    ],
)  # fmt: skip
def test_the_letters(old: Spec, new: Spec, expected: list[str]) -> None:
    assert sorted(told(old, new), key=lambda line: line.split()[1]) == sorted(
        expected, key=lambda line: line.split()[1]
    )


def test_without_renames_they_are_deletions_and_additions() -> None:
    assert told({"a": {"x": b"1"}}, {"b": {"x": b"1"}}, renames=False) == ["D /a", "D /a/x", "A /b", "A /b/x"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"mode": stat.S_IFREG | 0o4755}, ("mode",)),
        ({"uid": 5}, ("owner",)),
        ({"gid": 5}, ("owner",)),
        ({"mtime": -1}, ("mtime",)),
        ({"xattrs": ((b"user.a", b"b"),)}, ("xattrs",)),
        ({"link": Link(bytes(16), 2)}, ("link",)),
        ({"content": Data(2, bytes(32)), "uid": 1}, ("content", "owner")),
    ],
)
def test_what_differs_is_told(fields: dict[str, Any], expected: tuple[str, ...]) -> None:
    plain = file(Data(1, bytes(32)))
    (change,) = changes({"a": plain}, {"a": replace(plain, **fields)})
    assert (change.letter, change.what) == ("M", expected)
    assert (change.old, change.new) == (replace(plain, name=b"a"), replace(plain, name=b"a", **fields))


def test_a_directorys_mtime_is_told_only_if_nothing_below_explains_it() -> None:
    store = MemoryStore()
    plain = directory(store, {"x": b"1"})
    fuller = directory(store, {"x": b"1", "y": b"2"}, mtime=5)
    for changed, expected in (
        (fuller, ["A /d/y"]),
        (replace(plain, mtime=5), ["M /d"]),
        (replace(fuller, uid=1), ["M /d", "A /d/y"]),
    ):
        old, new = (Snapshot(store, root(store, {"d": entry})) for entry in (plain, changed))
        assert [f"{c.letter} {c.path.decode()}" for c in diff(old, new)] == expected


def test_the_root_itself_can_change() -> None:
    store = MemoryStore()
    old, new = root(store, {"a": b"1"}), root(store, {"a": b"1"}, mode=stat.S_IFDIR | 0o700)
    (change,) = diff(Snapshot(store, old), Snapshot(store, new))
    assert (change.letter, change.path, change.what) == ("M", b"/", ("mode",))


def test_paths_limit_what_is_told() -> None:
    old: Spec = {"a": {"b": {"c": b"1", "d": b"1"}, "x": b"1"}, "ab": b"1"}
    new: Spec = {"a": {"b": {"c": b"2", "d": b"2"}, "x": b"2"}, "ab": b"2"}
    assert told(old, new, b"a/b") == ["M /a/b/c", "M /a/b/d"]
    assert told(old, new, b"/a/b/c", b"ab") == ["M /a/b/c", "M /ab"]
    assert told(old, new, b"a") == ["M /a/b/c", "M /a/b/d", "M /a/x"]
    assert told(old, new, b"/") == ["M /a/b/c", "M /a/b/d", "M /a/x", "M /ab"]
    assert told(old, new, b"nowhere") == []


def test_a_rename_out_of_the_wanted_paths_is_told() -> None:
    assert told({"in": {"f": b"1", "g": b"2"}}, {"in": {"g": b"2"}, "out": b"1"}, b"in") in (
        ["R /out < /in/f"],
        ["D /in/f"],
    )


def test_ten_changes_in_a_large_root_open_a_few_trees() -> None:
    store = Counting()
    names = [f"d{n:03}" for n in range(300)]
    sides = []
    for changed in (b"", b"!"):
        spec = {
            n: {f"f{m:03}": b"%d" % m + (changed if n[-2:] == "00" and m < 4 else b"") for m in range(40)}
            for n in names
        }
        sides.append(root(store, spec))
    old, new = (Snapshot(store, side) for side in sides)
    store.opened = 0
    assert len(diff(old, new)) == 12
    assert store.opened < 20


def test_two_stores_can_be_compared() -> None:
    one, other = MemoryStore(), MemoryStore()
    old, new = root(one, {"a": b"1", "same": {"x": b"y"}}), root(other, {"a": b"2", "same": {"x": b"y"}})
    assert [c.letter for c in diff(Snapshot(one, old), Snapshot(other, new))] == ["M"]


def test_trees_deeper_than_pythons_stack() -> None:
    store = MemoryStore()
    sides = []
    for leaf in (b"1", b"2"):
        entry = Entry(b"f", stat.S_IFREG | 0o644, 0, 0, 0, put_data(store, leaf))
        for _ in range(3000):
            entry = Entry(b"d", stat.S_IFDIR | 0o755, 0, 0, 0, write_tree(store, [entry]))
        sides.append(write_root(store, replace(entry, name=b"")))
    (change,) = diff(Snapshot(store, sides[0]), Snapshot(store, sides[1]))
    assert change.path == b"/d" * 2999 + b"/f"
    empty = root(store, {})
    assert len(diff(Snapshot(store, empty), Snapshot(store, sides[0]))) >= 3000


# -- by chance

files = st.sampled_from([b"", b"1", b"2", b"3"]) | st.sampled_from([link("x"), link("y"), DEVICE, FIFO])
specs = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), files, max_size=3),
    lambda below: st.dictionaries(st.sampled_from("abcd"), files | below, max_size=4),
    max_leaves=14,
)


@settings(max_examples=400)
@example({"a": {"x": b"1"}}, {"g": b"1", "n": {"m": {"x": b"1"}}}, True)
@given(specs, specs, st.booleans())
def test_the_changes_make_the_new_root_out_of_the_old(old: Spec, new: Spec, renames: bool) -> None:
    store = MemoryStore()
    before, after = (Snapshot(store, root(store, side)) for side in (old, new))
    assert apply(before, diff(before, after, (), renames)) == flat(after)


def flat(snapshot: Snapshot) -> dict[bytes, Entry]:
    """Every path and its entry, without what follows from what is below it or from where it is."""
    return {path: plain(entry) for path, entry in snapshot.walk()}


def plain(entry: Entry) -> Entry:
    if isinstance(entry.content, Tree):
        return replace(entry, name=b"", mtime=0, content=Tree(b"", 0, 0, 0))
    return replace(entry, name=b"")


def apply(snapshot: Snapshot, found: list[Change]) -> dict[bytes, Entry]:
    result = flat(snapshot)
    moved: dict[bytes, Entry] = {}
    for change in found:
        if change.letter == "R":
            assert change.old_path is not None
            for path in [p for p in result if p == change.old_path or p.startswith(change.old_path + b"/")]:
                moved[change.path + path[len(change.old_path) :]] = result.pop(path)
        elif change.letter == "D":
            del result[change.path]
    for change in found:
        if change.letter in "AR":
            assert change.path not in result
        if change.letter != "D":
            assert change.new is not None
            result[change.path] = plain(change.new)
    return {**moved, **result}


def test_a_large_directory_is_compared_node_by_node() -> None:
    store = Counting()
    made = random.Random(1)
    spec: dict[str | bytes, bytes | Entry | Spec] = {f"{n:06}": file(Data(n + 1, bytes(32))) for n in range(20_000)}
    old = root(store, spec)
    for number in made.sample(range(20_000), 10):
        spec[f"{number:06}"] = file(Data(1 << 30, bytes(32)))
    del spec["000000"]
    new = root(store, spec)
    store.opened = 0
    assert len(diff(Snapshot(store, old), Snapshot(store, new))) == 11
    assert store.opened < 60


def test_large_files_are_renamed_by_their_list() -> None:
    big = file(Chunked(1 << 30, bytes(32), 1 << 30))
    assert told({"a": big}, {"b": big}) == ["R /b < /a"]


def test_equal_roots_are_not_opened() -> None:
    class Closed(MemoryStore):
        def get(self, digest: bytes) -> bytes:
            if self.closed:
                raise AssertionError("opened")
            return super().get(digest)

        closed = False

    store = Closed()
    name: RootId = root(store, {"a": b"1"})
    one, other = Snapshot(store, name), Snapshot(store, name)
    store.closed = True
    assert diff(one, other) == []
