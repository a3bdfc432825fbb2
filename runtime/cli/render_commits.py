"""Commits, for people (as `git log` shows them) and for programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from runtime.cli.output import Output
from runtime.cli.quoting import safe
from vcs.gitwords import trailers

if TYPE_CHECKING:
    from vcs.snapshot import CommitInfo
    from vcs.store import Store

SHORT = 12
"""How many digits of an id are shown."""

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Decorations = Mapping[str, list[tuple[str, str]]]
"""Commit id -> (kind, name) of each branch and tag that is there."""


def decorations(store: Store) -> Decorations:
    """Which branches and tags name which commit."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for kind, refs in (("branch", store.branches()), ("tag", store.tags())):
        for name, commit in refs.items():
            found[commit].append((kind, name))
    return found


def commit_fields(info: CommitInfo, names: Decorations) -> dict[str, Any]:
    """A commit for JSON."""
    refs = names.get(info.id, [])
    return {
        "commit": info.id,
        "parents": list(info.parents),
        "root": info.root.hex(),
        "author": {"name": info.author, "email": info.email},
        "date": moment(info.time, info.offset).isoformat(),
        "title": title(info.message),
        "message": info.message,
        "trailers": dict(trailers(info.message)),
        "branches": [name for kind, name in refs if kind == "branch"],
        "tags": [name for kind, name in refs if kind == "tag"],
    }


def oneline(output: Output, info: CommitInfo, names: Decorations) -> str:
    """A commit on one line."""
    return f"{output.paint(info.id[:SHORT], 'yellow')}{_decoration(output, info, names)} {title(info.message)}"


def write_oneline(output: Output, commits: Iterable[CommitInfo], names: Decorations) -> None:
    """A line for each commit."""
    for info in commits:
        output.line(oneline(output, info, names))


def commit_lines(output: Output, info: CommitInfo, names: Decorations) -> Iterator[str]:
    """A commit's header and message."""
    yield f"{output.paint(f'commit {info.id}', 'yellow')}{_decoration(output, info, names)}"
    if len(info.parents) > 1:
        yield "Merge:  " + " ".join(parent[:SHORT] for parent in info.parents)
    yield f"Author: {safe(info.author)} <{safe(info.email)}>"
    yield f"Date:   {date_text(info.time, info.offset)}"
    yield ""
    for line in info.message.rstrip("\n").split("\n"):
        yield f"    {safe(line)}".rstrip()


def write_commit(output: Output, info: CommitInfo, names: Decorations) -> None:
    """A commit's header and message."""
    for line in commit_lines(output, info, names):
        output.line(line)


def write_log(output: Output, commits: Iterable[CommitInfo], names: Decorations) -> None:
    """Each commit's header and message, with an empty line between them."""
    for number, info in enumerate(commits):
        if number:
            output.line()
        write_commit(output, info, names)


def _decoration(output: Output, info: CommitInfo, names: Decorations) -> str:
    refs = names.get(info.id)
    if not refs:
        return ""
    parts = [
        output.paint(name, "green") if kind == "branch" else output.paint(f"tag: {name}", "yellow")
        for kind, name in refs
    ]
    return f" ({', '.join(parts)})"


def title(message: str) -> str:
    """A message's first line."""
    return safe(message.strip().partition("\n")[0])


def moment(seconds: int, offset: int) -> datetime:
    """A commit's time in its own zone."""
    return datetime.fromtimestamp(seconds, timezone(timedelta(minutes=offset)))


def date_text(seconds: int, offset: int) -> str:
    """As git writes it, in English wherever we are: `Thu Nov 23 21:04:54 2023 +0100`."""
    when = moment(seconds, offset)
    day, month = _DAYS[when.weekday()], _MONTHS[when.month - 1]
    return f"{day} {month} {when.day} {when:%H:%M:%S} {when.year} {when:%z}"
