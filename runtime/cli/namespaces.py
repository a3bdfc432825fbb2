"""unshare."""

from __future__ import annotations

import os

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import verb
from runtime.cli.output import message

_NOT_FOUND, _CANNOT_INVOKE = 127, 126


@verb("unshare", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, metavar="[--] [COMMAND [ARG]...]", type=click.UNPROCESSED)
def unshare(invocation: Invocation, command: tuple[str, ...]) -> int:
    """Run a command in an ordinary user's namespaces.

    An ordinary user's containers and mounts are in namespaces of the store's own, in which he is root over the ids that
    /etc/subuid gives him. There a command, a shell if none is named, sees the mounts, and may read and delete what
    containers or `treering export` wrote with other owners. TREERING_STORE names the store in it, TREERING_MOUNT the
    directory below which all commits are.

    The exit code is the command's; 126 if it cannot be run, 127 if there is none such.

    \b
    Example:
      treering unshare
      treering unshare sh -c 'ls -l $TREERING_MOUNT/branches/main/etc'
      treering unshare rm -rf ./exported
    """
    from fusefs.client import Service
    from runtime.namespace import in_user_namespace, needs
    from runtime.source import OPENER
    from vcs.errors import Denied

    if os.geteuid() == 0 and not in_user_namespace():
        raise click.UsageError("root needs no namespaces of his own: everything is in the machine's")
    store = invocation.store_path
    invocation.store.close()
    invocation.enter_namespaces()
    os.environ["TREERING_STORE"] = str(store)
    try:
        needs.check_device()
    except Denied as error:
        message(f"warning: {error}")
    else:
        lease = Service.ensure(store, opener=OPENER)
        os.set_inheritable(lease.fileno(), True)  # the service stays for as long as the command does
        os.environ["TREERING_MOUNT"] = str(lease.mountpoint)
    words = command[1:] if command[:1] == ("--",) else command
    words = words or (os.environ.get("SHELL") or "/bin/sh",)
    try:
        os.execvp(words[0], words)
    except OSError as error:
        message(f"treering: cannot run {words[0]}: {error.strerror}")
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_INVOKE


VERBS: dict[str, click.Command] = {"unshare": unshare}
