"""mount, umount, service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import verb
from runtime.cli.output import count_text, message
from runtime.cli.progress import duration_text

if TYPE_CHECKING:
    from runtime.views import Driver

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@verb("mount")
@click.argument("directory", metavar="DIRECTORY", type=_DIRECTORY)
@click.option(
    "--driver",
    type=click.Choice(("auto", "native", "libfuse")),
    default="auto",
    show_default=True,
    help="What serves the files: native is faster and needs the right to mount; libfuse works for any user.",
)
def mount(invocation: Invocation, directory: Path, driver: Driver) -> None:
    """Show all commits as directories.

    DIRECTORY then has commits/, branches/, tags/ and trees/, read-only, for any tool to look at and compare. It is
    made if it is missing. With libfuse it must be empty, and only the user who mounts sees what is in it.

    \b
    Example:
      treering mount /mnt/t
      diff -r /mnt/t/branches/main/etc /mnt/t/branches/nginx/etc
      treering umount /mnt/t
    """
    from runtime.views import show

    invocation.store.close()
    where = show(invocation.store_path, directory, driver)
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


@verb("service", data=True)
@click.argument("what", metavar="[status|stop]", type=click.Choice(("status", "stop")), default="status")
@click.option("-f", "--force", is_flag=True, help="With stop: even if it is in use. Whoever is inside is served on.")
def service(invocation: Invocation, what: str, force: bool) -> None:
    """See or stop the process that serves the store's files.

    One process serves all containers and mounts of a store. It starts when it is needed and ends when it is not; nobody
    has to do either.

    \b
    Example:
      treering service
      treering service stop
    """
    from fusefs.client import Service

    output = invocation.output
    store = invocation.store_path
    invocation.store.close()
    if what == "stop":
        if not Service.stop(store, force):
            message("The service has left its place; it serves those who are inside until they are gone")
        return
    status = Service.status(store)
    if not output.is_table:
        output.value({"running": status is not None, **(status or {})})
    elif status is None:
        output.line("not running")
    else:
        users = count_text(status["leases"], "user")
        output.line(f"running as process {status['pid']} at {status['mountpoint']}")
        output.line(
            f"{users}, {count_text(status['nodes'], 'file')} known to the kernel, "
            f"{count_text(status['messages'], 'request')}, idle for {duration_text(status['idle'])}"
        )


VERBS: dict[str, click.Command] = {"mount": mount, "umount": umount, "service": service}
