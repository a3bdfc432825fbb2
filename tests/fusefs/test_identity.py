"""Which names are the same file: the rules of fusefs/inodes.py, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fusefs.fake_kernel import FakeKernel
from tests.support.values import Spec, file, link, root
from vcs.blobs import put_data
from vcs.model import Entry, Link, RootId
from vcs.testing import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def kernel(store: MemoryStore) -> Iterator[FakeKernel]:
    with FakeKernel(store) as kernel:
        yield kernel


def number(kernel: FakeKernel, made: RootId, path: str) -> int:
    found = kernel.walk(b"trees", made.hex().encode(), *path.encode().split(b"/"))
    assert found.nodeid == found.attr.ino
    return found.nodeid


def linked(store: MemoryStore, group: bytes, count: int = 2, content: bytes = b"same", **fields: Any) -> Entry:
    return file(put_data(store, content), link=Link(group * 16, count), **fields)


def test_a_file_is_one_node_in_every_commit_that_has_it_at_the_same_path(
    kernel: FakeKernel, store: MemoryStore
) -> None:
    old = root(store, {"a": b"first", "etc": {"kept": b"kept", "changed": b"old", "l": link("kept")}})
    new = root(store, {"etc": {"kept": b"kept", "changed": b"new!", "l": link("kept")}})
    assert number(kernel, old, "etc/kept") == number(kernel, new, "etc/kept")
    assert number(kernel, old, "etc/l") == number(kernel, new, "etc/l")
    assert number(kernel, old, "etc/changed") != number(kernel, new, "etc/changed")
    assert number(kernel, old, "etc") != number(kernel, new, "etc"), "a directory has one place"


def test_a_directory_that_is_the_same_in_two_commits_is_two_nodes_with_the_same_files(
    kernel: FakeKernel, store: MemoryStore
) -> None:
    old = root(store, {"lib": {"x": b"x", "deep": {"y": b"y"}}})
    new = root(store, {"lib": {"x": b"x", "deep": {"y": b"y"}}, "more": b"more"})
    assert number(kernel, old, "lib/deep") != number(kernel, new, "lib/deep")
    assert number(kernel, old, "lib/deep/y") == number(kernel, new, "lib/deep/y")


def test_two_paths_are_two_files_however_equal(kernel: FakeKernel, store: MemoryStore) -> None:
    same = {"f": b"content"}
    made = root(store, {"one": same, "two": same, "f": b"content", "g": b"content"})
    numbers = {number(kernel, made, path) for path in ("one", "two", "one/f", "two/f", "f", "g")}
    assert len(numbers) == 6


def test_metadata_makes_another_file(kernel: FakeKernel, store: MemoryStore) -> None:
    content = put_data(store, b"content")
    changes: list[dict[str, Any]] = [{}, {"uid": 1}, {"mtime": 1}, {"xattrs": ((b"user.a", b"b"),)}]
    roots = [root(store, {"f": file(content, **fields)}) for fields in changes]
    assert len({number(kernel, made, "f") for made in roots}) == 4


def test_hard_links_are_one_node_in_their_root(kernel: FakeKernel, store: MemoryStore) -> None:
    made = root(store, {"a": linked(store, b"g"), "d": {"b": linked(store, b"g")}})
    assert number(kernel, made, "a") == number(kernel, made, "d/b")
    assert kernel.getattr(number(kernel, made, "a")).nlink == 2


def test_a_group_spread_over_directories_is_not_shared_between_roots(kernel: FakeKernel, store: MemoryStore) -> None:
    """In the second root `d/b` is another file: were `a` shared, the two would be one through it."""
    old = root(store, {"a": linked(store, b"g"), "d": {"b": linked(store, b"g")}})
    new = root(store, {"a": linked(store, b"g"), "c": linked(store, b"g")})
    assert number(kernel, old, "a") != number(kernel, new, "a")


def test_a_group_within_one_directory_is_shared_between_roots(kernel: FakeKernel, store: MemoryStore) -> None:
    bin_ = {"perl": linked(store, b"g"), "perl5": linked(store, b"g"), "sh": b"sh"}
    old = root(store, {"bin": bin_})
    new = root(store, {"bin": {**bin_, "sh": b"another"}, "x": b"x"})
    grown = root(store, {"bin": {**{name: linked(store, b"g", 3) for name in ("perl", "perl5", "perl6")}}})
    numbers = {number(kernel, made, path) for made in (old, new) for path in ("bin/perl", "bin/perl5")}
    assert len(numbers) == 1
    assert number(kernel, grown, "bin/perl") not in numbers
    elsewhere = root(store, {"sbin": bin_})
    assert number(kernel, elsewhere, "sbin/perl") not in numbers


def test_a_group_that_contradicts_itself_is_several_files(kernel: FakeKernel, store: MemoryStore) -> None:
    """A store made by somebody else may call anything linked; nobody is to read one file through another's name."""
    made = root(store, {"a": linked(store, b"g", uid=1), "b": linked(store, b"g", content=b"secret"), "c": {}})
    apart = root(store, {"a": linked(store, b"g"), "d": {"b": linked(store, b"g", content=b"secret")}})
    lies = root(store, {"a": linked(store, b"g", 2), "b": linked(store, b"g", 7)})
    for wrong, other in ((made, "b"), (apart, "d/b"), (lies, "b")):
        assert number(kernel, wrong, "a") != number(kernel, wrong, other)


def test_numbers_are_small_and_stay(kernel: FakeKernel, store: MemoryStore) -> None:
    made = root(store, {f"d{outer}": {f"f{inner}": b"x" for inner in range(10)} for outer in range(10)})
    paths = ["d3/f4", "d9", "d0/f0", "d9/f9"]
    before = [number(kernel, made, path) for path in paths]
    assert max(before) < 16 + 1 + 111
    for node in [*kernel.filesystem.table.nodes]:
        kernel.forget(node, 100)
    assert [number(kernel, made, path) for path in reversed(paths)] == before[::-1]


NAMES = st.sampled_from("abcd")
SPECS: st.SearchStrategy[Spec] = st.recursive(
    st.dictionaries(NAMES, st.sampled_from([b"1", b"2"]), max_size=3),
    lambda inner: st.dictionaries(NAMES, st.sampled_from([b"1", b"2"]) | inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(SPECS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_by_chance_names_share_a_node_exactly_when_the_rules_say_so(specs: list[Spec], random: object) -> None:
    store = MemoryStore()
    roots = [root(store, spec) for spec in specs]
    with FakeKernel(store) as kernel:
        known: dict[int, set[object]] = {}

        def visit(made: RootId, node: int, path: bytes, spec: Spec) -> None:
            for found in kernel.readdirplus(node)[2:]:
                value = spec[found.name.decode()]
                here = path + b"/" + found.name
                is_file = isinstance(value, bytes)
                known.setdefault(found.nodeid, set()).add((here, value) if is_file else (made, here))
                if not isinstance(value, (bytes, Entry)):
                    visit(made, found.nodeid, here, value)

        order = [*zip(roots, specs, strict=True)] * 2
        random.shuffle(order)  # type: ignore[attr-defined]
        for made, spec in order:
            visit(made, kernel.walk(b"trees", made.hex().encode()).nodeid, b"", spec)
        assert all(len(files) == 1 for files in known.values()), "one number, several files"
        everything = [next(iter(files)) for files in known.values()]
        assert len(everything) == len(set(everything)), "one file, several numbers"
