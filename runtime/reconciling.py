"""What is recorded of a container, made true again after its supervisor or the machine died."""

from __future__ import annotations

from fusefs.client import Service
from runtime.capturing.standstill import release
from runtime.cgroups import Cgroup
from runtime.containers import Container, Containers
from runtime.lowers import lower_of
from runtime.removal import remove_ended
from runtime.running import orders, run_paths, spec
from runtime.source import OPENER
from runtime.state import Exited, Running, load_run, state_of
from runtime.supervision.launch import adopt
from vcs.history import Author


def reconcile(containers: Containers, container: Container, author: Author) -> None:
    """Make what is recorded of a container true again, after its supervisor or the machine died: a container that runs
    on gets another supervisor, and one that was to be removed at its end is. One that stands still for a commit that
    was killed goes on."""
    directory = container.paths.directory
    state = state_of(directory)
    release(directory, Cgroup.find(container.id, state.pid if isinstance(state, Running) else None))
    if isinstance(state, Running) and not state.supervised:
        run = load_run(directory)
        if run is None or run.init is None:
            return
        store = containers.store
        with Service.ensure(store.path, opener=OPENER) as lease:
            adopt(
                run_paths(container),
                spec(container, container.record.settings),
                store.history.config(container.base),
                lower_of(lease.mountpoint, store.commit(container.base).root),
                run,
                hold=(lease.fileno(),),
                orders=orders(containers, container, author, detach=True),
            )
    elif isinstance(state, Exited) and container.record.settings.remove:
        remove_ended(store=containers.store, identity=container.id, author=author)
