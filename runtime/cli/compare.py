"""diff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
from runtime.cli.render_docker import write_docker
from vcs.diff import EXACT, Change, Find, diff
from vcs.errors import NotFound
from vcs.snapshot import CommitInfo, Snapshot
from vcs.store import Store

if TYPE_CHECKING:
    from runtime.packages.report import PackageReport, Reopen

_KEEP = 64 << 20
"""Bytes of a container's new files that are held in memory to count and show their lines."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two roots that are compared."""

    old: Snapshot
    new: Snapshot
    reopen: Reopen | None = None
    """Of a container: see runtime.packages.report."""

    @classmethod
    def against_parent(cls, store: Store, info: CommitInfo) -> Comparison:
        """What a commit changed."""
        return cls(store.snapshot_of(info.parents[0]), store.snapshot(info.root))

    def changes(self, paths: Sequence[bytes] = (), renames: bool = True, find: Find = EXACT) -> list[Change]:
        """The changes, those at or below `paths` if there are any."""
        return diff(self.old, self.new, paths, renames, find)

    def packages(self, *, files: bool = False) -> PackageReport:
        """The packages that differ; with `files`, the changed files that they do not explain too."""
        from runtime.packages.report import package_report

        return package_report((self.old, self.new), self.reopen, files=files)


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


@verb("diff", data=True, formats=("docker",), cls=PathVerb, past=True)
@revision_argument("arguments", nargs=-1, required=True, metavar="REV [REV] [[--] PATH...]")
@click.option("--stat", is_flag=True, help="How many lines changed in each file.")
@click.option("-p", "--patch", is_flag=True, help="The changed lines of each text.")
@click.option("--name-status", is_flag=True, help="Letter and path, as git writes them.")
@click.option("--name-only", is_flag=True, help="Paths only.")
@click.option("-z", "zero", is_flag=True, help="With the names: end each field with a NUL, and quote nothing.")
@click.option("--no-renames", is_flag=True, help="A renamed file is a deleted and an added one.")
@click.option("-M", "--find-renames", is_flag=True, help="Renamed files may also have changed.")
@click.option("-C", "--find-copies", is_flag=True, help="Copies too, of what changed or is beside it; implies -M.")
@click.option("--find-copies-harder", is_flag=True, help="Copies of anything: reads all directories; implies -C.")
@click.option("--similarity", type=click.IntRange(1, 100), default=50, show_default=True, metavar="PERCENT",
              help="How much a changed file must have of the one that it was renamed or copied from.")  # fmt: skip
@click.option("--packages", is_flag=True, help="Which packages came, went and changed.")
@click.option("--unexplained", is_flag=True, help="With --packages: the changed files that no package explains.")
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
    find_renames: bool,
    find_copies: bool,
    find_copies_harder: bool,
    similarity: int,
    packages: bool,
    unexplained: bool,
    exit_code: bool,
) -> int:
    """Show what differs between two commits.

    `diff A B` and `diff A..B` show what happened from A to B. With one REV: if it is a container's name, what changed
    in the container since its last commit; otherwise, what the commit changed. With PATHs, only what is at or below one
    of them.

    Letters: A added, M modified, D deleted, R renamed, T of another type; and C copied, with -C.

    What is renamed has the same content. With -M, files are renamed too that have at least --similarity percent of
    their lines in common; -C finds copies in the same way: of files that changed or are gone, and equal ones of all
    that is in a directory where something changed.

    --format docker prints the lines of `docker diff`: A, C or D, and the path.

    With --packages it is the packages of dpkg, apk, rpm, Python, npm and Ruby that are compared. --unexplained adds the
    changed files that belong to a package which is as before ("modified") or to none ("unowned").

    \b
    Example:
      treering diff main nginx
      treering diff --stat main..nginx /etc
      treering diff web
      treering diff -C -p main nginx /etc
      treering diff --packages --unexplained main nginx
      treering diff --exit-code v1 v2 && echo the same
    """
    revisions, paths = _sort_arguments(invocation, arguments, context.meta.get("after_dashes", []))
    docker = context.meta.get("format") == "docker"
    if packages or unexplained:
        _check_package_options(packages, bool(docker or paths or stat or patch or name_status or name_only or zero))
        return _diff_packages(invocation, _comparison(invocation, revisions), unexplained, exit_code)
    if docker and (stat or patch or name_status or name_only or zero):
        raise click.UsageError("--format docker is a form of its own: leave out --stat, -p, --name-status and the like")
    comparison = _comparison(invocation, revisions)
    copies: Literal["near", "everywhere"] | None = "near" if find_copies else None
    if find_copies_harder:
        copies = "everywhere"
    find = Find(similarity if find_renames or copies else None, copies)
    changes = comparison.changes(paths, not (no_renames or docker), EXACT if docker else find)
    output = invocation.output
    with paged(output, wanted=invocation.use_pager and not zero):
        if not output.is_table:
            output.rows(changes, lambda change: _fields(change, comparison, stat), lambda _: None)
        elif docker:
            write_docker(output, changes, comparison.new)
        elif name_status or name_only or zero:
            write_names(output, changes, not name_only, zero)
        else:
            write_comparison(output, comparison, changes, stat=stat, patch=patch)
    return 1 if exit_code and changes else 0


def _check_package_options(packages: bool, others: bool) -> None:
    if not packages:
        raise click.UsageError("--unexplained goes with --packages")
    if others:
        raise click.UsageError(
            "--packages compares whole roots, in a form of its own: leave out paths, --stat, -p, --name-status, "
            "--name-only, -z and --format docker"
        )


def _diff_packages(invocation: Invocation, comparison: Comparison, unexplained: bool, exit_code: bool) -> int:
    from runtime.cli.render_packages import write_report

    report = comparison.packages(files=unexplained)
    with paged(invocation.output, wanted=invocation.use_pager):
        write_report(invocation.output, report)
    return 1 if exit_code and report else 0


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
            states = invocation.states
            return Comparison(
                *states.compare(container, keep=_KEEP), lambda wanted: states.compare(container, wanted=wanted)
            )
    if not info.parents:
        raise NotFound(f"{revision!r} is a first commit: it has no parent to compare it with", commit=info.id)
    return Comparison.against_parent(store, info)


VERBS: dict[str, click.Command] = {"diff": diff_verb}
