"""What verbs share: --store, --format, and how arguments are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from click.shell_completion import CompletionItem

from runtime.cli.invocation import Invocation
from runtime.cli.output import FORMATS
from vcs.errors import ReadOnly

F = TypeVar("F", bound=Callable[..., Any])

pass_invocation = click.make_pass_decorator(Invocation)


def _completer(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from runtime.cli.completion import candidates

        return candidates(context, kind, incomplete)

    return complete


def _set_store(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(Invocation).store_option = value


def _set_format(context: click.Context, _: click.Parameter, value: Any) -> None:
    if value in FORMATS:
        context.ensure_object(Invocation).output.format = value
    elif value is not None:
        context.meta["format"] = value


def _set_at_op(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Invocation).at_op = value


def at_op_option() -> click.Option:
    """--at-op, of a verb that can look at the past, and of the program."""
    return click.Option(
        ["--at-op"],
        metavar="OP",
        expose_value=False,
        is_eager=True,
        callback=_set_at_op,
        shell_complete=_completer("operation"),
        help="Look at branches, tags and containers as they were after this operation of `treering op log`.",
    )


_STORE = click.Option(
    ["--store"],
    metavar="PATH",
    type=click.Path(path_type=Path),
    expose_value=False,
    is_eager=True,
    callback=_set_store,
    help="The store; otherwise TREERING_STORE, otherwise the user's own.",
)


def _format_option(more: Sequence[str]) -> click.Option:
    return click.Option(
        ["--format"],
        type=click.Choice((*FORMATS, *more)),
        expose_value=False,
        is_eager=True,
        callback=_set_format,
        help="For people, or for programs: one JSON value, or a JSON object a line."
        + "".join(f" Or as {name} has it." for name in more),
    )


class PathVerb(click.Command):
    """A command that knows where `--` stood: what follows it is in `context.meta["after_dashes"]`, and nowhere else."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            position = args.index("--")
            ctx.meta["after_dashes"] = args[position + 1 :]
            args = args[:position]
        return super().parse_args(ctx, args)


def verb(
    name: str,
    *,
    data: bool = False,
    namespaces: Literal["no", "enter", "mount"] = "no",
    store_option: bool = True,
    formats: Sequence[str] = (),
    past: bool = False,
    cls: type[click.Command] = click.Command,
    **settings: Any,
) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a verb: a click command with --store, unless it has one of its own, and --format if it prints data.

    `formats`: further ones that only this verb has; `context.meta["format"]` is the one that is wanted, if any is.

    `namespaces`: whether an ordinary user's process enters the store's namespaces before the verb begins ("enter": it
    reads or removes what containers wrote; "mount": it needs the service's mount too). Verbs that only sometimes do
    call Invocation.enter_namespaces themselves. `past`: it can look at the store as it was after an operation, and has
    --at-op; what it would change then is refused by the store.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        @wraps(function)
        def begin(invocation: Invocation, *args: Any, **kwargs: Any) -> Any:
            if invocation.at_op is not None and not past:
                raise _no_past(name, invocation.at_op)
            if namespaces != "no":
                invocation.enter_namespaces(to_mount=namespaces == "mount")
            return function(invocation, *args, **kwargs)

        command = click.command(name, cls=cls, **settings)(pass_invocation(begin))
        command.params += [
            *([_format_option(formats)] if data else []),
            *([_STORE] if store_option else []),
            *([at_op_option()] if past else []),
        ]
        return command

    return decorate


def add_common_options(group: click.Group) -> None:
    """Let --store and --format stand in front of a group's verbs too."""
    group.params += [_format_option(()), _STORE]


def _no_past(name: str, operation: str) -> ReadOnly:
    message = f"{name} does not go with --at-op, which is for looking at the history as it was: nothing was changed"
    return ReadOnly(message, at_operation=operation)


def revision_argument(name: str = "revision", **settings: Any) -> Callable[[F], F]:
    """An argument that is a revision: completed with branches, tags and containers."""
    settings.setdefault("metavar", "REV" if settings.get("required", True) else "[REV]")
    return click.argument(name, shell_complete=_completer("revision"), **settings)


def file_argument(name: str, **settings: Any) -> Callable[[F], F]:
    """An argument REV:PATH."""
    settings.setdefault("metavar", "REV:PATH")
    return click.argument(name, shell_complete=_completer("file"), **settings)


def place_argument(name: str, **settings: Any) -> Callable[[F], F]:
    """An argument that may be NAME:PATH or REV:PATH, or a file of the machine."""
    return click.argument(name, shell_complete=_completer("place"), **settings)


def operation_argument(name: str = "operation", **settings: Any) -> Callable[[F], F]:
    """An argument that is an operation, as `op log` prints it."""
    settings.setdefault("metavar", "ID")
    return click.argument(name, shell_complete=_completer("operation"), **settings)


def container_argument(name: str = "name", **settings: Any) -> Callable[[F], F]:
    """An argument that is a container's name or the start of its id."""
    return click.argument(name, metavar="NAME", shell_complete=_completer("container"), **settings)


def branch_completion(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For options and arguments that are a branch."""
    return _completer("branch")(context, parameter, incomplete)


def tag_completion(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For arguments that are a tag."""
    return _completer("tag")(context, parameter, incomplete)


def container_completion(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For options that are a container."""
    return _completer("container")(context, parameter, incomplete)


def author_option(command: F) -> F:
    """--author."""
    return click.option("--author", metavar="'NAME <EMAIL>'", help="Instead of the usual author.")(command)


def dry_run_option(command: F) -> F:
    """--dry-run."""
    return click.option("--dry-run", is_flag=True, help="Only tell what would be done.")(command)
