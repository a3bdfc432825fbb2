"""status, commit, rollback."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import click

from runtime.cli.author import user_trailer
from runtime.cli.invocation import Invocation
from runtime.cli.options import (
    author_option,
    branch_completion,
    container_argument,
    dry_run_option,
    revision_argument,
    verb,
)
from runtime.cli.output import message, size_text
from runtime.cli.quoting import quoted
from runtime.cli.render_changes import change_fields, summary, write_changes, write_names
from runtime.cli.render_commits import SHORT, title
from runtime.cli.secrets import allow_secrets_option, secret_fields, secrets_policy, tell_secrets
from runtime.cli.signing import sign_commits, sign_options
from runtime.cli.storehooks import hook_fields, no_verify_option, tell_hooks

if TYPE_CHECKING:
    from runtime.commits import CommitResult
    from runtime.containers import Container
    from runtime.packages.report import Pair
    from vcs.model import CommitId


@verb("status", data=True, namespaces="enter")
@container_argument()
@click.option("-z", "zero", is_flag=True, help="End each field with a NUL, and quote nothing.")
@click.option("--packages", is_flag=True, help="Which packages came, went and changed.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything changed.")
def status(invocation: Invocation, name: str, zero: bool, packages: bool, exit_code: bool) -> int:
    """Show what changed in a container since its last commit.

    Letters: A added, M modified, D deleted, R renamed, T of another type. `treering diff NAME` shows more.

    \b
    Example:
      treering status web
      treering status --format jsonl web
    """
    if packages and zero:
        raise click.UsageError("--packages and -z exclude one another")
    container = invocation.containers.find(name)
    if packages:
        return _package_status(invocation, container, exit_code)
    head = invocation.states.head(container)
    changes = invocation.states.changes(container)
    output = invocation.output
    if zero and output.is_table:
        write_names(output, changes, status=True, zero=True)
    else:
        output.rows(changes, change_fields, lambda rows: write_changes(output, rows))
    output.flush()
    if output.is_table:
        message(f"{container.name} is clean: nothing differs from {head[:SHORT]}" if not changes else summary(changes))
        if (merging := container.record.merging) is not None:
            name = container.name
            message(f"A merge into {merging.branch} is under way: `treering merge --status {name}` tells what is left")
    return 1 if exit_code and changes else 0


def _package_status(invocation: Invocation, container: Container, exit_code: bool) -> int:
    from runtime.cli.render_packages import package_summary, write_report
    from runtime.packages.report import package_report

    def opened(wanted: Collection[bytes]) -> Pair:
        return invocation.states.compare(container, wanted=wanted)

    report = package_report(opened(()), opened)
    write_report(invocation.output, report)
    if invocation.output.is_table:
        message(f"{container.name}: {package_summary(report.changes)}")
    return 1 if exit_code and report else 0


@verb("commit", data=True, namespaces="enter")
@container_argument()
@click.option("-m", "--message", "texts", required=True, multiple=True, metavar="MESSAGE",
              help="Why; given again, a further paragraph.")  # fmt: skip
@click.option("-b", "--branch", metavar="BRANCH", shell_complete=branch_completion,
              help="A branch that gets the commit; it is made if need be.")  # fmt: skip
@author_option
@click.option("--allow-empty", is_flag=True, help="Make a commit even if nothing changed.")
@click.option("-p/ ", "--pause/--no-pause", default=True, help="Let a running container stand still while it is read.")
@click.option("--pre-hook", metavar="COMMAND", help="Run in the container before: to write down what is in memory.")
@click.option("--post-hook", metavar="COMMAND", help="Run in the container as soon as it goes on.")
@click.option("-c", "--change", "lines", multiple=True, metavar="LINE",
              help="Change the image config, by a line of a Dockerfile: 'CMD [\"nginx\"]'.")  # fmt: skip
@click.option("--squash", is_flag=True, help="One commit on what the container was made from, for all since.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out what matches, as in a gitignore file.")
@allow_secrets_option
@sign_options
@no_verify_option
def commit(
    invocation: Invocation,
    name: str,
    texts: tuple[str, ...],
    branch: str | None,
    author: str | None,
    allow_empty: bool,
    pause: bool,
    pre_hook: str | None,
    post_hook: str | None,
    lines: tuple[str, ...],
    squash: bool,
    exclude: tuple[str, ...],
    allow_secrets: bool,
    sign: bool | None,
    key: str | None,
    no_verify: bool,
) -> None:
    """Commit a container's state.

    The commit's parent is the container's last one. The container may be running: it stands still for a moment, you are
    told how long, so that all files are as they were at once; then it goes on. With --no-pause each file is as it was
    when it was read. Prints the commit's id.

    A program that keeps data in memory is told to write it down by --pre-hook; if that fails, nothing is committed.

    You are warned of private keys, tokens and credentials in what the commit adds; `git config treering.secrets refuse`
    in the store's history.git has it refused instead, but for --allow-secrets, and `off` does not look.

    What --exclude matches is not read, and not in the commit: there it is as in the container's last one. In
    the container it stays, as a change.

    With --sign, or where git's commit.gpgSign says so, it is signed with an SSH key (docs/signatures.md).
    The store's hook pre-commit, if there is one, is run first and may refuse the commit, but for --no-verify; the hook
    post-commit is run after it.

    With --change, CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, WORKDIR, VOLUME, STOPSIGNAL and HEALTHCHECK are set for
    containers that are made from the commit.

    \b
    Example:
      treering commit web -m "nginx" --branch nginx
      treering commit web -m "before the upgrade"
      treering commit web -m "all but the keys" --exclude /root/.ssh
      treering commit cache -m "with data" --pre-hook 'redis-cli save'
      treering commit web -m "ready to run" -c 'CMD ["nginx", "-g", "daemon off;"]' -c 'EXPOSE 80' --squash
    """
    container = invocation.containers.find(name)
    text = "\n\n".join(part.strip() for part in texts)
    if not text.strip():
        raise click.BadParameter("the message is empty", param_hint="--message")
    sign_commits(invocation, sign, key)
    from runtime.imagechange import image_change
    from vcs.ignore import Patterns

    result = invocation.states.commit(
        container,
        text,
        invocation.author(author),
        branch=branch,
        allow_empty=allow_empty,
        trailers=user_trailer(),
        changes=[image_change(lines)] if lines else (),
        squash=squash,
        pause=pause,
        secrets=secrets_policy(invocation, allow_secrets),
        pre_hook=pre_hook,
        post_hook=post_hook,
        verify=not no_verify,
        exclude=Patterns(("--exclude", pattern) for pattern in exclude) if exclude else None,
    )
    output = invocation.output
    if not output.is_table:
        output.value(
            {
                "commit": result.commit,
                "made": result.made,
                "branch": branch,
                "changes": len(result.changes),
                "added": result.added,
                "unsteady": [quoted(path) for path in result.unsteady],
                "pause_ms": None if result.paused is None else round(result.paused * 1000, 1),
                "failed_hook": result.failed_hook,
                "secrets": secret_fields(result.secrets),
                "hooks": hook_fields(result.hooks),
            }
        )
        return
    output.line(result.commit)
    output.flush()
    where = f"{branch or container.name} {result.commit[:SHORT]}"
    if result.made:
        grown = f"the store grew by {size_text(result.added)}"
        message(f"[{where}] {title(text)}: {summary(result.changes)}; {grown}{_paused(result)}")
    else:
        message(f"Nothing has changed: [{where}] says it already{_paused(result)}")
    if result.failed_hook is not None:
        message(f"warning: the hook after the pause failed: {result.failed_hook}")
    tell_secrets(result.secrets)
    tell_hooks(result.hooks)
    for path in result.unsteady:
        message(f"warning: {quoted(path)} was written to while it was read; commit again when it rests")


def _paused(result: CommitResult) -> str:
    return "" if result.paused is None else f"; paused for {result.paused * 1000:.0f} ms"


@verb("rollback", namespaces="enter")
@container_argument()
@revision_argument(required=False)
@click.option("--undo", is_flag=True, help="Return to the state before the last rollback.")
@dry_run_option
def rollback(invocation: Invocation, name: str, revision: str | None, undo: bool, dry_run: bool) -> None:
    """Make a container's root an earlier commit again.

    Nothing is destroyed: the state until now, committed or not, is kept, and --undo returns to it. The container must
    not be running. `@{1}` is where it was one commit or rollback ago (`web@{1}` in other commands), `web~1` the commit
    before its last one. The store's hook post-rollback is run, if there is one.

    \b
    Example:
      treering rollback web main
      treering rollback web @{1}
      treering rollback web --undo
    """
    if undo == (revision is not None):
        raise click.UsageError("give either REV or --undo")
    container = invocation.containers.find(name)
    name = container.name
    if revision is not None:
        target = invocation.commit(revision, container)
        if dry_run:
            message(f"{name} would be at {target[:SHORT]}")
            return
        before = invocation.states.head(container)
        now = invocation.states.rollback(container, target, invocation.author())
        message(f"{name} is at {target[:SHORT]} now; back: treering rollback {name} --undo")
        _rolled_back(invocation, now, before)
    elif dry_run:
        previous = container.record.generation.previous
        message(f"{name} has not been rolled back" if previous is None else f"{name} would be as before the rollback")
    else:
        before = invocation.states.head(container)
        now = invocation.states.undo_rollback(container)
        head = invocation.states.head(now)
        message(f"{name} is on {head[:SHORT]} again, as before; back: treering rollback {name} --undo")
        _rolled_back(invocation, now, before)


def _rolled_back(invocation: Invocation, container: Container, before: CommitId) -> None:
    from runtime.storehooks import Event, run_after

    event = Event(invocation.states.head(container), before, container)
    tell_hooks(run_after(invocation.store.path, "post-rollback", event))


VERBS: dict[str, click.Command] = {"status": status, "commit": commit, "rollback": rollback}
