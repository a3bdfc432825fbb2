"""Where what is new came from: copies, and files that changed while they were renamed or copied."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.values import Spec, root
from tests.vcs.test_diff import Counting
from vcs import similarity
from vcs.diff import Find, diff
from vcs.snapshot import Snapshot
from vcs.testing import MemoryStore

NEAR = Find(50, "near")
EVERYWHERE = Find(50, "everywhere")


def told(old: Spec, new: Spec, find: Find, store: MemoryStore | None = None) -> list[str]:
    store = store or MemoryStore()
    before, after = (Snapshot(store, root(store, spec)) for spec in (old, new))
    return [
        f"{c.status} {c.path.decode()}" + (f" < {c.old_path.decode()}" if c.old_path else "")
        for c in diff(before, after, find=find)
    ]


def text(*lines: int) -> bytes:
    return b"".join(b"line %07d\n" % line for line in lines)


BASE = text(*range(20))
EDITED = text(*range(18), 100, 101)
"""Nine tenths of it."""


@pytest.mark.parametrize(
    ("find", "old", "new", "expected"),
    [
        (Find(), {"a": b"1"}, {"a": b"1", "b": b"1"}, ["A /b"]),
        (Find(50), {"a": b"1"}, {"a": b"1", "b": b"1"}, ["A /b"]),
        (NEAR, {"a": b"1"}, {"a": b"1", "b": b"1"}, ["C100 /b < /a"]),
        (NEAR, {"a": b""}, {"a": b"", "b": b""}, ["A /b"]),
        (NEAR, {"a": b"1"}, {"b": b"1", "c": b"1"}, ["R100 /b < /a", "C100 /c < /a"]),
        (NEAR, {"a": b"1"}, {"a": b"2", "b": b"1"}, ["M /a", "C100 /b < /a"]),
        (NEAR, {"x": b"1", "z": b"1"}, {"x": b"1", "z": b"1", "d": {"z": b"1"}}, ["A /d", "C100 /d/z < /z"]),
        (NEAR, {"d": {"x": b"1"}}, {"d": {"x": b"1"}, "e": {"x": b"1"}}, ["C100 /e < /d"]),
        (NEAR, {"far": {"x": b"1"}}, {"far": {"x": b"1"}, "e": {"y": b"1"}}, ["A /e", "A /e/y"]),
        (EVERYWHERE, {"far": {"x": b"1"}}, {"far": {"x": b"1"}, "e": {"y": b"1"}}, ["A /e", "C100 /e/y < /far/x"]),
        (Find(), {"a": BASE}, {"b": EDITED}, ["D /a", "A /b"]),
        (Find(50), {"a": BASE}, {"b": EDITED}, ["R090 /b < /a"]),
        (Find(91), {"a": BASE}, {"b": EDITED}, ["D /a", "A /b"]),
        (NEAR, {"a": BASE}, {"a": BASE + b"+", "b": EDITED}, ["M /a", "C090 /b < /a"]),
        (NEAR, {"a": BASE}, {"a": BASE, "b": EDITED}, ["A /b"]),
        (EVERYWHERE, {"a": BASE}, {"a": BASE, "b": EDITED}, ["C090 /b < /a"]),
        (NEAR, {"a": BASE}, {"b": BASE, "c": EDITED}, ["R100 /b < /a", "C090 /c < /a"]),
        (Find(50), {"a": text(1, 2)}, {"b": text(2, 1)}, ["R099 /b < /a"]),
        (Find(50), {"a": BASE, "b": text(*range(16))}, {"c": EDITED, "d": text(*range(15))},
         ["R090 /c < /a", "R093 /d < /b"]),
        (NEAR, {"a": {"x": b"1", "y": b"2"}}, {"b": {"x": b"1", "y": b"2"}, "c": {"x": b"1"}},
         ["R100 /b < /a", "A /c", "A /c/x"]),
    ],
)  # fmt: skip
def test_where_it_came_from(find: Find, old: Spec, new: Spec, expected: list[str]) -> None:
    assert told(old, new, find) == expected


def test_large_files_are_alike_by_their_chunks_and_are_not_read() -> None:
    data = random.Random(1).randbytes(3 << 20)
    store = Counting()
    root(store, {})
    lines = told({"a": data}, {"b": b"in front" + data}, Find(50), store)
    assert len(lines) == 1
    assert lines[0].startswith("R0")
    assert lines[0].endswith(" /b < /a")
    assert store.opened < 10, "trees and chunk lists, and no chunk"


def test_copies_that_are_near_do_not_open_the_rest_of_the_root() -> None:
    far: Spec = {f"d{number}": {"x": b"%d" % number} for number in range(100)}
    opened = {}
    for find in (Find(), NEAR, EVERYWHERE):
        store = Counting()
        told({"far": far, "e": {"a": b"1"}}, {"far": far, "e": {"a": b"1", "b": b"1"}}, find, store)
        opened[find] = store.opened
    assert opened[NEAR] <= opened[Find()] + 4
    assert opened[EVERYWHERE] >= 100


def test_no_more_is_read_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "READ_MAX", len(BASE) - 1)
    assert told({"a": BASE}, {"b": EDITED}, Find(50)) == ["D /a", "A /b"]


def test_a_line_that_all_have_tells_nothing_but_the_name_does() -> None:
    old: Spec = {"d": {f"f{number:03}": b"the same line\n" + b"%d\n" % number for number in range(100)}}
    new: Spec = {"e": {"f007": b"the same line\n7+\n", "g": b"the same line\n8+\n"}}
    assert [line for line in told(old, new, Find(50)) if line.startswith("R")] == ["R082 /e/f007 < /d/f007"]


@given(st.data())
def test_each_path_is_told_once_and_a_rename_takes_its_source(data: st.DataObject) -> None:
    contents = st.lists(st.integers(0, 6), max_size=6).map(lambda lines: text(*lines))
    flat = st.dictionaries(st.sampled_from("abcdef"), contents, max_size=5)
    roots = st.dictionaries(st.sampled_from("xyz"), flat, max_size=3)
    old, new = data.draw(roots), data.draw(roots)
    store = MemoryStore()
    before, after = (Snapshot(store, root(store, spec)) for spec in (old, new))
    find = data.draw(st.sampled_from([Find(), Find(50), NEAR, EVERYWHERE]))
    changes = diff(before, after, find=find)
    paths = [change.path for change in changes if change.letter != "D"]
    assert len(paths) == len(set(paths))
    taken = [change.old_path for change in changes if change.letter == "R"]
    assert len(taken) == len(set(taken))
    gone = {change.path for change in changes if change.letter == "D"}
    assert not gone & set(taken)
    for change in changes:
        if change.old_path is not None:
            assert change.old == before.lookup(change.old_path)
            assert change.new == after.lookup(change.path)
            assert before.find(change.path) is None
