"""log, show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import revision_argument, verb
from runtime.cli.output import count_text, size_text
from runtime.cli.pager import paged
from runtime.cli.quoting import safe
from runtime.cli.render_commits import commit_fields, decorations, write_commit, write_log, write_oneline

if TYPE_CHECKING:
    from runtime.cli.compare import Comparison
    from runtime.cli.output import Output
    from vcs.model import CommitId
    from vcs.snapshot import CommitInfo


@verb("log", data=True)
@revision_argument("revisions", nargs=-1, metavar="[REV]...")
@click.option("-n", "--max-count", "limit", type=click.IntRange(min=0), metavar="NUMBER", help="At most so many.")
@click.option("--oneline", is_flag=True, help="A line for each commit.")
def log(invocation: Invocation, revisions: tuple[str, ...], limit: int | None, oneline: bool) -> None:
    """List commits, newest first.

    REV is a branch, a tag, a container, or anything else in git's syntax (`main~2`, `main@{yesterday}`); without one,
    every branch and tag is followed. `A..B` lists what B has and A has not.

    \b
    Example:
      treering log nginx
      treering log --oneline -n 5
      treering log main..nginx
    """
    store, output = invocation.store, invocation.output
    names = decorations(store)
    include, exclude = _ends(invocation, revisions)
    commits = store.history.log(include, limit, exclude)
    with paged(output, wanted=invocation.use_pager):
        output.rows(
            commits,
            lambda info: commit_fields(info, names),
            lambda rows: (write_oneline if oneline else write_log)(output, rows, names),
        )


def _ends(invocation: Invocation, revisions: tuple[str, ...]) -> tuple[list[CommitId], list[CommitId]]:
    if not revisions:
        store = invocation.store
        return list({*store.branches().values(), *store.tags().values()}), []
    include, exclude = [], []
    for revision in revisions:
        start, dots, end = revision.partition("..")
        if dots:
            exclude.append(invocation.commit(start))
        include.append(invocation.commit(end if dots else revision))
    return include, exclude


@verb("show", data=True)
@revision_argument()
@click.option("--stat", is_flag=True, help="How many lines changed in each file.")
@click.option("-p", "--patch", is_flag=True, help="The changed lines of each text.")
@click.option("--packages", is_flag=True, help="Which packages came, went and changed.")
def show(invocation: Invocation, revision: str, stat: bool, patch: bool, packages: bool) -> None:
    """Show a commit and what it changed.

    The changes are those against its first parent: A added, M modified, D deleted, R renamed, T of another type.

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
    names = decorations(store)
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
