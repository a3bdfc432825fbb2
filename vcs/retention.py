"""Which commits to keep of a branch: the rules of `restic forget`, as a pure function.

Commits come newest first. For each rule "the last N hours (days, weeks, months, years)", the newest commit of an hour
that has one is kept, for the N newest such hours; what is kept by one rule is kept. An hour is that of the clock where
the commit was made, a week that of ISO 8601. While a rule has some of its N left, it keeps the oldest commit too, so
that a history which is shorter than the rule does not lose its beginning.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase

from vcs.errors import BadInput
from vcs.model import CommitId

_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)d)?(?:(\d+)h)?", re.ASCII)
_NEWEST = "newest of the branch"


@dataclass(frozen=True, slots=True)
class Duration:
    """A span of time in a calendar's units."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    @classmethod
    def parse(cls, text: str) -> Duration:
        """From `2y5m7d3h`: years, months, days and hours, in this order, any of them left out. BadInput.

        >>> Duration.parse("1y6m")
        Duration(years=1, months=6, days=0, hours=0)
        """
        match = _DURATION.fullmatch(text)
        if not match or not text:
            raise BadInput(f"{text!r} is no duration: write it as 2y5m7d3h", duration=text)
        return cls(*(int(number or 0) for number in match.groups()))

    def before(self, moment: datetime) -> datetime:
        """This long before a moment: the same day of an earlier month, or that month's last. The year 1 at worst."""
        months = moment.year * 12 + moment.month - 1 - self.years * 12 - self.months
        year, month = divmod(months, 12)
        if year < 1:
            return datetime.min.replace(tzinfo=moment.tzinfo)
        day = min(moment.day, calendar.monthrange(year, month + 1)[1])
        try:
            return moment.replace(year=year, month=month + 1, day=day) - timedelta(days=self.days, hours=self.hours)
        except OverflowError:
            return datetime.min.replace(tzinfo=moment.tzinfo)

    def __str__(self) -> str:
        numbers = ((self.years, "y"), (self.months, "m"), (self.days, "d"), (self.hours, "h"))
        return "".join(f"{number}{unit}" for number, unit in numbers if number) or "0h"


@dataclass(frozen=True, slots=True)
class Rules:
    """How much to keep; 0 for a rule that is not used."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Duration | None = None
    """What is younger than the newest commit by less than this."""
    tags: tuple[str, ...] = ()
    """Patterns (fnmatch(3)): what has a tag that matches one."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be kept."""
        return self == Rules()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A commit of a branch: seconds since 1970, minutes east of UTC, the names of its tags."""

    id: CommitId
    time: int
    offset: int = 0
    tags: tuple[str, ...] = ()

    @property
    def moment(self) -> datetime:
        """When it was made, by the clock there; the nearest that a calendar has."""
        zone = timezone(timedelta(minutes=max(-1439, min(1439, self.offset))))
        try:
            return datetime.fromtimestamp(self.time, zone)
        except (OverflowError, OSError, ValueError):
            return (datetime.max if self.time > 0 else datetime.min).replace(tzinfo=zone)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a commit is kept; it is forgotten if there is no reason."""

    commit: CommitId
    reasons: tuple[str, ...]


_PERIODS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "hourly": lambda moment: (moment.year, moment.month, moment.day, moment.hour),
    "daily": lambda moment: (moment.year, moment.month, moment.day),
    "weekly": lambda moment: tuple(moment.isocalendar()[:2]),
    "monthly": lambda moment: (moment.year, moment.month),
    "yearly": lambda moment: (moment.year,),
}


def judge(commits: Sequence[Candidate], rules: Rules) -> list[Verdict]:
    """What to keep of a branch's commits, the newest first; in the same order. The first is kept in any case."""
    reasons: dict[CommitId, list[str]] = {commit.id: [] for commit in commits}
    for commit in commits[:1]:
        reasons[commit.id].append(_NEWEST)
    for commit in commits[: rules.last]:
        reasons[commit.id].append("last")
    # A clock may have been wrong, so the branch's order need not be that of time.
    by_time = sorted(commits, key=lambda commit: -commit.time)
    for name, period in _PERIODS.items():
        for commit, reason in _newest_of_each(by_time, name, period, getattr(rules, name)):
            reasons[commit.id].append(reason)
    if rules.within is not None and by_time:
        limit = rules.within.before(by_time[0].moment)
        for commit in by_time:
            if commit.moment > limit:
                reasons[commit.id].append(f"within {rules.within}")
    for commit in commits:
        reasons[commit.id] += [f"tag {tag}" for tag in commit.tags if _matches(tag, rules.tags)]
    return [Verdict(commit.id, tuple(reasons[commit.id])) for commit in commits]


def _newest_of_each(
    by_time: Sequence[Candidate], name: str, period: Callable[[datetime], tuple[int, ...]], count: int
) -> list[tuple[Candidate, str]]:
    """The newest commit of each of the `count` newest periods that have one."""
    found: list[tuple[Candidate, str]] = []
    last: tuple[int, ...] | None = None
    for commit in by_time:
        if len(found) == count:
            return found
        this = period(commit.moment)
        if this != last:
            found.append((commit, name))
        last = this
    if by_time and len(found) < count and found[-1][0] is not by_time[-1]:
        found.append((by_time[-1], f"oldest {name}"))
    return found


def _matches(tag: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(tag, pattern) for pattern in patterns)
