"""The verbs, and what happens around each of them.

A verb's module is imported when the verb is called: `treering --help` imports none of them, and `treering log` nothing
that only containers need. So the names and one-line descriptions are kept here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from runtime import __version__
from runtime.cli.invocation import Invocation
from runtime.cli.options import at_op_option
from runtime.cli.output import FORMATS, Format, message
from vcs.stillborn import stillborn_threads_are_heard

if TYPE_CHECKING:
    from runtime.trash import Trash

COMPLETE_VARIABLE = "_TREERING_COMPLETE"
_SCARCE = (OSError, ImportError, MemoryError)
"""What importing a module fails with where there are no descriptors, or no memory."""
_FAILED = 125
"""runtime.cli.errors.FAILED, for when that cannot be imported."""


class Summary(NamedTuple):
    """A verb, before its module is imported."""

    name: str
    module: str
    help: str


SECTIONS: dict[str, tuple[Summary, ...]] = {
    "Start": (
        Summary("init", "store", "Make an empty store."),
        Summary("import", "importing", "Make commits of a directory, an archive or an image."),
        Summary("pull", "pulling", "Fetch an image from a registry, and make commits of it."),
        Summary("build", "building", "Build a Dockerfile, with a commit for each instruction."),
        Summary("export", "exporting", "Write a commit's files to a directory or an archive."),
        Summary("save", "saving", "Write a commit as an image for Docker, Podman and others."),
        Summary("push", "saving", "Push a commit as an image to a registry."),
    ),
    "Containers": (
        Summary("run", "run", "Run a command in a new container."),
        Summary("create", "run", "Make a container without starting it."),
        Summary("start", "lifecycle", "Start stopped containers again."),
        Summary("stop", "lifecycle", "Stop containers."),
        Summary("restart", "lifecycle", "Stop containers and start them again."),
        Summary("kill", "lifecycle", "Send a signal to containers."),
        Summary("pause", "lifecycle", "Stop all processes of containers where they are."),
        Summary("unpause", "lifecycle", "Let paused containers go on."),
        Summary("wait", "lifecycle", "Wait until containers end, and print their exit codes."),
        Summary("exec", "execution", "Run a further command in a running container."),
        Summary("cp", "copying", "Copy files between a container and the machine."),
        Summary("inspect", "inspection", "Show all that is known of containers or commits."),
        Summary("top", "inspection", "Show the processes of containers."),
        Summary("ps", "containers", "List containers."),
        Summary("logs", "logs", "Show what containers printed."),
        Summary("attach", "logs", "Stand at a running container's input and output."),
        Summary("stats", "metering", "Show what containers use, again and again, or a store in numbers."),
        Summary("metrics", "metering", "Print what containers and the store use, for Prometheus."),
        Summary("update", "updating", "Change what containers may use, and whether they are started again."),
        Summary("rename", "containers", "Give a container another name."),
        Summary("rm", "containers", "Remove containers."),
    ),
    "Networks": (
        Summary("network", "network", "List, make, look at or remove networks."),
        Summary("port", "network", "Show where the machine listens for a container's ports."),
    ),
    "States of a container": (
        Summary("status", "states", "Show what changed in a container since its last commit."),
        Summary("commit", "states", "Commit a container's state."),
        Summary("rollback", "states", "Make a container's root an earlier commit again."),
        Summary("stash", "stash", "Put aside what is changed in a container, and bring it back."),
        Summary("fork", "forking", "Make new containers from a container's current state."),
        Summary("compare", "comparing", "Show containers or commits next to one another."),
        Summary("promote", "forking", "Make a container's state what a branch names."),
    ),
    "History": (
        Summary("log", "history", "List commits, newest first."),
        Summary("show", "history", "Show a commit and what it changed."),
        Summary("diff", "compare", "Show what differs between two commits."),
        Summary("blame", "blame", "Show which commit, command and container last wrote a file."),
        Summary("grep", "searching", "Search the files of commits for a pattern."),
        Summary("bisect", "bisect", "Find the commit that broke something."),
        Summary("branch", "refs", "List, make, move, rename or delete branches."),
        Summary("tag", "refs", "List, make or delete tags."),
        Summary("merge", "merging", "Bring what a branch has into another."),
        Summary("revert", "merging", "Take back what a commit did, in a new commit."),
        Summary("cherry-pick", "merging", "Do on a branch what a commit did elsewhere."),
        Summary("note", "notes", "Write, show or remove notes on commits."),
        Summary("verify-commit", "signing", "Tell what the signatures of commits are worth."),
        Summary("verify-tag", "signing", "Tell what the signatures of tags are worth."),
        Summary("rebase", "rewriting", "Do the commits of a branch again on top of another commit."),
        Summary("squash", "rewriting", "Make one commit of those that a branch has after REV."),
        Summary("reflog", "refs", "Show where a branch has been."),
        Summary("undo", "operations", "Take back what the last command did to branches, tags and containers."),
        Summary("redo", "operations", "Do again what undo took back."),
        Summary("op", "operations", "Look at the operation log, or go back to a point of it."),
    ),
    "Files in a commit": (
        Summary("ls", "files", "List a directory of a commit."),
        Summary("cat", "files", "Print files of a commit."),
        Summary("sbom", "sbom", "Print a commit's packages as a bill of materials."),
        Summary("mount", "mounting", "Show all commits as directories."),
        Summary("umount", "mounting", "Take such a mount away."),
        Summary("unshare", "namespaces", "Run a command in an ordinary user's namespaces."),
    ),
    "Store": (
        Summary("fsck", "fsck", "Check that everything in the store is there and undamaged."),
        Summary("du", "usage", "Show what branches, tags, containers, commits and directories take."),
        Summary("forget", "forget", "Forget old commits of branches."),
        Summary("gc", "collect", "Remove what nothing needs any more."),
        Summary("service", "service", "See, restart or stop the processes that serve the store's files."),
        Summary("completion", "shell", "Print a shell's completion script."),
    ),
}

VERBS = {summary.name: summary for section in SECTIONS.values() for summary in section}


class Program(click.Group):
    """The `treering` command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        summary = VERBS.get(cmd_name)
        if summary is None:
            return None
        module = import_module(f"runtime.cli.{summary.module}")
        command: click.Command = module.VERBS[cmd_name]
        command.short_help = summary.help
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and not name.startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(name, VERBS, 1)
            raise click.UsageError(f"no such command {name!r}" + (f"; do you mean {near[0]!r}?" if near else ""), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, summaries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(summary.name, summary.help) for summary in summaries], col_max=14)

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """What click's test runner calls."""
        sys.exit(run(sys.argv[1:] if args is None else args))


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"treering {__version__}")
        context.exit()


@click.command(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--store", metavar="PATH", type=click.Path(path_type=Path), help="The store to work on.")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="How data and errors are printed.")
@click.option("--no-pager", is_flag=True, help="Print long output without a pager.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print it.")
@click.pass_context
def program(context: click.Context, store: Path | None, format_: Format | None, no_pager: bool) -> None:
    """Git for container root filesystems.

    A container's whole root filesystem is a commit: commit it, diff it, branch it, roll it back.

    \b
    Example:
      treering init
      treering import ./debian --branch main -m "Debian base"
      treering run --name web main -- sh -c 'apt-get update && apt-get install -y nginx-light'
      treering commit web --branch nginx -m "nginx"
      treering diff --stat main nginx
    """
    invocation = context.ensure_object(Invocation)
    invocation.store_option = store or invocation.store_option
    invocation.output.format = format_ or invocation.output.format
    invocation.use_pager = not no_pager


program.params.insert(1, at_op_option())


def run(arguments: Sequence[str], leave: Callable[[Trash], None] = lambda trash: trash.leave()) -> int:
    """Run a command line; returns the exit code. Nothing but an exit code leaves here.

    What it has removed is deleted by `leave`, at the end: who has told somebody the exit code can do that later.
    """
    instruction = os.environ.get(COMPLETE_VARIABLE)
    if instruction:
        from runtime.cli.completion import answer

        return answer(program, instruction)
    invocation = Invocation(arguments)
    with stillborn_threads_are_heard():
        try:
            code = _guarded(invocation, lambda: _do(invocation, arguments))
        finally:
            closed = _guarded(invocation, lambda: _close(invocation, leave))
    return code or closed


def _guarded(invocation: Invocation, work: Callable[[], int]) -> int:
    """Do it, and tell what goes wrong; returns the exit code."""
    try:
        return work()
    except BrokenPipeError:
        return _reader_left()
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as error:
        return _failed(error, invocation)


def _do(invocation: Invocation, arguments: Sequence[str]) -> int:
    code = _invoke(invocation, list(arguments))
    invocation.output.flush()
    sys.stdout.flush()
    return code


def _close(invocation: Invocation, leave: Callable[[Trash], None]) -> int:
    if trash := invocation.close():
        leave(trash)
    return 0


def _invoke(invocation: Invocation, arguments: list[str]) -> int:
    try:
        with program.make_context("treering", arguments, obj=invocation) as context:
            result = program.invoke(context)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        message(error.format_message())
        return 2
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None


def _failed(error: Exception, invocation: Invocation) -> int:
    try:
        return _told(error, invocation)
    except _SCARCE:
        _let_go(error, invocation)
    try:
        return _told(error, invocation)
    except _SCARCE:
        message(f"treering: {str(error) or type(error).__name__}")
        return _FAILED


def _told(error: Exception, invocation: Invocation) -> int:
    from runtime.cli.errors import failure_of, report

    failure = failure_of(error)
    _flush_or_drop()
    try:
        report(failure, _format_for(error, invocation))
    except OSError:
        _flush_or_drop()  # nobody reads stderr any more
    return failure.code


def _let_go(error: BaseException, invocation: Invocation) -> None:
    """Give back what a command has that has failed: descriptors and memory are wanted for telling why."""
    with suppress(Exception):
        invocation.close()
    each: BaseException | None = error
    while each is not None:
        trace = each.__traceback__
        while trace is not None:
            with suppress(RuntimeError):  # it is one that goes on
                trace.tb_frame.clear()
            trace = trace.tb_next
        each = each.__cause__ or each.__context__


def _format_for(error: Exception, invocation: Invocation) -> Format:
    """Where the command line could not be read to its end, --format may stand in the part that was not."""
    context = getattr(error, "ctx", None)
    if context is None or not any(parameter.name == "format" for parameter in context.command.params):
        return invocation.output.format
    words = sys.argv[1:]
    for format_ in FORMATS:
        if f"--format={format_}" in words or ("--format", format_) in pairwise(words):
            return format_
    return invocation.output.format


def _reader_left() -> int:
    """The reader of a pipe (`| head`) has gone: stop, quietly."""
    from runtime.cli.errors import BROKEN_PIPE

    _flush_or_drop()
    return BROKEN_PIPE


def _flush_or_drop() -> None:
    """Hand over what is buffered. What cannot be written is dropped: Python would try again at exit, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            number = stream.fileno()
            os.close(number)  # first, since there may be no other descriptor left
            null = os.open(os.devnull, os.O_WRONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)


def _interrupted() -> int:
    from runtime.cli.errors import INTERRUPTED

    if sys.stderr.isatty():
        message("")
    return INTERRUPTED
