"""update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, verb
from runtime.cli.output import message, size_text
from runtime.cli.quantities import MEMORY, PROCESSES, PROCESSORS, RESTART
from runtime.settings import Limits, Restart
from vcs.errors import TreeringError

if TYPE_CHECKING:
    from runtime.containers import Container
    from runtime.settings import Settings


@verb("update", data=True)
@container_argument("names", nargs=-1, required=True)
@click.option("-m", "--memory", type=MEMORY, metavar="BYTES", help="Memory at most, as 512m or 2g; 0 for no limit.")
@click.option("--cpus", type=PROCESSORS, metavar="NUMBER", help="Processors at most, as 1.5; 0 for no limit.")
@click.option("--pids-limit", "pids", type=PROCESSES, metavar="NUMBER",
              help="Processes and threads at most; 0 or -1 for no limit.")  # fmt: skip
@click.option("--restart", type=RESTART, metavar="POLICY",
              help="no, on-failure[:ATTEMPTS], always or unless-stopped.")  # fmt: skip
def update(
    invocation: Invocation,
    names: tuple[str, ...],
    memory: int | None,
    cpus: float | None,
    pids: int | None,
    restart: Restart | None,
) -> None:
    """Change what containers may use, and whether they are started again.

    For one that runs it holds from now on, for any at each further start. What is not given stays as it is. Memory
    cannot be limited to less than what is in use and cannot be taken away; then nothing of that container is changed.

    \b
    Example:
      treering update --memory 512m --cpus 1.5 web
      treering update --memory 0 --restart always web db
    """
    if memory is None and cpus is None and pids is None and restart is None:
        raise click.UsageError("say what to change: --memory, --cpus, --pids-limit or --restart")
    done: list[dict[str, Any]] = []
    errors: list[TreeringError] = []
    for container in [invocation.containers.find(name) for name in names]:
        try:
            done.append(_update(invocation, container, _Change(memory, cpus, pids, restart)))
        except TreeringError as error:
            errors.append(error)
    if not invocation.output.is_table:
        invocation.output.rows(done, lambda row: row, lambda _: None)
    if errors:
        raise errors[0]


class _Change(msgspec.Struct, frozen=True):
    """What was asked for; None for what stays, 0 for no limit."""

    memory: int | None
    cpus: float | None
    pids: int | None
    restart: Restart | None

    def limits(self, old: Limits) -> Limits:
        """These limits with it."""
        return Limits(
            memory=old.memory if self.memory is None else self.memory or None,
            cpus=old.cpus if self.cpus is None else self.cpus or None,
            pids=old.pids if self.pids is None else max(0, self.pids) or None,
        )


def _update(invocation: Invocation, container: Container, change: _Change) -> dict[str, Any]:
    from runtime.cgroups import Cgroup
    from runtime.state import Running, state_of

    with invocation.containers.changing(container) as now:
        old = now.record.settings
        new = msgspec.structs.replace(old, limits=change.limits(old.limits), restart=change.restart or old.restart)
        state = state_of(now.paths.directory)
        # Whichever is refused comes first, so that nothing has been changed then.
        if isinstance(state, Running):
            group = Cgroup.find(now.id, state.pid)
            found = group.limits()
            if (wanted := change.limits(found)) != found:
                group.update(wanted)
        invocation.containers.replace(now, msgspec.structs.replace(now.record, settings=new))
    if invocation.output.is_table:
        _tell(now.name, old, new, isinstance(state, Running))
    return {
        "name": now.name,
        "id": now.id,
        "running": isinstance(state, Running),
        "memory": new.limits.memory,
        "cpus": new.limits.cpus,
        "pids_limit": new.limits.pids,
        "restart": new.restart.policy,
        "restart_attempts": new.restart.attempts,
    }


def _tell(name: str, old: Settings, new: Settings, running: bool) -> None:
    before, after = _words(old), _words(new)
    changed = [f"{what} {after[what]} (was {before[what]})" for what in after if after[what] != before[what]]
    when = "from now on" if running else "from its next start on"
    message(f"{name}: {', '.join(changed)}, {when}" if changed else f"{name} is as you want it already")


def _words(settings: Settings) -> dict[str, str]:
    limits, restart = settings.limits, settings.restart
    return {
        "memory": "no limit" if limits.memory is None else size_text(limits.memory),
        "cpus": "no limit" if limits.cpus is None else f"{limits.cpus:g}",
        "pids": "no limit" if limits.pids is None else f"{limits.pids:,}",
        "restart": f"{restart.policy}:{restart.attempts}" if restart.attempts else restart.policy,
    }


VERBS: dict[str, click.Command] = {"update": update}
