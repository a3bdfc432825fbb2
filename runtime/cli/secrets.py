"""What `commit` and `import` say of secrets in what they add. Never the secrets themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.invocation import Invocation
from runtime.cli.output import message
from runtime.cli.quoting import path_fields, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.secrets import Finding, Policy

F = TypeVar("F", bound="Callable[..., Any]")

_SHOWN = 10
"""So many files are told."""


def allow_secrets_option(command: F) -> F:
    """--allow-secrets."""
    return click.option("--allow-secrets", is_flag=True, help="Do not look for keys and tokens in what is added.")(
        command
    )


def secrets_policy(invocation: Invocation, allowed: bool) -> Policy:
    """What to do about secrets: nothing if they are `allowed`, else what the store says."""
    from runtime.secrets import policy_of

    return "off" if allowed else policy_of(invocation.store.history)


def tell_secrets(findings: Sequence[Finding]) -> None:
    """Warn of files with secrets."""
    for finding in findings[:_SHOWN]:
        message(f"warning: {quoted(finding.path)} holds a secret: {', '.join(finding.kinds)}")
    if len(findings) > _SHOWN:
        message(f"warning: and {len(findings) - _SHOWN:,} files more that hold secrets")


def secret_fields(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The same for JSON."""
    return [{**path_fields(finding.path), "kinds": list(finding.kinds)} for finding in findings]
