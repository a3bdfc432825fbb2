"""A container's root as a descriptor, whether it runs or not.

A running one's is what its first process has. Of a stopped one the overlay is mounted for us alone, nowhere in the file
system; meanwhile nobody can start or change the container.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from fusefs.client import Service
from runtime import idmapping, overlay
from runtime.containers import Container, Containers
from runtime.lowers import lower_of, with_data
from runtime.reaching import at_rest, reached
from runtime.source import OPENER
from runtime.state import is_running
from runtime.system import mounts
from runtime.system.rootaccess import Root
from runtime.upper.unfinished import noted


@dataclass(frozen=True, slots=True)
class Merged:
    """A root to read, and perhaps to write."""

    root: Root
    aside: bytes | None = None
    """How second names of files begin that are written while it rests (runtime.upper.unfinished)."""


@contextmanager
def merged_root(containers: Containers, container: Container, *, writes: bool) -> Iterator[Merged]:
    """The root of a container. Conflict if it is just starting or ending; EngineError."""
    if is_running(container.paths.directory):
        with reached(container) as found:
            yield Merged(found.root)
        return
    with ExitStack() as stack:
        now = stack.enter_context(containers.changing(container))
        stack.enter_context(at_rest(now))
        lease = stack.enter_context(Service.ensure(containers.store.path, opener=OPENER))
        lower, data = with_data(lower_of(lease.mountpoint, containers.store.commit(now.base).root))
        if now.record.ids is not None:
            mounts.private_mount_namespace()
            idmapping.make_stage()
            lower = idmapping.map_lower(lower, now.record.ids)
        overlay.prepare_upper(lower, now.upper, now.work)
        root, _ = overlay.make_overlay(lower, now.upper, now.work, data=data, volatile=now.record.settings.volatile)
        stack.callback(os.close, root)
        yield Merged(Root(root), stack.enter_context(noted(now.upper.parent)) if writes else None)
