"""mount, umount."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import verb
from runtime.cli.output import message
from runtime.namespace import in_user_namespace

if TYPE_CHECKING:
    from runtime.views import Driver

_DIRECTORY = click.Path(path_type=Path, file_okay=False, readable=False)


@verb("mount")
@click.argument("directory", metavar="DIRECTORY", type=_DIRECTORY)
@click.option(
    "--driver",
    type=click.Choice(("auto", "native", "libfuse")),
    default="auto",
    show_default=True,
    help="What serves the files; see above.",
)
def mount(invocation: Invocation, directory: Path, driver: Driver) -> None:
    """Show all commits as directories.

    DIRECTORY then has branches/, tags/, commits/ and containers/ (what is below what a container wrote), read-only,
    for any tool to look at and compare. In at/TIME/ branches are as they were at a time, such as 2026-11-01T12:30, in
    UTC unless it says otherwise. The same path below .treering/ is a file that tells which commit it is, its root,
    author, date and message. What is made later is there too. DIRECTORY is made if it is missing.

    The native driver needs the right to mount: an ordinary user has it in the store's namespaces, where `treering
    unshare` shows what he mounted. libfuse mounts for any user, in an empty DIRECTORY, which only he sees into; it
    needs fusermount and the library libfuse.so.2. auto is native for root, and libfuse for others, so that they see it
    where they are; and else the other one.

    \b
    Example:
      treering mount /mnt/t
      diff -r /mnt/t/branches/main/etc /mnt/t/branches/nginx/etc
      ls /mnt/t/at/2026-11-01/main/etc
      cat /mnt/t/.treering/branches/main
      treering umount /mnt/t
    """
    from runtime.views import show

    invocation.store.close()
    ordinary = os.geteuid() != 0
    enter = partial(invocation.enter_namespaces, to_mount=True) if ordinary else None
    where = show(invocation.store_path, directory, driver, enter)
    message(f"All commits are below {where}; away: treering umount {where}")
    if in_user_namespace():
        message("It is there in the store's namespaces only: look at it with `treering unshare`")


@verb("umount")
@click.argument("directory", metavar="DIRECTORY", type=_DIRECTORY)
def umount(invocation: Invocation, directory: Path) -> None:
    """Take such a mount away.

    \b
    Example:
      treering umount /mnt/t
    """
    from runtime.namespace.door import are_there
    from runtime.views import hide, is_shown

    if not is_shown(directory) and are_there(invocation.store_path):
        invocation.enter_namespaces()
    hide(directory)


VERBS: dict[str, click.Command] = {"mount": mount, "umount": umount}
