"""fork, promote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import author_option, branch_completion, container_argument, verb
from runtime.cli.output import message
from runtime.cli.render_commits import SHORT
from runtime.cli.storehooks import hook_fields, no_verify_option, tell_hooks

if TYPE_CHECKING:
    from runtime.containers import Container
    from vcs.errors import TreeringError


@verb("fork", data=True)
@container_argument()
@click.argument("command", nargs=-1, metavar="[-- COMMAND [ARG]...]", type=click.UNPROCESSED)
@click.option("-n", "--count", type=click.IntRange(min=1), default=1, show_default=True, help="How many.")
@click.option("--name", "stem", metavar="STEM", help="They are called STEM-1, STEM-2...; otherwise NAME-1, NAME-2...")
@click.option("-e", "--env", "environment", multiple=True, metavar="NAME[=VALUE]",
              help="Set an environment variable, or pass on one of yours.")  # fmt: skip
@click.option("--start", "starts", is_flag=True, help="Start them, detached, several at once.")
@click.option("--wait", "waits", is_flag=True, help="Start them, wait until all have ended, and compare them.")
@no_verify_option
def fork(
    invocation: Invocation,
    name: str,
    command: tuple[str, ...],
    count: int,
    stem: str | None,
    environment: tuple[str, ...],
    starts: bool,
    waits: bool,
    no_verify: bool,
) -> int:
    """Make new containers from a container's current state.

    The container may be running. What it has changed becomes a commit, which all of them share. They have its settings,
    with three exceptions: its ports are published on any free ports of the machine, --rm is not taken over, and those
    that are given a COMMAND are not started again when it ends. What it mounts from the machine is theirs too, and not
    forked.

    In COMMAND and in the values of -e, {i} is a fork's number, from 1 on, {n} how many there are, and {name} its name;
    {{i}} stands for {i}.

    Prints their names, or with --wait what `treering compare` tells of them. The exit code is 125 if one cannot be
    started; with --wait it is 1 if one did not end with 0.

    \b
    Example:
      treering fork web --count 5
      treering fork web --count 3 --name shard --start -e SHARD={i}/{n}
      treering fork web -n 20 --name try --wait -- sh -c './configure --seed {i} && make check'
    """
    from runtime.cli.variables import environment_of
    from runtime.forking import Plan
    from runtime.forking import fork as make_forks

    starts = starts or waits
    invocation.enter_namespaces(to_mount=starts)
    source = invocation.containers.find(name)
    plan = Plan(count, stem or source.name, command, environment_of(environment, ()))
    made = make_forks(invocation.containers, source, plan, invocation.author(), verify=not no_verify)
    failed = _start(invocation, made) if starts else {}
    if waits:
        return _wait(invocation, made)
    output = invocation.output

    def fields(container: Container) -> dict[str, Any]:
        error = failed.get(container.id)
        told = {"started": error is None, "error": str(error) if error else None} if starts else {}
        return {"name": container.name, "id": container.id, "commit": container.base, **told}

    def table(containers: Any) -> None:
        for container in containers:
            output.line(container.name)

    output.rows(made, fields, table)
    return 125 if failed else 0


def _start(invocation: Invocation, made: list[Container]) -> dict[str, TreeringError]:
    """Start them all, and tell of those that could not be; why, by their ids."""
    from runtime.starting import start_many

    failed = {}
    for container, error in start_many(invocation.containers, made, invocation.author()):
        if error:
            failed[container.id] = error
            message(f"{container.name} could not be started: {error}")
    if failed:
        message(f"{len(failed)} of {len(made)} were not started; once more: treering start NAME")
    return failed


def _wait(invocation: Invocation, made: list[Container]) -> int:
    """Wait for all of them, and compare them with what they were forked from."""
    from runtime.cli.comparing import write_comparison
    from runtime.comparing import Subject
    from runtime.running import wait
    from runtime.state import Exited, state_of

    for container in made:
        wait(container, patience=float("inf"))
    base = Subject(made[0].base[:SHORT], made[0].base)
    write_comparison(invocation, base, [Subject(container.name, container.base, container) for container in made])
    states = [state_of(container.paths.directory) for container in made]
    return 0 if all(isinstance(state, Exited) and state.code == 0 for state in states) else 1


@verb("promote", data=True, namespaces="enter")
@container_argument()
@click.option("-b", "--branch", required=True, metavar="BRANCH", shell_complete=branch_completion,
              help="The branch; it is made if need be.")  # fmt: skip
@click.option("-m", "--message", "text", metavar="MESSAGE", help="Why; otherwise, that it was promoted.")
@author_option
@click.option("-f", "--force", is_flag=True, help="Move the branch also if it has commits that the container has not.")
@no_verify_option
def promote(
    invocation: Invocation,
    name: str,
    branch: str,
    text: str | None,
    author: str | None,
    force: bool,
    no_verify: bool,
) -> None:
    """Make a container's state what a branch names.

    What the container has changed becomes a commit, if anything has, and the branch moves to it. The container may be
    running; it goes on. A branch that has moved on since the container was made is left alone, unless you say --force;
    then you are told where it was. Prints the commit's id.

    \b
    Example:
      treering promote shard-3 --branch main -m "The build that works"
    """
    from runtime.forking import promote as promote_container

    container = invocation.containers.find(name)
    why = (text or "").strip() or f"Promote {container.name}"
    who = invocation.author(author)
    done = promote_container(invocation.containers, container, branch, why, who, force=force, verify=not no_verify)
    output = invocation.output
    if not output.is_table:
        output.value({"commit": done.commit, "branch": branch, "before": done.before, "hooks": hook_fields(done.hooks)})
        return
    output.line(done.commit)
    output.flush()
    tell_hooks(done.hooks)
    if done.before == done.commit:
        message(f"{branch} is at {done.commit[:SHORT]} already, which is what {container.name} holds")
        return
    back = f"; back: treering branch -f {branch} {done.before[:SHORT]}" if done.before else ""
    message(f"{branch} is at {done.commit[:SHORT]} now, the state of {container.name}{back}")


VERBS: dict[str, click.Command] = {"fork": fork, "promote": promote}
