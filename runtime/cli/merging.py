"""merge, revert, cherry-pick."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.author import user_trailer
from runtime.cli.invocation import Invocation
from runtime.cli.options import author_option, branch_completion, dry_run_option, revision_argument, verb
from runtime.cli.output import count_text, message
from runtime.cli.quoting import path_fields, quoted, safe
from runtime.cli.render_changes import summary
from runtime.cli.render_commits import SHORT, title
from runtime.cli.signing import sign_commits, sign_options
from runtime.cli.storehooks import hook_fields, no_verify_option, tell_hooks
from vcs.gitwords import BRANCHES, TAGS

if TYPE_CHECKING:
    from runtime.merging import Outcome, Wish
    from runtime.storehooks import HookRun
    from vcs.history import Author
    from vcs.merging import Favour, MergeConflict, Stale
    from vcs.model import CommitId
    from vcs.store import Store

F = TypeVar("F", bound=Callable[..., Any])

_NAMED = 3
"""So many stale files are named for each command."""


def _branch_option(name: str, text: str) -> Callable[[F], F]:
    return click.option(name, "branch", default="main", show_default=True, metavar="BRANCH", help=text,
                        shell_complete=branch_completion)  # fmt: skip


def _wish_options(command: F) -> F:
    """What merge, revert and cherry-pick have in common."""
    for option in reversed(
        [
            click.option("--ours", is_flag=True, help="In conflicts, and nowhere else, take what the branch has."),
            click.option("--theirs", is_flag=True, help="In conflicts, and nowhere else, take what comes in."),
            click.option("-m", "--message", "text", metavar="MESSAGE", help="Instead of the usual message."),
            author_option,
            sign_options,
            no_verify_option,
            dry_run_option,
        ]
    ):
        command = option(command)
    return command


_mainline_option = click.option("--mainline", type=click.IntRange(1), metavar="N",
                                help="Of a merge: what it did to its parent N, from 1.")  # fmt: skip


@verb("merge", data=True)
@revision_argument()
@_branch_option("--into", "The branch that gets the merge.")
@click.option("--no-ff", is_flag=True, help="Make a commit also where moving the branch would do.")
@_wish_options
def merge(invocation: Invocation, revision: str, branch: str, no_ff: bool, **asked: Any) -> int:
    """Bring what a branch has into another.

    What both did since their last common commit comes together in a commit with two parents; a branch that has nothing
    of its own is only moved. A file's content and its attributes are merged separately, texts by their lines, databases
    of users and packages by their records. What both changed and cannot both be had is a conflict: all of them are
    listed, the exit code is 1, and nothing is changed, unless --ours or --theirs says whose is taken there.

    Files that are made of others, such as the linker's cache, are left as the branch has them, and you are told which
    commands make them anew. docs/merging.md has the rules.

    \b
    Example:
      treering merge nginx
      treering merge --dry-run nginx --into staging
      treering merge nginx --theirs -m "nginx, and its idea of the configuration"
    """
    from runtime.merging import merge as merge_commit

    wish = _wish(branch, asked, fast_forward=not no_ff)
    sign_commits(invocation, asked["sign"], asked["key"])
    commit = invocation.commit(revision)
    name = _name(invocation, revision, commit)
    author = invocation.author(asked["author"])
    return _tell(invocation, merge_commit(invocation.store, commit, name, wish, author), wish)


@verb("revert", data=True)
@revision_argument(metavar="COMMIT")
@_branch_option("--on", "The branch that it is taken back on.")
@_mainline_option
@_wish_options
def revert(invocation: Invocation, revision: str, branch: str, mainline: int | None, **asked: Any) -> int:
    """Take back what a commit did, in a new commit.

    What has been done since stays. Where it builds on what is to be taken back, there is a conflict, as with merge.

    \b
    Example:
      treering revert main~2
      treering revert --on staging 3f2a9c
    """
    from runtime.merging import revert as work

    return _do(invocation, work, revision, branch, mainline, asked)


@verb("cherry-pick", data=True)
@revision_argument(metavar="COMMIT")
@_branch_option("--on", "The branch that it is done on.")
@_mainline_option
@_wish_options
def cherry_pick(invocation: Invocation, revision: str, branch: str, mainline: int | None, **asked: Any) -> int:
    """Do on a branch what a commit did elsewhere.

    Only what that commit changed is taken over, in a new commit; conflicts are as with merge.

    \b
    Example:
      treering cherry-pick try-3
      treering cherry-pick --on release main~1
    """
    from runtime.merging import cherry_pick as work

    return _do(invocation, work, revision, branch, mainline, asked)


def _do(
    invocation: Invocation,
    work: Callable[[Store, CommitId, Wish, Author, int | None], Outcome],
    revision: str,
    branch: str,
    mainline: int | None,
    asked: dict[str, Any],
) -> int:
    wish = _wish(branch, asked)
    sign_commits(invocation, asked["sign"], asked["key"])
    commit = invocation.commit(revision)
    return _tell(invocation, work(invocation.store, commit, wish, invocation.author(asked["author"]), mainline), wish)


def _wish(branch: str, asked: dict[str, Any], fast_forward: bool = True) -> Wish:
    """What the options ask for that the three have in common."""
    from runtime.merging import Wish

    ours, theirs, text = asked["ours"], asked["theirs"], asked["text"]
    if ours and theirs:
        raise click.UsageError("--ours and --theirs exclude one another")
    if text is not None and not text.strip():
        raise click.BadParameter("the message is empty", param_hint="--message")
    favour: Favour = "ours" if ours else "theirs" if theirs else None
    return Wish(branch, favour, fast_forward, text, asked["dry_run"], user_trailer(), not asked["no_verify"])


def _name(invocation: Invocation, revision: str, commit: str) -> str:
    """What git calls it in a merge's message."""
    history = invocation.store.history
    for kind, prefix in (("branch", BRANCHES), ("tag", TAGS)):
        if history.target(prefix + revision) is not None:
            return f"{kind} '{revision}'"
    return f"commit '{revision if commit != revision else commit[:SHORT]}'"


# -- telling it


def _tell(invocation: Invocation, outcome: Outcome, wish: Wish) -> int:
    output = invocation.output
    hooks = outcome.hooks + (() if wish.dry_run else _after(invocation, outcome))
    if not output.is_table:
        output.value({**_fields(outcome, wish), "hooks": hook_fields(hooks)})
        return 1 if outcome.how == "conflicts" else 0
    if outcome.conflicts:
        titles = ("PATH", "CONFLICT", "OURS", "THEIRS", "WHERE")
        output.columns(titles, map(_cells, outcome.conflicts))
        output.flush()
    if outcome.how == "conflicts":
        message(
            f"{count_text(len(outcome.conflicts), 'conflict')}: nothing was changed. --ours or --theirs decides all of "
            "them for one side; what only one side changed is in the merge in any case"
        )
        return 1
    if outcome.commit is not None and not wish.dry_run:
        output.line(outcome.commit)
        output.flush()
    message(_said(outcome, wish))
    _warn(outcome.stale)
    tell_hooks(hooks)
    return 0


def _after(invocation: Invocation, outcome: Outcome) -> tuple[HookRun, ...]:
    from runtime.storehooks import Event, run_after

    if outcome.commit is None or outcome.commit == outcome.before:
        return ()
    event = Event(outcome.commit, outcome.before, branch=outcome.branch, changes=lambda: outcome.changes)
    return run_after(invocation.store.path, "post-merge", event)


def _said(outcome: Outcome, wish: Wish) -> str:
    branch = safe(outcome.branch)
    would = "would be" if wish.dry_run else "is"
    if outcome.how == "up-to-date":
        return f"Nothing to do: {branch} has it already"
    what = summary(outcome.changes)
    if outcome.conflicts:
        what += f"; {count_text(len(outcome.conflicts), 'conflict')} decided for {wish.favour}"
    back = "" if wish.dry_run else f"; back: treering branch -f {branch} {outcome.before[:SHORT]}"
    if outcome.how == "fast-forward":
        return f"{branch} {would} at {outcome.theirs[:SHORT]}, without a merge commit: {what}{back}"
    if outcome.commit is None:
        return f"{branch} would have a new commit, {title(outcome.message)!r}: {what}"
    return f"[{branch} {outcome.commit[:SHORT]}] {safe(title(outcome.message))}: {what}{back}"


def _warn(stale: Iterable[Stale]) -> None:
    """What has to be made anew, by command."""
    commands: dict[str, list[str]] = defaultdict(list)
    for file in stale:
        if file.command:
            commands[file.command].append(quoted(file.path))
    for command, paths in commands.items():
        more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
        named = ", ".join(paths[:_NAMED]) + more
        message(f"warning: stale, since both changed it: {named}; in a container on it, run: {command}")


def _cells(conflict: MergeConflict) -> tuple[str, ...]:
    path = quoted(conflict.path)
    if conflict.kind == "config":
        path = f"config.json: {path}"
    return path, conflict.kind, safe(conflict.ours), safe(conflict.theirs), safe(conflict.detail) or "-"


def _fields(outcome: Outcome, wish: Wish) -> dict[str, Any]:
    return {
        "outcome": outcome.how,
        "branch": outcome.branch,
        "before": outcome.before,
        "commit": outcome.commit,
        "base": outcome.base,
        "theirs": outcome.theirs,
        "changes": [{"status": change.letter, **path_fields(change.path)} for change in outcome.changes],
        "conflicts": [
            {
                **path_fields(conflict.path),
                "kind": conflict.kind,
                "ours": conflict.ours,
                "theirs": conflict.theirs,
                "detail": conflict.detail or None,
                "taken": wish.favour,
            }
            for conflict in outcome.conflicts
        ],
        "stale": [{**path_fields(stale.path), "command": stale.command or None} for stale in outcome.stale],
    }


VERBS: dict[str, click.Command] = {"merge": merge, "revert": revert, "cherry-pick": cherry_pick}
