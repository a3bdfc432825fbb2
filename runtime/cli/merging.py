"""merge, revert, cherry-pick."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.author import user_trailer
from runtime.cli.invocation import Invocation
from runtime.cli.options import author_option, branch_completion, dry_run_option, revision_argument, verb
from runtime.cli.output import count_text, message
from runtime.cli.quoting import path_fields, safe
from runtime.cli.render_changes import summary
from runtime.cli.render_commits import SHORT, title
from runtime.cli.render_conflicts import conflict_fields, stale_fields, warn_of_stale, write_conflicts
from runtime.cli.rewriting import checked_message, favour_of
from runtime.cli.signing import sign_commits, sign_options
from runtime.cli.storehooks import hook_fields, no_verify_option, tell_hooks
from vcs.gitwords import BRANCHES, TAGS

if TYPE_CHECKING:
    from runtime.branches.merging import Outcome, Wish
    from runtime.storehooks import HookRun
    from vcs.history import Author
    from vcs.merging import Favour
    from vcs.model import CommitId
    from vcs.store import Store

F = TypeVar("F", bound=Callable[..., Any])


def _branch_option(name: str, text: str) -> Callable[[F], F]:
    return click.option(name, "branch", default="main", show_default=True, metavar="BRANCH", help=text,
                        shell_complete=branch_completion)  # fmt: skip


def _wish_options(command: F) -> F:
    """What merge, revert and cherry-pick have in common."""
    for option in reversed(
        [
            click.option("--ours", is_flag=True, help="In conflicts, and nowhere else, take what the branch has."),
            click.option("--theirs", is_flag=True, help="In conflicts, and nowhere else, take what comes in."),
            click.option(
                "--into", metavar="CONTAINER", help="Let it wait in a new container, for conflicts to be settled there."
            ),
            click.option(
                "--run",
                "command",
                metavar="COMMAND",
                help="A shell command to run in a container on it first, to make stale files anew.",
            ),
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
@revision_argument(required=False, metavar="[REV | CONTAINER]")
@_branch_option("--on", "The branch that gets the merge.")
@click.option("--no-ff", is_flag=True, help="Make a commit also where moving the branch would do.")
@_wish_options
@click.option("--continue", "step", flag_value="continue", help="Make a commit of the merge that waits in CONTAINER.")
@click.option("--abort", "step", flag_value="abort", help="End it, and the container.")
@click.option("--status", "step", flag_value="status", help="List what is still to be settled in it.")
@click.option("-c", "--change", "lines", multiple=True, metavar="LINE",
              help="With --continue: change the image config, as with commit.")  # fmt: skip
def merge(
    invocation: Invocation,
    revision: str | None,
    branch: str,
    no_ff: bool,
    step: str | None,
    lines: tuple[str, ...],
    **asked: Any,
) -> int:
    """Bring what a branch has into another.

    What both did since their last common commit comes together in a commit with two parents; a branch that has nothing
    of its own is only moved. A file's content and its attributes are merged separately, texts by their lines, databases
    of users and packages by their records. What both changed and cannot both be had is a conflict: all of them are
    listed, the exit code is 1, and nothing is changed, unless --ours or --theirs says whose is taken there.

    With --into CONTAINER, the merge waits in a new container, with both sides of each conflict beside each other
    (FILE.ours, FILE.theirs, FILE.base; in FILE, both sides' lines between markers). Enter it, make FILE what it is to
    be, and remove the files beside it. When nothing is left to be settled, --continue commits the container's state,
    and moves the branch; --abort leaves everything as it was. Where one merge alone is under way, its container need
    not be named. Conflicts of the image config are settled by --ours or --theirs with --continue.

    Files that are made of others, such as the linker's cache, are left as the branch has them, and you are told which
    commands make them anew. --run COMMAND has one run in a container on the merge, and what it changes is in the merge;
    if it fails, nothing is merged. docs/merging.md has the rules.

    \b
    Example:
      treering merge nginx
      treering merge --dry-run nginx --on staging
      treering merge nginx --theirs -m "nginx, and its idea of the configuration"
      treering merge nginx --run ldconfig
      treering merge nginx --into m
      treering start -d m
      treering exec -it m sh
      treering merge --continue
    """
    from runtime.branches.merging import merge as merge_commit

    if step is not None:
        from runtime.cli.resolving import Step, take

        _check_step(asked, no_ff, step)
        favour = _favour(asked)
        step_wanted = Step(
            step, revision, asked["author"], favour, asked["text"], lines, asked["dry_run"], not asked["no_verify"]
        )
        if step == "continue":
            sign_commits(invocation, asked["sign"], asked["key"])
        return take(invocation, step_wanted)
    if revision is None:
        raise click.UsageError("give REV: what is to be merged")
    if lines:
        raise click.UsageError("--change goes with --continue")
    wish = _wish(invocation, branch, asked, fast_forward=not no_ff)
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
    from runtime.branches.merging import revert as work

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
    from runtime.branches.merging import cherry_pick as work

    return _do(invocation, work, revision, branch, mainline, asked)


def _do(
    invocation: Invocation,
    work: Callable[[Store, CommitId, Wish, Author, int | None], Outcome],
    revision: str,
    branch: str,
    mainline: int | None,
    asked: dict[str, Any],
) -> int:
    wish = _wish(invocation, branch, asked)
    commit = invocation.commit(revision)
    return _tell(invocation, work(invocation.store, commit, wish, invocation.author(asked["author"]), mainline), wish)


def _wish(invocation: Invocation, branch: str, asked: dict[str, Any], fast_forward: bool = True) -> Wish:
    """What the options ask for that the three have in common."""
    from runtime.branches.merging import Wish

    into, command = asked["into"], asked["command"]
    if into is not None and command is not None:
        raise click.UsageError("--into and --run exclude one another: run it in the container, then continue")
    if into is not None or command is not None:
        invocation.enter_namespaces(to_mount=command is not None)
    if into is not None and invocation.store.history.target(BRANCHES + into) is not None:
        raise click.UsageError(f"--into names a container, and {into!r} is a branch: --on {into} merges into that")
    if into is None:
        sign_commits(invocation, asked["sign"], asked["key"])
    elif asked["sign"] or asked["key"]:
        raise click.UsageError("--sign goes with --continue: what waits in a container is no commit yet")
    return Wish(
        branch, _favour(asked), fast_forward, asked["text"], asked["dry_run"],
        trailers=user_trailer(), verify=not asked["no_verify"], into=into, run=command,
    )  # fmt: skip


def _favour(asked: dict[str, Any]) -> Favour:
    """The side that is asked for; looks at the message too."""
    checked_message(asked["text"])
    return favour_of(asked["ours"], asked["theirs"])


def _check_step(asked: dict[str, Any], no_ff: bool, step: str) -> None:
    """Whether the options go with what is to be done with a merge that is under way."""
    wrong = {"--into": asked["into"], "--run": asked["command"], "--no-ff": no_ff}
    if step != "continue":
        wrong |= {"--ours": asked["ours"], "--theirs": asked["theirs"], "--message": asked["text"]}
    for name, given in wrong.items():
        if given:
            raise click.UsageError(f"{name} does not go with --{step}")


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
    hooks = outcome.hooks + (() if wish.dry_run else _after(invocation, outcome, wish))
    if not output.is_table:
        output.value({**_fields(outcome, wish), "hooks": hook_fields(hooks)})
        return 1 if outcome.how == "conflicts" else 0
    if outcome.conflicts:
        write_conflicts(output, outcome.conflicts)
    if outcome.container is not None:
        message(_said_of_container(outcome))
        warn_of_stale(outcome.stale, outcome.container)
        return 1 if outcome.how == "conflicts" else 0
    if outcome.how == "conflicts":
        message(
            f"{count_text(len(outcome.conflicts), 'conflict')}: nothing was changed. --ours or --theirs decides all of "
            "them for one side, --into CONTAINER lets you settle them one by one; what only one side changed is in the "
            "merge in any case"
        )
        return 1
    if outcome.commit is not None and not wish.dry_run:
        output.line(outcome.commit)
        output.flush()
    message(_said(outcome, wish))
    warn_of_stale(outcome.stale)
    tell_hooks(hooks)
    return 0


def _after(invocation: Invocation, outcome: Outcome, wish: Wish) -> tuple[HookRun, ...]:
    from runtime.storehooks import Event, run_after

    if outcome.commit is None or outcome.commit == outcome.before or wish.run is not None:
        return ()
    event = Event(outcome.commit, outcome.before, branch=outcome.branch, changes=lambda: outcome.changes)
    return run_after(invocation.store.path, "post-merge", event)


def _said_of_container(outcome: Outcome) -> str:
    name, branch = safe(outcome.container or ""), safe(outcome.branch)
    if outcome.how == "conflicts":
        count = count_text(len(outcome.conflicts), "conflict")
        what = f"{count} to be settled in container {name}, where both sides stand beside each other"
    else:
        what = f"The merge waits in container {name}: {summary(outcome.changes)}"
    return (
        f"{what}; {branch} is as it was. Enter it: `treering start -d {name}`, `treering exec -it {name} sh`; "
        f"then `treering merge --continue {name}`, or --abort"
    )


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


def _fields(outcome: Outcome, wish: Wish) -> dict[str, Any]:
    return {
        "outcome": outcome.how,
        "branch": outcome.branch,
        "before": outcome.before,
        "commit": outcome.commit,
        "base": outcome.base,
        "theirs": outcome.theirs,
        "container": outcome.container,
        "changes": [{"status": change.letter, **path_fields(change.path)} for change in outcome.changes],
        "conflicts": [{**conflict_fields(conflict), "taken": wish.favour} for conflict in outcome.conflicts],
        "stale": stale_fields(outcome.stale),
    }


VERBS: dict[str, click.Command] = {"merge": merge, "revert": revert, "cherry-pick": cherry_pick}
