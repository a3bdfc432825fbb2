"""rebase, squash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import author_option, branch_completion, dry_run_option, revision_argument, verb
from runtime.cli.output import count_text, message
from runtime.cli.quoting import path_fields, safe
from runtime.cli.render_changes import summary
from runtime.cli.render_commits import SHORT, title
from runtime.cli.render_conflicts import conflict_fields, stale_fields, warn_of_stale, write_conflicts
from runtime.cli.signing import sign_commits, sign_options

if TYPE_CHECKING:
    from runtime.branches.rewriting import rebase as rebasing
    from runtime.branches.rewriting import squash as squashing
    from vcs.merging import Favour

_NAMED = 3
"""So many containers are named."""

_branch_argument = click.argument("branch", metavar="[BRANCH]", default="main", shell_complete=branch_completion)


@verb("rebase", data=True)
@revision_argument("upstream", metavar="UPSTREAM")
@_branch_argument
@click.option("--onto", metavar="REV", help="The commit that they are done on, instead of UPSTREAM.")
@click.option("--ours", is_flag=True, help="In conflicts, and nowhere else, take what is there already.")
@click.option("--theirs", is_flag=True, help="In conflicts, and nowhere else, take what the commit did.")
@author_option
@sign_options
@dry_run_option
def rebase(
    invocation: Invocation,
    upstream: str,
    branch: str,
    onto: str | None,
    ours: bool,
    theirs: bool,
    author: str | None,
    sign: bool | None,
    key: str | None,
    dry_run: bool,
) -> int:
    """Do the commits of a branch again on top of another commit.

    Those that BRANCH has and UPSTREAM has not are cherry-picked onto UPSTREAM, one after the other. Messages, authors
    and their dates stay; --author says who has written them again. What is there already is left out, and you are told.
    Then the branch moves, once.

    With conflicts nothing is changed: the commit that has them is named, and they are listed; the exit code is 1. A
    merge cannot be done again, and is refused. Containers stay on the commits that they are on.

    \b
    Example:
      treering rebase main nginx
      treering rebase --dry-run main nginx
      treering rebase --onto v2 v1 nginx
    """
    from runtime.branches.rewriting.rebase import Wish
    from runtime.branches.rewriting.rebase import rebase as work

    sign_commits(invocation, sign, key)
    start = invocation.commit(upstream)
    target = start if onto is None else invocation.commit(onto)
    wish = Wish(branch, start, target, favour_of(ours, theirs), dry_run)
    outcome = work(invocation.containers, wish, invocation.author(author))
    code = 1 if outcome.how == "conflicts" else 0
    if invocation.output.is_table:
        _tell_rebase(invocation, outcome, wish)
    else:
        invocation.output.value(_rebase_fields(outcome, wish))
    return code


@verb("squash", data=True)
@revision_argument()
@_branch_argument
@click.option("-m", "--message", "text", metavar="MESSAGE", help="Instead of a list of their titles.")
@author_option
@sign_options
@dry_run_option
def squash(
    invocation: Invocation,
    revision: str,
    branch: str,
    text: str | None,
    author: str | None,
    sign: bool | None,
    key: str | None,
    dry_run: bool,
) -> None:
    """Make one commit of those that a branch has after REV.

    The commit has the branch's state as it is, and REV as its parent. Its message keeps which commands made what is
    squashed, and in which containers. What was merged in after REV stays merged in. With -m, a single commit gets
    another message. Containers stay on the commits that they are on.

    \b
    Example:
      treering squash main~3
      treering squash main nginx -m "nginx, set up"
      treering squash -m "a better title" nginx~1 nginx
    """
    from runtime.branches.rewriting.squash import squash as work

    sign_commits(invocation, sign, key)
    after = invocation.commit(revision)
    who = invocation.author(author)
    outcome = work(invocation.containers, after, branch, checked_message(text), who, dry_run=dry_run)
    if invocation.output.is_table:
        _tell_squash(invocation, outcome, dry_run)
    else:
        invocation.output.value(_squash_fields(outcome))


def favour_of(ours: bool, theirs: bool) -> Favour:
    """The side that --ours or --theirs asks for."""
    if ours and theirs:
        raise click.UsageError("--ours and --theirs exclude one another")
    return "ours" if ours else "theirs" if theirs else None


def checked_message(text: str | None) -> str | None:
    """What --message says, if it says something."""
    if text is not None and not text.strip():
        raise click.BadParameter("the message is empty", param_hint="--message")
    return text


# -- telling it


def _tell_rebase(invocation: Invocation, outcome: rebasing.Outcome, wish: rebasing.Wish) -> None:
    output = invocation.output
    for step in outcome.steps:
        if step.conflicts:
            message(f"Conflicts of {step.info.id[:SHORT]} ({safe(title(step.info.message))}):")
            write_conflicts(output, step.conflicts)
    if outcome.how == "conflicts":
        message(
            f"{count_text(len(outcome.steps[-1].conflicts), 'conflict')}: nothing was changed. --ours (what is there "
            "already) or --theirs (what the commit did) decides all of them for one side; or leave the commits as they "
            "are, and bring the branches together with treering merge"
        )
        return
    if outcome.commit is not None and not wish.dry_run:
        output.line(outcome.commit)
        output.flush()
    for step in outcome.steps:
        if step.fate == "dropped":
            message(f"Dropped {step.info.id[:SHORT]} ({safe(title(step.info.message))}): it is there already")
    message(_said(outcome, wish.dry_run))
    _tell_standing(outcome.containers, wish.dry_run)
    warn_of_stale(stale for step in outcome.steps for stale in step.stale)


def _said(outcome: rebasing.Outcome, dry_run: bool) -> str:
    branch, onto = safe(outcome.branch), outcome.onto[:SHORT]
    if outcome.how == "up-to-date":
        return f"Nothing to do: {branch} stands on {onto} already"
    would = "would be" if dry_run else "is"
    if outcome.how == "moved":
        return f"{branch} {would} at {(outcome.commit or onto)[:SHORT]}{_back(outcome.branch, outcome.before, dry_run)}"
    count = count_text(sum(step.fate != "dropped" for step in outcome.steps), "commit")
    decided = sum(len(step.conflicts) for step in outcome.steps)
    more = f"; {count_text(decided, 'conflict')} decided" if decided else ""
    place = f"{branch} would have" if dry_run or outcome.commit is None else f"[{branch} {outcome.commit[:SHORT]}]"
    return f"{place} {count} on {onto}{more}{_back(outcome.branch, outcome.before, dry_run)}"


def _tell_squash(invocation: Invocation, outcome: squashing.Outcome, dry_run: bool) -> None:
    branch = safe(outcome.branch)
    if not outcome.squashed:
        message(f"Nothing to do: {branch} has fewer than two commits after that. With -m, one gets another message")
        return
    if outcome.commit is not None:
        invocation.output.line(outcome.commit)
        invocation.output.flush()
    place = f"{branch} would have" if outcome.commit is None else f"[{branch} {outcome.commit[:SHORT]}]"
    text = safe(title(outcome.message))
    count = count_text(len(outcome.squashed), "commit")
    back = _back(outcome.branch, outcome.before, dry_run)
    message(f"{place} {text}: {count} squashed, {summary(outcome.changes)}{back}")
    if len(outcome.parents) > 1:
        others = ", ".join(parent[:SHORT] for parent in outcome.parents[1:])
        message(f"It is a merge, since {others} had been merged in")
    _tell_standing(outcome.containers, dry_run)


def _back(branch: str, before: str, dry_run: bool) -> str:
    return "" if dry_run else f"; back: treering branch -f {safe(branch)} {before[:SHORT]}"


def _tell_standing(names: Sequence[str], dry_run: bool) -> None:
    if names:
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        stay = "would stay" if dry_run else "stays" if len(names) == 1 else "stay"
        shown = ", ".join(names[:_NAMED]) + more
        message(f"{shown} {stay} on the old commits, which go on to be there; to follow: treering rollback NAME BRANCH")


def _rebase_fields(outcome: rebasing.Outcome, wish: rebasing.Wish) -> dict[str, Any]:
    return {
        "outcome": outcome.how,
        "branch": outcome.branch,
        "before": outcome.before,
        "commit": outcome.commit,
        "base": outcome.base,
        "onto": outcome.onto,
        "commits": [
            {
                "old": step.info.id,
                "new": step.now,
                "title": title(step.info.message),
                "fate": step.fate,
                "conflicts": [{**conflict_fields(one), "taken": wish.favour} for one in step.conflicts],
                "stale": stale_fields(step.stale),
            }
            for step in outcome.steps
        ],
        "containers": list(outcome.containers),
    }


def _squash_fields(outcome: squashing.Outcome) -> dict[str, Any]:
    return {
        "branch": outcome.branch,
        "before": outcome.before,
        "commit": outcome.commit,
        "parents": list(outcome.parents),
        "message": outcome.message,
        "squashed": [{"commit": info.id, "title": title(info.message)} for info in outcome.squashed],
        "changes": [{"status": change.letter, **path_fields(change.path)} for change in outcome.changes],
        "containers": list(outcome.containers),
    }


VERBS: dict[str, click.Command] = {"rebase": rebase, "squash": squash}
