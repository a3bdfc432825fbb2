"""What verbs say of the hooks in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.output import message
from runtime.cli.quoting import safe

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.storehooks import HookRun

F = TypeVar("F", bound="Callable[..., Any]")


def no_verify_option(command: F) -> F:
    """--no-verify."""
    return click.option("--no-verify", is_flag=True, help="Do not ask the store's hook that may refuse it.")(command)


def tell_hooks(runs: Sequence[HookRun]) -> None:
    """What hooks said, and a warning of those that failed or were not run."""
    for run in runs:
        said = f": {safe(run.said)}" if run.said else ""
        if run.code is None:
            message(f"warning: the hook {run.name} was not run{said}")
        elif run.code:
            message(f"warning: the hook {run.name} failed with exit code {run.code}{said}")
        elif said:
            message(f"{run.name}{said}")


def hook_fields(runs: Sequence[HookRun]) -> list[dict[str, Any]]:
    """The same for JSON."""
    return [{"hook": run.name, "exit_code": run.code, "output": run.said} for run in runs]
