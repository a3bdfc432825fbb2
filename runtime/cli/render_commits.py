"""Commits, for people (as `git log` shows them) and for programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from runtime.cli.output import Output
from runtime.cli.quoting import safe
from vcs.errors import TreeringError
from vcs.gitwords import trailer_values

if TYPE_CHECKING:
    from runtime.signing.verdict import Verdict
    from vcs.snapshot import CommitInfo
    from vcs.store import Store

SHORT = 12
"""How many digits of an id are shown."""

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

More = Callable[["CommitInfo"], Iterable[str]]
"""Further lines about a commit."""


@dataclass(frozen=True, slots=True)
class Decorations:
    """What others say of commits, by their ids."""

    names: Mapping[str, list[tuple[str, str]]]
    """(kind, name) of each branch and tag that is there."""
    note: Callable[[str], str | None]
    signature: Callable[[str], Verdict | None] | None = None
    """What a commit's signature is worth, None if it has none; not told at all if there is no such function."""


def decorations(store: Store, *, notes: bool = True, signatures: bool = False) -> Decorations:
    """Which branches and tags name which commit, which note it has, and what its signature is worth."""
    from vcs.notes import notes_of

    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for kind, refs in (("branch", store.branches()), ("tag", store.tags())):
        for name, commit in refs.items():
            found[commit].append((kind, name))

    def verdict(commit: str) -> Verdict | None:
        if b"\ngpgsig " not in store.history.raw(commit):
            return None
        from runtime.signing.verdict import Verdict, of_commit

        try:
            return of_commit(store, commit)
        except TreeringError as error:  # the commit is told all the same
            return Verdict("unchecked", words=str(error))

    return Decorations(
        found, notes_of(store.history).find if notes else lambda _: None, verdict if signatures else None
    )


def commit_fields(info: CommitInfo, names: Decorations) -> dict[str, Any]:
    """A commit for JSON."""
    refs = names.names.get(info.id, [])
    fields = {
        "commit": info.id,
        "parents": list(info.parents),
        "root": info.root.hex(),
        "author": {"name": info.author, "email": info.email},
        "date": moment(info.time, info.offset).isoformat(),
        "title": title(info.message),
        "message": info.message,
        "trailers": trailer_values(info.message),
        "branches": [name for kind, name in refs if kind == "branch"],
        "tags": [name for kind, name in refs if kind == "tag"],
        "note": names.note(info.id),
    }
    if names.signature is not None:
        verdict = names.signature(info.id)
        fields["signature"] = None if verdict is None else verdict_fields(verdict)
    return fields


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """What a signature is worth, for JSON."""
    return {
        "worth": verdict.worth, "principal": verdict.principal, "key": verdict.key, "reason": verdict.words or None,
    }  # fmt: skip


def verdict_text(verdict: Verdict) -> str:
    """The same for people: `good, by ada@example.org, ED25519 SHA256:...`."""
    whose = f"by {verdict.principal}" if verdict.principal else ""
    return safe(", ".join(filter(None, (verdict.worth, whose, verdict.key, verdict.words))))


def oneline(output: Output, info: CommitInfo, names: Decorations) -> str:
    """A commit on one line."""
    return f"{output.paint(info.id[:SHORT], 'yellow')}{_decoration(output, info, names)} {title(info.message)}"


def write_oneline(output: Output, commits: Iterable[CommitInfo], names: Decorations, more: More | None = None) -> None:
    """A line for each commit, and what there is more to say of it."""
    for info in commits:
        output.line(oneline(output, info, names))
        for line in more(info) if more else ():
            output.line(line)


def commit_lines(output: Output, info: CommitInfo, names: Decorations) -> Iterator[str]:
    """A commit's header, its message, and the note on it."""
    yield f"{output.paint(f'commit {info.id}', 'yellow')}{_decoration(output, info, names)}"
    if len(info.parents) > 1:
        yield "Merge:  " + " ".join(parent[:SHORT] for parent in info.parents)
    if names.signature is not None and (verdict := names.signature(info.id)) is not None:
        yield f"Signature: {output.paint(verdict_text(verdict), 'green' if verdict.worth == 'good' else 'red')}"
    yield f"Author: {safe(info.author)} <{safe(info.email)}>"
    yield f"Date:   {date_text(info.time, info.offset)}"
    yield ""
    for line in info.message.rstrip("\n").split("\n"):
        yield f"    {safe(line)}".rstrip()
    note = names.note(info.id)
    if note is not None:
        yield ""
        yield "Notes:"
        for line in note.rstrip("\n").split("\n"):
            yield f"    {safe(line)}".rstrip()


def write_commit(output: Output, info: CommitInfo, names: Decorations) -> None:
    """A commit's header and message."""
    for line in commit_lines(output, info, names):
        output.line(line)


def write_log(output: Output, commits: Iterable[CommitInfo], names: Decorations, more: More | None = None) -> None:
    """Each commit's header and message, and what there is more to say of it, with an empty line between them."""
    for number, info in enumerate(commits):
        if number:
            output.line()
        write_commit(output, info, names)
        lines = list(more(info)) if more else []
        for line in ["", *lines] if lines else []:
            output.line(line)


def _decoration(output: Output, info: CommitInfo, names: Decorations) -> str:
    refs = names.names.get(info.id)
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
