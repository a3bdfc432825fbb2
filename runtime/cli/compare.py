"""diff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import PathVerb, revision_argument, verb
from runtime.cli.output import Output
from runtime.cli.pager import paged
from runtime.cli.render_changes import (
    change_fields,
    line_counts,
    write_changes,
    write_names,
    write_patches,
    write_stat,
)
from vcs.diff import Change, diff
from vcs.errors import NotFound
from vcs.snapshot import CommitInfo, Snapshot
from vcs.store import Store

_KEEP = 64 << 20
"""Bytes of a container's new files that are held in memory to count and show their lines."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two roots that are compared."""

    old: Snapshot
    new: Snapshot

    @classmethod
    def against_parent(cls, store: Store, info: CommitInfo) -> Comparison:
        """What a commit changed."""
        return cls(store.snapshot_of(info.parents[0]), store.snapshot(info.root))

    def changes(self, paths: Sequence[bytes] = (), renames: bool = True) -> list[Change]:
        """The changes, those at or below `paths` if there are any."""
        return diff(self.old, self.new, paths, renames)


def write_comparison(
    output: Output, comparison: Comparison, changes: Sequence[Change], *, stat: bool = False, patch: bool = False
) -> None:
    """Changes, for people."""
    if stat:
        write_stat(output, changes, comparison.old, comparison.new)
    if patch:
        write_patches(output, changes, comparison.old, comparison.new)
    if not stat and not patch:
        write_changes(output, changes)


@verb("diff", data=True, cls=PathVerb)
@revision_argument("arguments", nargs=-1, required=True, metavar="REV [REV] [[--] PATH...]")
@click.option("--stat", is_flag=True, help="How many lines changed in each file.")
@click.option("-p", "--patch", is_flag=True, help="The changed lines of each text.")
@click.option("--name-status", is_flag=True, help="Letter and path, as git writes them.")
@click.option("--name-only", is_flag=True, help="Paths only.")
@click.option("-z", "zero", is_flag=True, help="With the names: end each field with a NUL, and quote nothing.")
@click.option("--no-renames", is_flag=True, help="A renamed file is a deleted and an added one.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@click.pass_context
def diff_verb(
    context: click.Context,
    invocation: Invocation,
    arguments: tuple[str, ...],
    stat: bool,
    patch: bool,
    name_status: bool,
    name_only: bool,
    zero: bool,
    no_renames: bool,
    exit_code: bool,
) -> int:
    """Show what differs between two commits.

    `diff A B` and `diff A..B` show what happened from A to B. With one REV: if it is a container's name, what changed
    in the container since its last commit; otherwise, what the commit changed. With PATHs, only what is at or below one
    of them.

    Letters: A added, M modified, D deleted, R renamed, T of another type.

    \b
    Example:
      treering diff main nginx
      treering diff --stat main..nginx /etc
      treering diff web
      treering diff --exit-code v1 v2 && echo the same
    """
    revisions, paths = _sort_arguments(invocation, arguments, context.meta.get("after_dashes", []))
    comparison = _comparison(invocation, revisions)
    changes = comparison.changes(paths, not no_renames)
    output = invocation.output
    with paged(output, wanted=invocation.use_pager and not zero):
        if not output.is_table:
            output.rows(changes, lambda change: _fields(change, comparison, stat), lambda _: None)
        elif name_status or name_only or zero:
            write_names(output, changes, not name_only, zero)
        else:
            write_comparison(output, comparison, changes, stat=stat, patch=patch)
    return 1 if exit_code and changes else 0


def _fields(change: Change, comparison: Comparison, stat: bool) -> dict[str, object]:
    fields = change_fields(change)
    if stat:
        lines = line_counts(change, comparison.old, comparison.new)
        fields |= {"insertions": lines.inserted, "deletions": lines.deleted} if lines else {"binary": True}
    return fields


def _sort_arguments(
    invocation: Invocation, arguments: tuple[str, ...], after_dashes: list[str]
) -> tuple[list[str], list[bytes]]:
    """Which arguments are revisions and which are paths: a second one is a revision unless it begins with a slash."""
    first, *rest = arguments
    if ".." in first and not first.startswith("/"):
        start, _, end = first.partition("..")
        revisions = [start, end]
    elif rest and not rest[0].startswith("/"):
        revisions = [first, rest.pop(0)]
    else:
        revisions = [first]
    for path in rest:
        if not path.startswith("/"):
            raise click.UsageError(f"{path!r} is one argument too many; a path begins with a slash or follows `--`")
    return revisions, [path.encode("utf-8", "surrogateescape") for path in (*rest, *after_dashes)]


def _comparison(invocation: Invocation, revisions: list[str]) -> Comparison:
    store = invocation.store
    if len(revisions) == 2:
        old, new = (invocation.snapshot(revision) for revision in revisions)
        return Comparison(old, new)
    revision = revisions[0]
    try:
        info = store.commit(store.history.resolve(revision))
    except NotFound:
        try:
            container = invocation.containers.find(revision)
        except NotFound:
            info = store.commit(invocation.commit(revision))
        else:
            invocation.enter_namespaces()
            return Comparison(*invocation.states.compare(container, keep=_KEEP))
    if not info.parents:
        raise NotFound(f"{revision!r} is a first commit: it has no parent to compare it with", commit=info.id)
    return Comparison.against_parent(store, info)


VERBS: dict[str, click.Command] = {"diff": diff_verb}
