"""The rules of retention: those of restic, which a plain copy of its loop stands for here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcs.errors import BadInput
from vcs.model import CommitId
from vcs.retention import Candidate, Duration, Rules, judge

DAY = 86_400
START = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp())

counts = st.integers(0, 5)
rules = st.builds(
    Rules, counts, counts, counts, counts, counts, counts,
    st.none() | st.builds(Duration, st.integers(0, 2), st.integers(0, 14), st.integers(0, 40), st.integers(0, 50)),
    st.lists(st.sampled_from(["v*", "v1", "nightly"]), max_size=2).map(tuple),
)  # fmt: skip
times = st.integers(START - 900 * DAY, START)
"""Seconds; many of them in one hour, day or month."""
moments = st.lists(
    st.tuples(
        times | st.builds(lambda day, second: START - day * DAY - second, st.integers(0, 20), st.integers(0, 7200)),
        st.sampled_from([-660, 0, 60, 345]),
        st.lists(st.sampled_from(["v1", "v2", "nightly", "other"]), max_size=2, unique=True).map(tuple),
    ),
    max_size=40,
)


def candidates(found: list[tuple[int, int, tuple[str, ...]]]) -> list[Candidate]:
    """Commits in the order of time, newest first."""
    ordered = sorted(found, key=lambda one: -one[0])
    return [Candidate(CommitId(f"{number:040x}"), *one) for number, one in enumerate(ordered)]


def restic(commits: list[Candidate], rules: Rules) -> set[CommitId]:
    """ApplyPolicy of restic (snapshot_policy.go), in Python."""
    buckets: list[list[Any]] = [
        [rules.last, lambda _, number: number, None],
        [rules.hourly, lambda at, _: (at.year, at.month, at.day, at.hour), None],
        [rules.daily, lambda at, _: (at.year, at.month, at.day), None],
        [rules.weekly, lambda at, _: at.isocalendar()[:2], None],
        [rules.monthly, lambda at, _: (at.year, at.month), None],
        [rules.yearly, lambda at, _: at.year, None],
    ]
    kept = set()
    for number, commit in enumerate(commits):
        keep = any(fnmatchcase(tag, pattern) for tag in commit.tags for pattern in rules.tags)
        if rules.within is not None and commit.moment > rules.within.before(commits[0].moment):
            keep = True
        for bucket in buckets:
            count, period, last = bucket
            value = period(commit.moment, number)
            if count > 0 and (value != last or number == len(commits) - 1):
                keep = True
                bucket[2] = value
                bucket[0] -= 1
        if keep:
            kept.add(commit.id)
    return kept


@given(moments, rules)
def test_what_restic_keeps_is_kept(found: list[tuple[int, int, tuple[str, ...]]], rules: Rules) -> None:
    commits = candidates(found)
    kept = {verdict.commit for verdict in judge(commits, rules) if verdict.reasons}
    assert kept == restic(commits, rules) | {commit.id for commit in commits[:1]}


@given(moments, rules, rules)
def test_rules_are_united(found: list[tuple[int, int, tuple[str, ...]]], one: Rules, other: Rules) -> None:
    """More rules never keep less, and the same commits judged again by the same rules are all kept."""
    commits = candidates(found)

    def kept(rules: Rules, of: list[Candidate] = commits) -> set[CommitId]:
        return {verdict.commit for verdict in judge(of, rules) if verdict.reasons}

    both = Rules(
        **{name: max(getattr(one, name), getattr(other, name))
           for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")},
        within=one.within, tags=one.tags + other.tags,
    )  # fmt: skip
    assert kept(one) <= kept(both)
    again = [commit for commit in commits if commit.id in kept(one)]
    assert kept(one, again) == kept(one)


@given(moments.flatmap(st.permutations), rules)
def test_a_wrong_clock_leaves_the_order_and_keeps_the_newest(
    found: list[tuple[int, int, tuple[str, ...]]], rules: Rules
) -> None:
    """The order of a branch need not be that of time. Every commit is judged, in its place, and the tip is kept."""
    commits = [Candidate(CommitId(f"{number:040x}"), *one) for number, one in enumerate(found)]
    verdicts = judge(commits, rules)
    assert [verdict.commit for verdict in verdicts] == [commit.id for commit in commits]
    assert all(verdict.reasons for verdict in verdicts[: max(1, rules.last)])


def at(*days: float, **more: object) -> list[Candidate]:
    return [Candidate(CommitId(f"{number:040x}"), int(START - day * DAY)) for number, day in enumerate(days)]


def reasons(commits: list[Candidate], rules: Rules) -> list[str]:
    return [", ".join(verdict.reasons) for verdict in judge(commits, rules)]


def test_reasons_are_told() -> None:
    commits = at(0, 0.01, 1, 2, 3)
    assert reasons(commits, Rules(last=2, daily=3)) == [
        "newest of the branch, last, daily",
        "last",
        "daily",
        "daily",
        "",
    ]


def test_a_history_shorter_than_a_rule_keeps_its_beginning() -> None:
    commits = at(0, 0.1, 0.2)
    assert reasons(commits, Rules(daily=7)) == ["newest of the branch, daily", "", "oldest daily"]
    assert reasons(commits, Rules(daily=1)) == ["newest of the branch, daily", "", ""]


def test_a_day_is_that_of_the_place_where_the_commit_was_made() -> None:
    midnight = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
    here = [
        Candidate(CommitId("a"), midnight + 60),
        Candidate(CommitId("b"), midnight - 60),
        Candidate(CommitId("c"), 0),
    ]
    east = [Candidate(commit.id, commit.time, 120) for commit in here]
    assert [bool(text) for text in reasons(here, Rules(daily=2))] == [True, True, False]
    assert [bool(text) for text in reasons(east, Rules(daily=2))] == [True, False, True]


def test_within_is_counted_from_the_newest_commit() -> None:
    assert reasons(at(0, 1, 2, 3), Rules(within=Duration(days=2))) == [
        "newest of the branch, within 2d", "within 2d", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "duration"), [
    ("2y5m7d3h", Duration(2, 5, 7, 3)), ("1m", Duration(months=1)), ("36h", Duration(hours=36)), ("0d", Duration()),
])  # fmt: skip
def test_durations(text: str, duration: Duration) -> None:
    assert Duration.parse(text) == duration


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1h2d", "1w", "1.5d", "1d ", "٣d"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(BadInput):
        Duration.parse(text)


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_duration_may_be_longer_than_the_calendar(years: int, months: int, days: int, hours: int) -> None:
    commits = at(0, 1)
    assert Duration(years, months, days, hours).before(commits[0].moment) <= commits[0].moment


def test_the_same_day_of_an_earlier_month_or_its_last() -> None:
    assert Duration(months=1).before(datetime(2026, 3, 31, tzinfo=UTC)) == datetime(2026, 2, 28, tzinfo=UTC)
    assert Duration(years=1, days=1).before(datetime(2024, 2, 29, tzinfo=UTC)) == datetime(2023, 2, 27, tzinfo=UTC)


def test_a_time_beyond_the_calendar_is_its_end() -> None:
    far = Candidate(CommitId("a"), 1 << 62, 10**6)
    assert far.moment.year == 9999
    assert far.moment.utcoffset() == timedelta(minutes=1439)
    assert judge([far, Candidate(CommitId("b"), -(1 << 62))], Rules(within=Duration(days=1), weekly=1))[0].reasons
