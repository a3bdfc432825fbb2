"""Which commits are wanted: compared with full diffs of all roots, on small histories with merges, by chance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_history import PATHS, TEXTS, Made, Sketch, line_of, make, sketches
from vcs.commitlog import Occurrences, Wanted, content_of, lineage, log
from vcs.commits import Commits
from vcs.diff import diff
from vcs.encoding import digest
from vcs.errors import Corrupt, Missing
from vcs.model import CommitId
from vcs.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.create(tmp_path_factory.mktemp("log") / "store") as made:
        yield made


def numbers(made: Made, found: Sequence[CommitId]) -> list[int]:
    return [made.ids.index(name) for name in found]


def logged(made: Made, *start: int, hidden: Sequence[int] = (), wanted: Wanted | None = None) -> list[int]:
    """Numbers of the commits in a log, after a look at their order."""
    ends = [made.ids[number] for number in start], [made.ids[number] for number in hidden]
    found = numbers(made, [info.id for info in log(made.store, *ends, wanted or Wanted())])
    drawn = lineage(made.store, *ends, wanted or Wanted())
    again = numbers(made, [info.id for info, _ in drawn])
    assert sorted(again) == sorted(found)
    for order in (found, again):
        assert len(set(order)) == len(order)
        for place, number in enumerate(order):
            assert not made.ancestors(number) & set(order[:place]), "children come before parents"
    return sorted(found)


def is_different(made: Made, number: int, path: bytes) -> bool:
    """By a diff of all files, whether a commit has something else at a path than each of its parents."""
    new = made.store.snapshot_of(made.ids[number])
    parents = [made.store.snapshot_of(made.ids[parent]) for parent in made.sketches[number].parents]
    if not parents:
        return new.find(path) is not None
    return all(diff(old, new, [path], renames=False) for old in parents)


@settings(max_examples=60)
@given(sketches())
def test_a_log_of_a_path_is_what_full_diffs_say(store: Store, drawn: list[Sketch]) -> None:
    made = make(store, drawn)
    last = len(drawn) - 1
    for path in (*PATHS, "d", "d/e", "", "nowhere/at/all", "i/below/a/file"):
        raw = path.encode()
        expected = [number for number in sorted(made.ancestors(last)) if is_different(made, number, raw)]
        assert logged(made, last, wanted=Wanted((raw,))) == expected, path


@settings(max_examples=30)
@given(sketches())
def test_several_paths_are_one_question(store: Store, drawn: list[Sketch]) -> None:
    made = make(store, drawn)
    last = len(drawn) - 1
    paths = (b"d/e", b"/i")

    def differs(number: int) -> bool:
        parents = drawn[number].parents
        new = made.store.snapshot_of(made.ids[number])
        if not parents:
            return any(new.find(path) for path in paths)
        olds = [made.store.snapshot_of(made.ids[parent]) for parent in parents]
        return all(diff(old, new, paths, renames=False) for old in olds)

    assert logged(made, last, wanted=Wanted(paths)) == [n for n in sorted(made.ancestors(last)) if differs(n)]


@settings(max_examples=40)
@given(sketches(), st.sampled_from(TEXTS), st.sampled_from([(), (b"d",), (b"d/e", b"d/e/f", b"d"), (b"i",)]))
def test_where_a_content_comes_and_goes(
    store: Store, drawn: list[Sketch], text: bytes, paths: tuple[bytes, ...]
) -> None:
    made = make(store, drawn)
    last = len(drawn) - 1

    def count(number: int) -> int:
        files = drawn[number].files.items()
        inside = [
            has for path, has in files if not paths or any(f"{path}/".startswith(f"{p.decode()}/") for p in paths)
        ]
        return inside.count(text)

    expected = []
    for number in sorted(made.ancestors(last)):
        before = [count(parent) for parent in drawn[number].parents] or [0]
        expected += [number] if count(number) not in before else []
    assert logged(made, last, wanted=Wanted(paths, content=digest(text))) == expected


@settings(max_examples=60)
@given(sketches(), st.data())
def test_ends_and_what_stands_on_them_are_left_out(store: Store, drawn: list[Sketch], data: st.DataObject) -> None:
    made = make(store, drawn)
    some = st.lists(st.integers(0, len(drawn) - 1), max_size=3)
    start, hidden = data.draw(some), data.draw(some)
    reached: set[int] = set().union(*map(made.ancestors, start))
    assert logged(made, *start, hidden=hidden) == sorted(reached.difference(*map(made.ancestors, hidden)))


@settings(max_examples=60)
@given(sketches(), st.data())
def test_parents_that_are_not_wanted_are_replaced_by_the_nearest_that_are(
    store: Store, drawn: list[Sketch], data: st.DataObject
) -> None:
    made = make(store, drawn)
    last = len(drawn) - 1
    chosen = data.draw(st.sets(st.integers(0, last)))
    message = re.compile("^number (" + "|".join(map(str, chosen)) + ")$" if chosen else "^none$")

    def nearest(number: int) -> set[int]:
        found: set[int] = set()
        for parent in drawn[number].parents:
            found |= {parent} if parent in chosen else nearest(parent)
        return found

    for info, parents in lineage(store, [made.ids[last]], (), Wanted(message=message)):
        number = made.ids.index(info.id)
        expected = nearest(number)
        if not expected.issuperset(drawn[number].parents):
            expected -= {one for other in expected for one in made.ancestors(other) if one != other}
        assert set(numbers(made, parents)) == expected


def test_times_words_and_people(store: Store) -> None:
    made = make(store, list(line_of([b"%d\n" % number for number in range(6)])))
    start = 1_700_000_000
    assert logged(made, 5, wanted=Wanted(since=start + 120, until=start + 200)) == [2, 3]
    assert logged(made, 5, wanted=Wanted(since=start + 10 * 86_400)) == []
    assert logged(made, 5, wanted=Wanted(message=re.compile("[45]"))) == [4, 5]
    assert logged(made, 5, wanted=Wanted(author=re.compile("ana@"))) == [0, 1, 2, 3, 4, 5]
    assert logged(made, 5, wanted=Wanted(author=re.compile("bob"), paths=(b"f",))) == []
    assert logged(made) == []


class Counting:
    """The history's objects, and how many of them were asked for."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked: list[str] = []

    def __call__(self, name: str) -> bytes:
        self.asked.append(name)
        return self.store.history.raw(name)


def test_a_walk_reads_no_more_than_it_is_asked_for(store: Store) -> None:
    made = make(store, list(line_of([b"%d\n" % number for number in range(30)])))
    raw = Counting(store)
    walk = Commits(raw).newest_first([made.ids[-1]])
    assert [next(walk).id for _ in range(5)] == list(reversed(made.ids))[:5]
    assert len(raw.asked) <= 8
    assert len(list(walk)) == 25


def test_a_clock_that_was_set_back_loses_no_commit(store: Store) -> None:
    """The grandchild is older than its ancestors by years, and a branch is younger than all."""
    far = 400 * 86_400
    sketch = [
        Sketch((), {}, far), Sketch((0,), {}, 2 * far), Sketch((1,), {}, 0), Sketch((0,), {}, 3 * far),
        Sketch((2, 3), {}, 1),
    ]  # fmt: skip
    made = make(store, sketch)
    found = [info.id for info in log(store, [made.ids[4]])]
    assert sorted(numbers(made, found)) == [0, 1, 2, 3, 4]
    order = numbers(made, [info.id for info, _ in lineage(store, [made.ids[4]])])
    assert order.index(0) == 4
    assert order.index(1) > order.index(2)


def test_an_end_that_is_younger_than_what_stands_on_it_comes_after_that(store: Store) -> None:
    made = make(store, [Sketch((), {}, 50), Sketch((0,), {}, 0), Sketch((1,), {}, 40)])
    found = [info.id for info in log(store, [made.ids[number] for number in (0, 1, 2)])]
    assert numbers(made, found) == [2, 1, 0]


def test_a_branch_without_wanted_commits_is_no_parent_of_its_own(store: Store) -> None:
    """0 - 1 - 3 and 0 - 2 - 3: without 2, the merge stands on 1 alone, which stands on 0."""
    made = make(store, [Sketch((), {}, 0), Sketch((0,), {}, 1), Sketch((0,), {}, 2), Sketch((1, 2), {}, 3)])
    found = lineage(store, [made.ids[3]], (), Wanted(message=re.compile("[013]")))
    assert [numbers(made, parents) for _, parents in found] == [[1], [0], []]


def test_branches_stay_together(store: Store) -> None:
    """0 - 1 - 3 - 5 and 0 - 2 - 4 - 5, by time in turns."""
    sketch = [
        Sketch((), {}, 0), Sketch((0,), {}, 1), Sketch((0,), {}, 2), Sketch((1,), {}, 3), Sketch((2,), {}, 4),
        Sketch((3, 4), {}, 5),
    ]  # fmt: skip
    made = make(store, sketch)
    assert numbers(made, [info.id for info in log(store, [made.ids[5]])]) == [5, 4, 3, 2, 1, 0]
    assert numbers(made, [info.id for info, _ in lineage(store, [made.ids[5]])]) == [5, 4, 2, 3, 1, 0]


def test_a_tree_that_was_counted_is_not_opened_again(store: Store) -> None:
    made = make(store, [Sketch((), {"d/h": b"x", "i": b"1"}, 0), Sketch((0,), {"d/h": b"x", "i": b"2"}, 1)])

    class Objects:
        opened = 0

        def get(self, name: bytes) -> bytes:
            self.opened += 1
            return store.get(name)

    objects = Objects()
    count = Occurrences(objects, [], digest(b"x"))
    assert count.at(store.commit(made.ids[0]).root) == (1,)
    assert objects.opened == 3, "root, its directory, and d"
    assert count.at(store.commit(made.ids[1]).root) == (1,)
    assert objects.opened == 5


def test_what_is_no_file_has_no_content(store: Store) -> None:
    made = make(store, [Sketch((), {"d/h": b"x"}, 0)])
    snapshot = store.snapshot_of(made.ids[0])
    assert content_of(snapshot.lookup(b"d")) is None
    assert content_of(snapshot.lookup(b"d/h")) == digest(b"x")


def test_damage_is_told(store: Store, tmp_path: Path) -> None:
    made = make(store, [Sketch((), {}, 0)])
    commit = Commits(store.history.raw).read(made.ids[0])
    with pytest.raises(Missing):
        Commits(store.history.raw).read("1" * 40)
    with pytest.raises(Corrupt):
        Commits(store.history.raw).read(commit.tree)
    with pytest.raises(Missing):
        Commits(lambda name: b"").root(commit)
    with pytest.raises(Corrupt):
        Commits(lambda name: b"100644 root\0" + bytes(20) if name == commit.tree else b"short").root(commit)
