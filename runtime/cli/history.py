"""log, show."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import PathVerb, revision_argument, verb
from runtime.cli.output import count_text, size_text
from runtime.cli.pager import paged
from runtime.cli.quoting import safe
from runtime.cli.render_commits import commit_fields, decorations, write_commit, write_log, write_oneline
from vcs.errors import BadInput
from vcs.model import CommitId, type_name
from vcs.snapshot import resolve_parents

if TYPE_CHECKING:
    from runtime.cli.compare import Comparison
    from runtime.cli.output import Output
    from runtime.packages.report import PackageReport
    from vcs.snapshot import CommitInfo


@verb("log", data=True, cls=PathVerb, past=True)
@revision_argument("arguments", nargs=-1, metavar="[REV]... [[--] PATH...]")
@click.option("-n", "--max-count", "limit", type=click.IntRange(min=0), metavar="NUMBER", help="At most so many.")
@click.option("--oneline", is_flag=True, help="A line for each commit.")
@click.option("--graph", is_flag=True, help="Draw beside them which commit has which parents.")
@click.option("--since", metavar="TIME", help="Committed since then: 2026-11-01, 2h (ago), @SECONDS since 1970.")
@click.option("--until", metavar="TIME", help="Committed until then.")
@click.option("--grep", "message", metavar="REGEX", help="What the message says.")
@click.option("--author", metavar="REGEX", help="Who made it: found in `NAME <EMAIL>`.")
@click.option(
    "-S", "content", metavar="CONTENT", help="A file with this content, REV:PATH or a BLAKE3 digest, came or went."
)
@click.option("--show-signature", "signatures", is_flag=True, help="Check signatures, and tell what they are worth.")
@click.option("--notes/--no-notes", default=True, help="Tell the notes on commits, or do not.")
@click.option("--packages", is_flag=True, help="Which packages came (+), went (-) and changed (~) with each.")
@click.pass_context
def log(
    context: click.Context,
    invocation: Invocation,
    arguments: tuple[str, ...],
    limit: int | None,
    oneline: bool,
    graph: bool,
    since: str | None,
    until: str | None,
    message: str | None,
    author: str | None,
    content: str | None,
    signatures: bool,
    notes: bool,
    packages: bool,
) -> None:
    """List commits, newest first.

    REV is a branch, a tag, a container, or anything else in git's syntax (`main~2`, `main@{yesterday}`); without one,
    every branch and tag is followed. `A..B` lists what B has and A has not. With PATHs, only commits that changed
    something at or below one of them, attributes included; a merge changed what it has otherwise than each of its
    parents. The digest for -S is the one that `ls --format json` tells.

    --packages compares each commit with its first parent, and says nothing of a first commit.

    \b
    Example:
      treering log nginx
      treering log --oneline -n 5
      treering log main..nginx
      treering log --graph --oneline nginx -- /etc
      treering log -S nginx:/etc/passwd
      treering log --oneline --packages nginx
    """
    from runtime.cli.times import point
    from vcs.commitlog import Wanted, lineage
    from vcs.commitlog import log as log_of

    if graph and packages:
        raise click.UsageError("--graph and --packages exclude one another")
    store, output = invocation.store, invocation.output
    revisions, paths = _sort_arguments(arguments, context.meta.get("after_dashes", []))
    names = decorations(store, notes=notes, signatures=signatures)
    include, exclude = _ends(invocation, revisions) if revisions else ([CommitId(commit) for commit in names.names], [])
    wanted = Wanted(
        _both_ways(invocation, include, paths),
        None if since is None else point(since, "--since"),
        None if until is None else point(until, "--until"),
        None if message is None else _regex(message, "--grep"),
        None if author is None else _regex(author, "--author"),
        None if content is None else _content(invocation, content),
    )
    with paged(output, wanted=invocation.use_pager):
        if graph and output.is_table:
            from runtime.cli.graph import write_graph

            write_graph(output, islice(lineage(store, include, exclude, wanted), limit), names, short=oneline)
            return
        told = _Packages(invocation) if packages else None
        output.rows(
            islice(log_of(store, include, exclude, wanted), limit),
            lambda info: commit_fields(info, names) | (told.fields(info) if told else {}),
            lambda rows: (write_oneline if oneline else write_log)(output, rows, names, told.lines if told else None),
        )
    if told:
        told.tell_notes()


class _Packages:
    """The packages that differ between commits and their first parents."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._notes: dict[str, None] = {}

    def fields(self, info: CommitInfo) -> dict[str, Any]:
        """For JSON."""
        from runtime.cli.render_packages import report_fields

        report = self._report(info)
        return {"packages": None if report is None else report_fields(report)}

    def lines(self, info: CommitInfo) -> Iterator[str]:
        """For people."""
        from runtime.cli.render_packages import package_lines

        report = self._report(info)
        return iter(()) if report is None else package_lines(self._invocation.output, report.changes)

    def tell_notes(self) -> None:
        """Warn, once, of what could not be understood."""
        from runtime.cli.render_packages import tell_notes

        self._invocation.output.flush()
        tell_notes(list(self._notes))

    def _report(self, info: CommitInfo) -> PackageReport | None:
        from runtime.cli.compare import Comparison

        if not info.parents:
            return None
        report = Comparison.against_parent(self._invocation.store, info).packages()
        self._notes |= dict.fromkeys(report.notes)
        return report


def _sort_arguments(arguments: Sequence[str], after_dashes: Sequence[str]) -> tuple[list[str], list[bytes]]:
    """Which are revisions and which are paths: those that begin with a slash, and what follows `--`."""
    paths = [text for text in arguments if text.startswith("/")]
    return [text for text in arguments if text not in paths], [os.fsencode(path) for path in (*paths, *after_dashes)]


def _both_ways(invocation: Invocation, include: Sequence[CommitId], paths: Sequence[bytes]) -> tuple[bytes, ...]:
    """The paths as they are, and with the symbolic links above them followed as they are in the newest commit: who
    asks for /bin/ls means /usr/bin/ls, where /bin leads there."""
    from vcs.commitlog import log as log_of

    newest = next(log_of(invocation.store, include), None) if paths else None
    if newest is None:
        return tuple(paths)
    snapshot = invocation.store.snapshot(newest.root)
    return tuple(dict.fromkeys([*paths, *(resolve_parents(snapshot, path) for path in paths)]))


def _regex(text: str, option: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise click.BadParameter(f"{text!r} is no regular expression: {error}", param_hint=option) from None


def _content(invocation: Invocation, text: str) -> bytes:
    from vcs.commitlog import content_of

    if re.fullmatch("[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    if ":" not in text:
        raise click.BadParameter(f"{text!r} is no content: write REV:PATH, or 64 hexadecimal digits", param_hint="-S")
    snapshot, path = invocation.open_place(text)
    entry = snapshot.lookup(snapshot.resolve(path))
    found = content_of(entry)
    if found is None:
        raise BadInput(f"{text!r} is not a file but a {type_name(entry)}: it has no content to look for", place=text)
    return found


def _ends(invocation: Invocation, revisions: Sequence[str]) -> tuple[list[CommitId], list[CommitId]]:
    include, exclude = [], []
    for revision in revisions:
        start, dots, end = revision.partition("..")
        if dots:
            exclude.append(invocation.commit(start))
        include.append(invocation.commit(end if dots else revision))
    return include, exclude


@verb("show", data=True, past=True)
@revision_argument()
@click.option("--stat", is_flag=True, help="How many lines changed in each file.")
@click.option("-p", "--patch", is_flag=True, help="The changed lines of each text.")
@click.option("--packages", is_flag=True, help="Which packages came, went and changed.")
@click.option("--notes/--no-notes", default=True, help="Tell the note on it, or do not.")
def show(invocation: Invocation, revision: str, stat: bool, patch: bool, packages: bool, notes: bool) -> None:
    """Show a commit and what it changed.

    The changes are those against its first parent: A added, M modified, D deleted, R renamed, T of another type. If it
    is signed, its signature is checked, and you are told what it is worth (docs/signatures.md).

    \b
    Example:
      treering show nginx
      treering show --stat main~1
    """
    from runtime.cli.compare import Comparison, write_comparison
    from runtime.cli.render_changes import change_fields
    from vcs.profiles import profile_path, profile_size

    store, output = invocation.store, invocation.output
    info = store.commit(invocation.commit(revision))
    config = store.history.config(info.id)
    names = decorations(store, notes=notes, signatures=True)
    comparison = Comparison.against_parent(store, info) if info.parents else None
    if not output.is_table:
        changes = comparison.changes() if comparison else None
        listed = None if changes is None else [change_fields(change) for change in changes]
        held = profile_size(profile_path(store.caches, info.root))
        value = {**commit_fields(info, names), "config": config, "start_profile": held, "changes": listed}
        if packages:
            value["packages"] = _package_changes(comparison)
        output.value(value)
        return
    with paged(output, wanted=invocation.use_pager):
        write_commit(output, info, names)
        output.line()
        for line in _facts(invocation, info, config):
            output.line(line)
        if comparison and packages:
            _write_package_changes(output, comparison)
        elif comparison:
            changes = comparison.changes()
            if changes:
                output.line()
            write_comparison(output, comparison, changes, stat=stat, patch=patch)


def _package_changes(comparison: Comparison | None) -> list[dict[str, Any]] | None:
    from runtime.cli.render_packages import report_fields

    return report_fields(comparison.packages()) if comparison else None


def _write_package_changes(output: Output, comparison: Comparison) -> None:
    from runtime.cli.render_packages import write_report

    report = comparison.packages()
    if report:
        output.line()
    write_report(output, report)


def _facts(invocation: Invocation, info: CommitInfo, config: dict[str, Any]) -> list[str]:
    from vcs.model import Tree
    from vcs.profiles import profile_path, profile_size

    content = invocation.store.snapshot(info.root).root.content
    assert isinstance(content, Tree)
    lines = [
        f"Root:        {info.root.hex()}",
        f"Holds:       {count_text(content.entries, 'entry', 'entries')}, {size_text(content.size)}",
    ]
    section = config.get("config") or {}
    for key in ("Entrypoint", "Cmd", "User", "WorkingDir", "Env", "Labels"):
        value = section.get(key)
        if value:
            lines.append(f"{key + ':':<13}{safe(_text(value))}")
    held = profile_size(profile_path(invocation.store.caches, info.root))
    if held is not None:
        lines.append(f"Starts with: {size_text(held)} in its start profile")
    return lines


def _text(value: Any) -> str:
    import shlex

    if isinstance(value, list):
        return shlex.join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={text}" for key, text in value.items())
    return str(value)


VERBS: dict[str, click.Command] = {"log": log, "show": show}
