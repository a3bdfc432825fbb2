"""What is done when a container has ended: written down, removed from the machine, told.

None of it waits for another part: a descriptor that cannot be had just then, or a full disk, keeps nothing else from
being done, the restart that was promised least of all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from runtime import engine, preparation
from runtime.state import Exited, Run, save_exit
from runtime.supervision import restarts
from runtime.supervision.job import Job
from runtime.supervision.joined import Joined
from runtime.supervision.rebuilding import unexpected


@contextmanager
def despite(job: Job) -> Iterator[None]:
    """What fails in here is logged, and nothing else."""
    try:
        yield
    except Exception as error:
        unexpected(error, job.paths.engine_state.parent)


def next_start(job: Job, run: Run, end: Exited) -> float | None:
    """When a container that has ended is to be started again, in seconds since 1970; None if it is not to be."""
    if not job.orders or (end.error and not run.started and not run.restarts):
        return None  # what cannot be started at all will not be later
    with despite(job):
        if restarts.wanted(job.orders.restart, job.paths.directory, end.code, run.restarts):
            lasted = (end.ended or 0) - (run.started or 0)
            return time.time() + restarts.delay(0 if restarts.was_steady(lasted) else run.restarts)
    return None


def leave_nothing(
    job: Job, run: Run, network: Joined, end: Exited, again: float | None, *, is_over: bool, durable: bool
) -> None:
    """Write an exit down, and remove every trace of the run. `is_over`: init has ended, as it should; `again`: when the
    container is started again, in seconds since 1970."""
    paths, container = job.paths, job.spec.id
    deleting = None
    with despite(job):
        if job.engine.knows(container) and not (is_over and job.engine.drop(container)):
            deleting = engine.spawn(job.engine.delete(container, paths.engine_log), (None, None, None))
    with despite(job):
        save_exit(paths.directory, run, end, again, durable=durable)
    with despite(job):
        if deleting:
            engine.wait(deleting)
        job.engine.forget_rest(container)
    with despite(job):
        network.disconnect()
    with despite(job):
        paths.pid_file.unlink(missing_ok=True)
    with despite(job):
        # Not left to the end of the namespace, which the kernel would clean up after our caller has gone on.
        preparation.take_down(paths, job.spec)
