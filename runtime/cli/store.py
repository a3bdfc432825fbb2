"""init."""

from __future__ import annotations

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import verb
from runtime.cli.output import message


@verb("init", data=True)
def init(invocation: Invocation) -> None:
    """Make an empty store.

    Only the user who makes it can read it: it will hold setuid files and secrets of the systems that are imported.

    \b
    Example:
      treering init
      treering --store /srv/roots init
    """
    from vcs.store import Store

    path = invocation.store_path
    Store.create(path).close()
    if invocation.output.is_table:
        message(f"Made an empty store in {path}")
    else:
        invocation.output.value({"store": str(path)})


VERBS: dict[str, click.Command] = {"init": init}
