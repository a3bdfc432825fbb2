"""mount, umount."""

from __future__ import annotations

from pathlib import Path

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import verb
from runtime.cli.output import message

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@verb("mount")
@click.argument("directory", metavar="DIRECTORY", type=_DIRECTORY)
def mount(invocation: Invocation, directory: Path) -> None:
    """Show all commits as directories.

    DIRECTORY then has commits/, branches/, tags/ and trees/, read-only, for any tool to look at and compare. It is
    made if it is missing.

    \b
    Example:
      treering mount /mnt/t
      diff -r /mnt/t/branches/main/etc /mnt/t/branches/nginx/etc
      treering umount /mnt/t
    """
    from runtime.views import show

    invocation.store.close()
    where = show(invocation.store_path, directory)
    message(f"All commits are below {where}; away: treering umount {where}")


@verb("umount")
@click.argument("directory", metavar="DIRECTORY", type=_DIRECTORY)
def umount(invocation: Invocation, directory: Path) -> None:
    """Take such a mount away.

    \b
    Example:
      treering umount /mnt/t
    """
    from runtime.views import hide

    hide(directory)


VERBS: dict[str, click.Command] = {"mount": mount, "umount": umount}
