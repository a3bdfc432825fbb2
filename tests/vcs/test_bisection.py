"""The commit to test next: in any history it halves best, and the first bad commit is found within the bound."""

from __future__ import annotations

import multiprocessing
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.killing import killed_anywhere
from tests.support.values import root
from vcs.bisection import notebook
from vcs.bisection.midpoint import Outlook, choose, outlook
from vcs.bisection.notebook import Mark, Notebook, Words
from vcs.bisection.session import REFS, Bisection
from vcs.bisection.span import Span, left, merge_bases, reachable, span, weights
from vcs.check import check
from vcs.collect import collect
from vcs.errors import AlreadyExists, Conflict, Corrupt, NotFound, UnknownFormat
from vcs.history import Author
from vcs.model import CommitId
from vcs.store import Store

AUTHOR = Author("Ada Tester", "ada@example.org", 1_700_000_000)

History = Mapping[CommitId, tuple[CommitId, ...]]
"""Parents before children."""


def line(count: int) -> History:
    return graph([(number - 1,) if number else () for number in range(count)])


def graph(parents: list[tuple[int, ...]]) -> History:
    names = [CommitId(f"{number:040x}") for number in range(len(parents))]
    return {name: tuple(names[one] for one in found) for name, found in zip(names, parents, strict=True)}


@st.composite
def histories(draw: st.DrawFn, most: int = 2) -> History:
    """Up to sixty commits with up to `most` parents, which are recent ones."""
    made: list[tuple[int, ...]] = [()]
    for number in range(1, draw(st.integers(2, 60))):
        count = draw(st.integers(1, min(number, draw(st.sampled_from([1, 1, most])))))
        recent = st.integers(max(0, number - 8), number - 1)
        made.append(tuple(draw(st.lists(recent, min_size=count, max_size=count, unique=True))))
    return graph(made)


def hunt(history: History, first_bad: CommitId, bad: CommitId, good: CommitId) -> tuple[Outlook, int]:
    """Answer truthfully until it is known: what was found, and after how many tests that were no merge bases."""
    broken = {name for name in history if first_bad in reachable(history.__getitem__, [name])}
    goods, tests = [good], 0
    while (ahead := outlook(history.__getitem__, bad, goods)).state == "test":
        assert ahead.commit is not None
        tests += not ahead.is_merge_base
        if ahead.commit in broken:
            bad = ahead.commit
        else:
            goods.append(ahead.commit)
    return ahead, tests


# -- the choice


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 100, 1000])
def test_on_a_line_it_takes_no_more_than_the_logarithm(count: int) -> None:
    history = line(count + 1)
    names = list(history)
    bound = (count - 1).bit_length()
    ahead = outlook(history.__getitem__, names[-1], [names[0]])
    assert (ahead.left, ahead.steps, ahead.is_exact) == (count, bound, True)
    taken = []
    for first_bad in [*names[1:3], *names[3 :: 1 + count // 30], *names[1:][-2:]]:
        found, tests = hunt(history, first_bad, names[-1], names[0])
        assert (found.state, found.commit) == ("found", first_bad)
        taken.append(tests)
    assert max(taken) == bound


@given(histories(), st.data())
def test_in_any_history_the_first_bad_commit_is_found_within_the_bound(history: History, data: st.DataObject) -> None:
    names = list(history)
    bad = names[-1]
    good = data.draw(st.sampled_from(names[:-1]))
    known = reachable(history.__getitem__, [good])
    inside = span(history.__getitem__, bad, known)
    if bad in known:
        return
    first_bad = data.draw(st.sampled_from(list(inside)))
    found, tests = hunt(history, first_bad, bad, good)
    assert (found.state, found.commit, found.left) == ("found", first_bad, 1)
    count, bound = len(inside), 0
    while count > 1:  # see vcs.bisection.midpoint
        count, bound = min(count - 1, int(2 * count / 3 + 0.5)), bound + 1
    assert tests <= bound


@given(histories(most=4))
def test_the_chosen_commit_is_the_best_there_is(history: History) -> None:
    """Weights counted one by one, as nobody would for a large history."""
    names = list(history)
    found = span(history.__getitem__, names[-1], reachable(history.__getitem__, names[:1]))
    slow = {name: len(reachable(found.__getitem__, [name])) for name in found}
    assert dict(weights(found)) == slow
    chosen = choose(found)
    worth = {name: min(weight, len(found) - weight) for name, weight in slow.items()}
    if len(found) == 1:
        assert chosen is None
        return
    assert chosen is not None
    assert worth[chosen] == max(worth.values()) > 0
    assert len(left(found, chosen, True)) == slow[chosen]
    rest = left(found, chosen, False)
    assert set(rest) == set(found) - reachable(found.__getitem__, [chosen])
    assert all(set(parents) <= rest.keys() for parents in rest.values())


@given(histories())
def test_the_estimate_is_off_by_no_more_than_two(history: History) -> None:
    names = list(history)
    ahead = outlook(history.__getitem__, names[-1], [names[0]])
    most = worst(span(history.__getitem__, names[-1], {names[0]}))
    assert most <= ahead.steps + (0 if ahead.is_exact else 2)
    assert most >= ahead.steps


def worst(found: Span) -> int:
    """How many tests it takes if every verdict is the one that needs more of them."""
    commit = choose(found)
    return 0 if commit is None else 1 + max(worst(left(found, commit, is_bad)) for is_bad in (True, False))


@given(histories(), st.data())
def test_with_skips_what_is_said_is_true(history: History, data: st.DataObject) -> None:
    """Some commits cannot be tested. Either the first bad one is found, or it is among those that are named."""
    names = list(history)
    first_bad = data.draw(st.sampled_from(names[1:]))
    broken = {name for name in names if first_bad in reachable(history.__getitem__, [name])}
    stuck = data.draw(st.sets(st.sampled_from(names)))
    bad, goods, skipped = names[-1], [names[0]], set[CommitId]()
    if bad not in broken:
        return
    for _ in names:
        ahead = outlook(history.__getitem__, bad, goods, skipped)
        if ahead.state != "test":
            break
        assert ahead.commit is not None
        assert ahead.commit not in {bad, *goods, *skipped}
        if ahead.commit in stuck:
            skipped.add(ahead.commit)
        elif ahead.commit in broken:
            bad = ahead.commit
        else:
            goods.append(ahead.commit)
    if ahead.state == "found":
        assert ahead.commit == first_bad
    else:
        assert ahead.state == "skipped"
        assert first_bad in ahead.suspects
        assert set(ahead.suspects) <= skipped | {bad}


def test_a_commit_is_chosen_away_from_skipped_ones() -> None:
    """What is near one that cannot be tested can often not be tested either."""
    history = line(101)
    names = list(history)
    found = span(history.__getitem__, names[-1], {names[0]})
    skipped = {choose(found)}
    places = []
    while len(skipped) < 8:
        chosen = choose(found, skipped)  # type: ignore[arg-type]
        assert chosen is not None
        places.append(abs(names.index(chosen) - 50))
        skipped.add(chosen)
    assert len(set(places)) > 4
    assert max(places) > 20


def test_a_good_commit_on_another_branch_has_the_merge_base_tested() -> None:
    #      1 - 2 - 3   bad
    #  0 <
    #      4 - 5       good
    history = graph([(), (0,), (1,), (2,), (0,), (4,)])
    base, one, two, bad, _, good = history
    ahead = outlook(history.__getitem__, bad, [good])
    assert (ahead.state, ahead.commit, ahead.is_merge_base) == ("test", base, True)
    assert merge_bases(history.__getitem__, bad, good) == [base]
    ahead = outlook(history.__getitem__, bad, [good, base])
    assert (ahead.state, ahead.left, ahead.is_merge_base) == ("test", 3, False)
    assert ahead.commit in (one, two)
    ahead = outlook(history.__getitem__, bad, [good], {base})
    assert (ahead.state, ahead.is_merge_base) == ("test", False)
    with pytest.raises(Conflict, match="has been fixed since"):
        outlook(history.__getitem__, base, [good])
    with pytest.raises(Conflict, match="both good and bad"):
        outlook(history.__getitem__, bad, [bad])


def test_histories_that_have_nothing_in_common() -> None:
    """As for git, the good commit says nothing then."""
    history = graph([(), (0,), (), (2,)])
    names = list(history)
    ahead = outlook(history.__getitem__, names[1], [names[3]])
    assert (ahead.state, ahead.commit, ahead.left) == ("test", names[0], 2)


def test_a_merge_of_very_many_is_answered() -> None:
    """Each test rules out one of them, and the estimate is not made test by test."""
    count = 3000
    history = graph([(), *[(0,)] * count, tuple(range(1, count + 1))])
    names = list(history)
    ahead = outlook(history.__getitem__, names[-1], [names[0]])
    assert (ahead.left, ahead.is_exact) == (count + 1, False)
    assert ahead.steps >= count - 1


# -- next to git


@pytest.mark.parametrize("seed", range(6))
def test_the_chosen_commit_halves_no_worse_than_gits(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    with Store.create(tmp_path / "store") as store:
        history = write(store, [_parents(chance, number) for number in range(40)])
        names = list(history)
        git = ["git", "-C", str(store.path / "history.git")]
        for good in names[:20:5]:
            bad = names[-1]
            told = subprocess.run(
                [*git, "rev-list", "--bisect-vars", bad, f"^{good}"], capture_output=True, text=True, check=True
            ).stdout
            values = dict(one.split("=") for one in told.split())
            found = span(history.__getitem__, bad, reachable(history.__getitem__, [good]))
            assert len(found) == int(values["bisect_all"])
            chosen = choose(found)
            assert chosen is not None
            weight = dict(weights(found))[chosen]
            theirs = max(int(values["bisect_good"]), int(values["bisect_bad"]))
            assert max(weight, len(found) - weight) - 1 <= theirs
            bases = subprocess.run([*git, "merge-base", "--all", names[-2], good], capture_output=True, text=True)
            assert merge_bases(history.__getitem__, names[-2], good) == sorted(bases.stdout.split())


def _parents(chance: Random, number: int) -> tuple[int, ...]:
    others = {chance.randrange(max(0, number - 6), number)} if number and chance.random() < 0.4 else set()
    return tuple({number - 1, *others} if number else ())


def write(store: Store, parents: list[tuple[int, ...]]) -> dict[CommitId, tuple[CommitId, ...]]:
    """Commits of one root; `main` names the last."""
    made: dict[CommitId, tuple[CommitId, ...]] = {}
    with store.writing():
        with store.batch() as batch:
            top = root(batch, {"f": b"text"})
        for number, found in enumerate(parents):
            names = list(made)
            above = tuple(names[one] for one in found)
            commit = store.add_commit(top, {}, f"number {number}", AUTHOR, above)
            made[commit] = above
        store.history.move("refs/heads/main", commit, None, "made", AUTHOR)
    return made


# -- what is kept


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "store") as made:
        yield made


@pytest.fixture
def names(store: Store) -> list[CommitId]:
    return list(write(store, [(number - 1,) if number else () for number in range(9)]))


def test_verdicts_are_kept_and_the_last_one_on_a_commit_holds(store: Store, names: list[CommitId]) -> None:
    bisection = Bisection(store)
    assert bisection.start(names[8], [names[0]], AUTHOR, Words()).commit == names[4]
    assert bisection.mark("bad", [names[4]], AUTHOR, exit_code=1).commit == names[2]
    assert bisection.mark("skip", [names[2]], AUTHOR).commit in (names[1], names[3])
    again = Bisection(store)  # another process
    found = again.read()
    assert [(mark.verdict, mark.commit, mark.exit_code) for mark in found.marks] == [
        ("bad", names[8], None), ("good", names[0], None), ("bad", names[4], 1), ("skip", names[2], None)
    ]  # fmt: skip
    assert again.mark("good", [names[2]], AUTHOR).commit == names[3]
    assert again.mark("good", [names[4]], AUTHOR).commit == names[6]
    assert again.read().verdicts().bad == names[8]
    assert again.read().current == names[6]


def test_its_commits_are_kept_from_gc_until_reset(store: Store, names: list[CommitId]) -> None:
    bisection = Bisection(store)
    bisection.start(names[8], [names[0]], AUTHOR, Words())
    store.history.delete("refs/heads/main")
    store.operations.drop([one.id for one in store.operations.read()])
    collect(store, since=float("inf"))
    assert bisection.mark("bad", [names[4]], AUTHOR).state == "test"
    assert not check(store).problems
    assert set(store.history.refs(REFS)) == {names[0], names[4], names[8]}
    assert store.operations.read() == []
    assert bisection.reset()
    assert not bisection.reset()
    assert not store.history.refs(REFS)
    assert store.operations.read() == []
    collect(store, since=float("inf"))
    with Store.open(store.path) as again:
        assert not again.history.has(names[8])


def test_what_contradicts_itself_changes_nothing(store: Store, names: list[CommitId]) -> None:
    bisection = Bisection(store)
    with pytest.raises(NotFound):
        bisection.mark("bad", names[:1], AUTHOR)
    with pytest.raises(Conflict):
        bisection.start(names[0], [names[8]], AUTHOR, Words())
    with pytest.raises(NotFound):
        bisection.read()
    bisection.start(names[8], [names[0]], AUTHOR, Words())
    with pytest.raises(AlreadyExists):
        bisection.start(names[8], [names[0]], AUTHOR, Words())
    bisection.mark("good", names[3:4], AUTHOR)
    before = bisection.read()
    with pytest.raises(Conflict, match="fixed since"):
        bisection.mark("bad", names[2:3], AUTHOR)
    assert bisection.read() == before
    with bisection.running(), pytest.raises(Conflict, match="at work"):
        Bisection(store).mark("bad", names[4:5], AUTHOR)
    with bisection.running(), pytest.raises(Conflict, match="at work"):
        Bisection(store).reset()
    assert bisection.read() == before
    assert bisection.between(names[2], names[4]) == names[3:5]


def test_a_file_that_is_not_as_it_was_written_is_refused(store: Store, names: list[CommitId]) -> None:
    bisection = Bisection(store)
    bisection.start(names[8], [names[0]], AUTHOR, Words())
    path = store.path / notebook.FILE
    right = path.read_bytes()
    for data in (
        b"",
        right[:-1],
        right.replace(b'"good"', b'"fine"'),
        right[:40] + b"x" + right[41:],
        b"x" + right[1:],
    ):
        path.write_bytes(data)
        with pytest.raises(Corrupt):
            bisection.read()
        assert [problem.kind for problem in check(store).problems] == ["bisect"]
    path.write_bytes(right.replace(b"bisect 1", b"bisect 2"))
    with pytest.raises(UnknownFormat):
        bisection.read()
    assert bisection.reset()


def test_processes_at_the_same_time_lose_no_verdict(store: Store, names: list[CommitId]) -> None:
    Bisection(store).start(names[8], [names[0]], AUTHOR, Words())
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_skip, args=(store.path, name)) for name in names[1:8]]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert Bisection(store).read().verdicts().skipped == set(names[1:8])


def _skip(path: Path, name: CommitId) -> None:
    with Store.open(path) as store:
        Bisection(store).mark("skip", [name], AUTHOR)


STEPS: tuple[Callable[[Bisection, list[CommitId]], object], ...] = (
    lambda bisection, names: bisection.start(names[8], [names[0]], AUTHOR, Words()),
    lambda bisection, names: bisection.mark("bad", [names[4]], AUTHOR),
    lambda bisection, names: bisection.reset(),
)


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_killed_at_any_moment_it_is_as_before_or_after(tmp_path: Path, step: int) -> None:
    """And the next command takes away what was left behind."""
    path = tmp_path / "store"
    with Store.create(path) as store:
        names = list(write(store, [(number - 1,) if number else () for number in range(9)]))

    def work(begin: Callable[[], None]) -> None:
        with Store.open(path) as store:
            Bisection(store).reset()
            for earlier in STEPS[:step]:
                earlier(Bisection(store), names)
            begin()
            STEPS[step](Bisection(store), names)

    allowed = [["bad", "good", "bad"][:count] for count in {0: (0, 2), 1: (2, 3), 2: (3, 0)}[step]]
    seen = []
    for ended in killed_anywhere(work, tmp_path / "errors"):
        with Store.open(path) as store:
            found = notebook.load(path)
            seen.append([mark.verdict for mark in found.marks] if found else [])
            assert seen[-1] in allowed
            kept = set(store.history.refs(REFS))
            assert {mark.commit for mark in found.marks} <= kept if found else True
            assert all("has a reflog" in problem.message for problem in check(store).problems)
            if ended:
                assert seen[-1] == allowed[1]
            Bisection(store).reset()
            assert not check(store).problems
            assert not store.history.refs(REFS)
    assert allowed[0] in seen


def test_a_mark_of_a_newer_program_is_read() -> None:
    """Members that are not known are passed over; what changes their meaning gets another version."""
    import msgspec

    found = msgspec.json.decode(b'{"marks":[{"verdict":"bad","commit":"a","time":1,"more":2}]}', type=Notebook)
    assert found.marks == (Mark("bad", "a", 1),)
