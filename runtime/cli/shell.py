"""completion."""

from __future__ import annotations

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import verb


@verb("completion")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(invocation: Invocation, shell: str) -> None:
    """Print a shell's completion script.

    With it, the shell completes verbs, options, branches, tags, containers and paths inside commits.

    \b
    Example:
      treering completion bash > /etc/bash_completion.d/treering
      treering completion zsh > "${fpath[1]}/_treering"
      treering completion fish > ~/.config/fish/completions/treering.fish
    """
    from runtime.cli.completion import script

    invocation.output.raw(script(shell))


VERBS: dict[str, click.Command] = {"completion": completion}
