"""forget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import branch_completion, dry_run_option, verb
from runtime.cli.output import count_text, message
from runtime.cli.quoting import safe
from runtime.cli.render_commits import SHORT, date_text, moment, title

if TYPE_CHECKING:
    from runtime.branches.forgetting import Fate, Forgotten
    from vcs.collect import Collected
    from vcs.retention import Rules

F = TypeVar("F", bound=Callable[..., Any])

_PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
_LISTED = 6
"""So many names are told one by one."""
_BRANCHES, _TAGS = "refs/heads/", "refs/tags/"


def _keep_options(command: F) -> F:
    """--keep-last, --keep-hourly, ..., and those that are no numbers."""
    found: Callable[..., Any] = click.option(
        "--keep-tag", "tags", multiple=True, metavar="PATTERN", help="Those with a tag that matches, as `v*`."
    )(command)
    found = click.option(
        "--keep-within", "within", metavar="DURATION", help="Those younger than this, such as 1y6m or 2y5m7d3h."
    )(found)
    for period in reversed(_PERIODS):
        unit = "day" if period == "daily" else period.removesuffix("ly")
        found = click.option(
            f"--keep-{period}", type=click.IntRange(min=0), default=0, metavar="N",
            help=f"The newest of each {unit}, for the last N {unit}s with commits.",
        )(found)  # fmt: skip
    option = click.option("--keep-last", type=click.IntRange(min=0), default=0, metavar="N", help="The last N commits.")
    return option(found)  # type: ignore[return-value]


@verb("forget", data=True)
@click.argument("branches", nargs=-1, metavar="[BRANCH]...", shell_complete=branch_completion)
@click.option("--all-branches", is_flag=True, help="Every branch.")
@_keep_options
@click.option("--gc", "collect", is_flag=True, help="Free the space at once. This cannot be undone.")
@dry_run_option
def forget(
    invocation: Invocation,
    branches: tuple[str, ...],
    all_branches: bool,
    collect: bool,
    dry_run: bool,
    within: str | None,
    tags: tuple[str, ...],
    **numbers: int,
) -> int:
    """Forget old commits of branches.

    The --keep options say what stays, as in restic: a commit is kept if one of them keeps it. Of each hour, day, week,
    month or year that has commits the newest is kept, and as long as there are fewer than N, the oldest of all too. The
    newest commit of a branch, and those that containers stand on, always stay.

    What stays above a forgotten commit is written again with another parent, so its id changes; branch, tags and
    containers follow. Containers may be running. A merge keeps its other parents only if nothing of them is forgotten.
    Other branches, and tags on forgotten commits, keep what they have; you are told. A commit on several BRANCHes stays
    if it is kept on one of them.

    What was forgotten can be had back by its id, or from the reflog, until that expires; tags and containers stay where
    they are then. Afterwards `treering gc` frees the space. With --gc the branches' reflogs lose what is on no branch
    or tag any more, and gc runs at once; the exit code is then 1 if it found damage.

    \b
    Example:
      treering forget --keep-last 10 --keep-daily 7 --keep-weekly 4 --dry-run main
      treering forget --keep-within 1m --keep-tag 'v*' --all-branches
      treering forget --keep-last 1 --gc main
    """
    from runtime.branches.forgetting import forget as forget_commits

    rules = _rules(within, tags, numbers)
    if bool(branches) == all_branches:
        raise click.UsageError("name the BRANCHes, or say --all-branches")
    chosen = list(branches) or list(invocation.store.branches())
    done = forget_commits(invocation.containers, chosen, rules, invocation.author(), dry_run=dry_run)
    if not invocation.output.is_table:
        found = _collected(invocation, done) if collect and not dry_run else None
        _write(invocation, done, found)
        return 1 if found and found.problems else 0
    _write(invocation, done, None)
    _tell(done, dry_run, undoable=not collect)
    if not collect or dry_run:
        return 0
    from runtime.cli.collect import tell

    found = _collected(invocation, done)
    tell(found)
    return 1 if found.problems else 0


def _collected(invocation: Invocation, done: Forgotten) -> Collected:
    from runtime.branches.forgetting import drop_memories
    from runtime.cli.collect import collected, default_expiry

    drop_memories(invocation.store, done)
    return collected(invocation, default_expiry())


def _rules(within: str | None, tags: tuple[str, ...], numbers: dict[str, int]) -> Rules:
    from vcs.errors import BadInput
    from vcs.retention import Duration, Rules

    try:
        duration = Duration.parse(within) if within is not None else None
    except BadInput as error:
        raise click.UsageError(f"--keep-within: {error}") from None
    rules = Rules(
        **{name.removeprefix("keep_"): number for name, number in numbers.items()}, within=duration, tags=tags
    )
    if rules.is_empty:
        raise click.UsageError("nothing would be kept: say what to keep, as in --keep-last 10 --keep-daily 7")
    return rules


# -- what it did


def _write(invocation: Invocation, done: Forgotten, collected: Collected | None) -> None:
    output = invocation.output
    rows = [(branch, fate) for branch, fates in done.branches.items() for fate in fates]

    def fields(row: tuple[str, Fate]) -> dict[str, Any]:
        branch, fate = row
        return {
            "branch": branch,
            "commit": fate.commit.id,
            "kept": fate.kept,
            "reasons": list(fate.reasons),
            "now": fate.now,
            "date": moment(fate.commit.time, fate.commit.offset).isoformat(),
            "title": title(fate.commit.message),
        }

    def table(rows: Iterable[tuple[str, Fate]]) -> None:
        titles = ("BRANCH", "COMMIT", "NOW", "DATE", "KEPT FOR", "TITLE")
        output.columns(titles, [_cells(branch, fate) for branch, fate in rows])

    if output.format == "json":
        moves = [{"ref": move.ref, "old": move.old, "new": move.new} for move in done.moves]
        freed = collected.freed if collected else None
        output.value({"commits": list(map(fields, rows)), "moves": moves, "held_by": list(done.held), "freed": freed})
    else:
        output.rows(rows, fields, table)


def _cells(branch: str, fate: Fate) -> tuple[str, ...]:
    info = fate.commit
    if not fate.kept:
        now = "forgotten"
    elif fate.now is None or fate.now == info.id:
        now = "kept"
    else:
        now = fate.now[:SHORT]
    date = date_text(info.time, info.offset)
    return branch, info.id[:SHORT], now, date, ", ".join(map(safe, fate.reasons)), title(info.message)


def _tell(done: Forgotten, dry_run: bool, undoable: bool) -> None:
    count = len(done.commits)
    kept = len({fate.commit.id for fates in done.branches.values() for fate in fates}) - count
    what = "would be forgotten" if dry_run else "forgotten"
    message(f"{count_text(count, 'commit')} {what}, {kept:,} kept")
    if done.held and count:
        message(f"Still kept by {_listed([_name(ref) for ref in done.held])}")
    if done.moves and undoable:
        moved = [move for move in done.moves if move.ref.startswith(_BRANCHES)]
        for move in moved if len(moved) <= _LISTED else ():
            branch = move.ref.removeprefix(_BRANCHES)
            message(f"Branch {branch} was at {move.old[:SHORT]}; back: treering branch -f {branch} {move.old[:SHORT]}")
        if len(moved) > _LISTED:
            message(f"{len(moved):,} branches have moved; back, for each: treering branch -f NAME 'NAME@{{1}}'")
        message(
            "The space is freed by `treering gc` when the reflogs' entries expire, or now: treering gc --expire now"
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _name(ref: str) -> str:
    if ref.startswith(_BRANCHES):
        return f"branch {ref.removeprefix(_BRANCHES)}"
    return f"tag {ref.removeprefix(_TAGS)}" if ref.startswith(_TAGS) else ref


VERBS: dict[str, click.Command] = {"forget": forget}
