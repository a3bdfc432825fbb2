"""stash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.compare import Comparison, write_comparison
from runtime.cli.invocation import Invocation
from runtime.cli.options import add_common_options, container_argument, container_completion, dry_run_option, verb
from runtime.cli.output import count_text, message
from runtime.cli.pager import paged
from runtime.cli.quoting import path_fields, safe
from runtime.cli.render_changes import change_fields, summary
from runtime.cli.render_commits import SHORT, date_text, moment, title
from runtime.cli.render_conflicts import conflict_fields, stale_fields, warn_of_stale, write_conflicts
from runtime.cli.rewriting import checked_message, favour_of

if TYPE_CHECKING:
    from runtime.branches.stashes import Applied, Stash, Stashes


class _Group(click.Group):
    """`stash NAME` means `stash push NAME`. --format and --store may stand in front of either."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = 0
        while at < len(args) and args[at].partition("=")[0] in ("--format", "--store"):
            at += 1 if "=" in args[at] else 2
        if at < len(args) and args[at] not in (*self.commands, "-h", "--help"):
            args = [*args[:at], "push", *args[at:]]
        return super().parse_args(ctx, args)


_number_argument = click.argument("number", metavar="[N]", required=False, type=click.IntRange(1))


@click.group("stash", cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def stash() -> None:
    """Put aside what is changed in a container, and bring it back.

    `stash NAME` is `stash push NAME`. A stash has a number, which it keeps; where none is said, the newest is meant. It
    is a commit, `stashes/N` to all verbs that take a revision.

    \b
    Example:
      treering stash web -m "half of the upgrade"
      treering stash list
      treering stash pop
    """


@verb("push", data=True, namespaces="enter")
@container_argument()
@click.option("-m", "--message", "text", metavar="MESSAGE", help="What the changes are about.")
def push(invocation: Invocation, name: str, text: str | None) -> None:
    """Put aside what is changed in a container since its last commit.

    The container is as that commit then. It must not be running. As with rollback, its files until now are kept:
    `treering undo` and `treering rollback --undo NAME` return to them.

    \b
    Example:
      treering stash push web
      treering stash web -m "half of the upgrade"
    """
    container = invocation.containers.find(name)
    found = _stashes(invocation).push(container, checked_message(text), invocation.author())
    output = invocation.output
    if not output.is_table:
        stash_, changes = found or (None, ())
        output.value({"stash": stash_ and _fields(stash_), "changes": _changes(changes)})
    elif found is None:
        message(f"Nothing to do: nothing has changed in {container.name} since its last commit")
    else:
        output.line(str(found[0].number))
        output.flush()
        message(f"[stash {found[0].number}] {_title(found[0])}: {summary(found[1])}; back: treering stash pop")


@verb("list", data=True)
def list_(invocation: Invocation) -> None:
    """List stashes, newest first.

    \b
    Example:
      treering stash list
      treering stash list --format jsonl
    """
    output = invocation.output

    def table(rows: Iterable[Stash]) -> None:
        output.columns(
            ("N", "DATE", "CONTAINER", "ON", "MESSAGE"),
            (
                (str(one.number), date_text(one.info.time, one.info.offset), safe(one.container_name),
                 one.base[:SHORT], _title(one))
                for one in rows
            ),
            numbers=("N",),
        )  # fmt: skip

    with paged(output, wanted=invocation.use_pager):
        output.rows(_stashes(invocation).all(), _fields, table)


@verb("show", data=True)
@_number_argument
@click.option("--stat", is_flag=True, help="How many lines changed in each file.")
@click.option("-p", "--patch", is_flag=True, help="The changed lines of each text.")
def show(invocation: Invocation, number: int | None, stat: bool, patch: bool) -> None:
    """Show what is in a stash.

    \b
    Example:
      treering stash show
      treering stash show 2 --stat
      treering diff stashes/2 /etc
    """
    found = _stashes(invocation).find(number)
    comparison = Comparison.against_parent(invocation.store, found.info)
    changes, output = comparison.changes(), invocation.output
    with paged(output, wanted=invocation.use_pager):
        if output.is_table:
            write_comparison(output, comparison, changes, stat=stat, patch=patch)
        else:
            output.rows(changes, change_fields, lambda _: None)


def _apply_options(command: Any) -> Any:
    for option in reversed(
        [
            _number_argument,
            click.option("--into", metavar="NAME", shell_complete=container_completion,
                         help="Another container than the one it was made of."),
            click.option("--ours", is_flag=True, help="In conflicts, and nowhere else, take what the container has."),
            click.option("--theirs", is_flag=True, help="In conflicts, and nowhere else, take what the stash has."),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


@verb("pop", data=True, namespaces="enter")
@_apply_options
def pop(invocation: Invocation, number: int | None, into: str | None, ours: bool, theirs: bool) -> int:
    """Bring a stash into a container, and drop it.

    What the stash changed comes to what the container has, on whatever commit that is, as with a merge. It is not
    committed. With conflicts nothing is changed, and the stash is kept: all of them are listed, and the exit code is 1.
    The container must not be running.

    \b
    Example:
      treering stash pop
      treering stash pop 2 --into db
    """
    return _bring(invocation, number, into, ours, theirs, drop=True)


@verb("apply", data=True, namespaces="enter")
@_apply_options
def apply(invocation: Invocation, number: int | None, into: str | None, ours: bool, theirs: bool) -> int:
    """Bring a stash into a container, and keep it.

    As pop does, which drops it.

    \b
    Example:
      treering stash apply
      treering stash apply 2 --into db
    """
    return _bring(invocation, number, into, ours, theirs, drop=False)


@verb("drop")
@_number_argument
@dry_run_option
def drop(invocation: Invocation, number: int | None, dry_run: bool) -> None:
    """Drop a stash.

    \b
    Example:
      treering stash drop 2
    """
    _let_go(invocation, [_stashes(invocation).find(number)], dry_run)


@verb("clear")
@dry_run_option
def clear(invocation: Invocation, dry_run: bool) -> None:
    """Drop all stashes.

    \b
    Example:
      treering stash clear --dry-run
    """
    _let_go(invocation, _stashes(invocation).all(), dry_run)


add_common_options(stash)
for _verb in (push, list_, show, pop, apply, drop, clear):
    stash.add_command(_verb)


# -- details


def _stashes(invocation: Invocation) -> Stashes:
    from runtime.branches.stashes import Stashes

    return Stashes(invocation.containers)


def _bring(
    invocation: Invocation, number: int | None, into: str | None, ours: bool, theirs: bool, *, drop: bool
) -> int:
    favour = favour_of(ours, theirs)
    stashes = _stashes(invocation)
    found = stashes.find(number)
    container = stashes.owner(found) if into is None else invocation.containers.find(into)
    applied = stashes.apply(found, container, favour, invocation.author(), drop=drop)
    dropped = drop and applied.how != "conflicts"
    if invocation.output.is_table:
        _tell(invocation, found, applied, dropped)
    else:
        invocation.output.value(
            {
                "outcome": applied.how,
                "stash": _fields(found),
                "dropped": dropped,
                "container": {"id": container.id, "name": container.name},
                "changes": _changes(applied.changes),
                "conflicts": [{**conflict_fields(one), "taken": favour} for one in applied.conflicts],
                "stale": stale_fields(applied.stale),
            }
        )
    return 1 if applied.how == "conflicts" else 0


def _tell(invocation: Invocation, found: Stash, applied: Applied, dropped: bool) -> None:
    name, number = applied.container.name, found.number
    if applied.conflicts:
        write_conflicts(invocation.output, applied.conflicts)
    count = count_text(len(applied.conflicts), "conflict")
    if applied.how == "conflicts":
        message(
            f"{count}: nothing was changed, and stash {number} is kept. --ours (what {name} has) or --theirs (what the "
            "stash has) decides all of them for one side; or commit what is there, and bring it into another container "
            "with --into"
        )
        return
    end = f"; stash {number} is dropped" if dropped else ""
    if applied.how == "up-to-date":
        message(f"Nothing to do: {name} has what is in stash {number}{end}")
        return
    decided = f"; {count} decided" if applied.conflicts else ""
    message(f"{name} has stash {number}: {summary(applied.changes)}{decided}{end}; back: treering undo")
    warn_of_stale(applied.stale)


def _let_go(invocation: Invocation, found: Sequence[Stash], dry_run: bool) -> None:
    if not dry_run:
        _stashes(invocation).drop(found)
    is_so = "would be dropped" if dry_run else "is dropped"
    for one in found:
        message(f"Stash {one.number} {is_so}: {_title(one)}")
    if not found:
        message("Nothing to do: there is no stash")
    elif not dry_run:
        message("Back: treering undo")


def _title(one: Stash) -> str:
    return safe(title(one.info.message))


def _changes(changes: Iterable[Any]) -> list[dict[str, Any]]:
    return [{"status": change.letter, **path_fields(change.path)} for change in changes]


def _fields(one: Stash) -> dict[str, Any]:
    return {
        "number": one.number,
        "commit": one.info.id,
        "parent": one.base,
        "container": {"id": one.container, "name": one.container_name},
        "date": moment(one.info.time, one.info.offset).isoformat(),
        "title": title(one.info.message),
    }


VERBS: dict[str, click.Command] = {"stash": stash}
