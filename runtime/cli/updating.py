"""update."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import msgspec

from runtime.cli import specs
from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, verb
from runtime.cli.output import message, size_text
from runtime.cli.run_options import Word
from runtime.cli.several import each
from runtime.settings import Limits, Restart

if TYPE_CHECKING:
    from runtime.containers import Container
    from runtime.settings import Settings


_NO_LIMIT = ("0", "-1")


def _limit(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """What `run` takes, and 0 for no limit: without the option, a limit stays."""
    return lambda text: 0 if text.strip() in _NO_LIMIT else read(text)


@verb("update", data=True)
@container_argument("names", nargs=-1, required=True)
@click.option("-m", "--memory", type=Word("SIZE", _limit(specs.memory)), metavar="SIZE",
              help="At most so much memory, such as 512m or 2g; 0 for no limit.")  # fmt: skip
@click.option("--cpus", type=Word("NUMBER", _limit(specs.cpus)), metavar="NUMBER",
              help="At most so many processors, such as 1.5; 0 for no limit.")  # fmt: skip
@click.option("--pids-limit", "pids", type=Word("NUMBER", _limit(specs.pids)), metavar="NUMBER",
              help="At most so many processes and threads; 0 for no limit.")  # fmt: skip
@click.option("--restart", type=Word("POLICY", specs.restart), metavar="POLICY",
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
    change = _Change(memory, cpus, pids, restart)
    done: list[dict[str, Any]] = []
    try:
        each(invocation, names, lambda container: done.append(_update(invocation, container, change)))
    finally:
        if not invocation.output.is_table:
            invocation.output.rows(done, lambda row: row, lambda _: None)


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
            pids=old.pids if self.pids is None else self.pids or None,
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
