"""Whose a container is that a RUN has: its builder's, who is named by a label.

Such a container is the builder's affair while he lives: `ps` and `rm --all` leave it out. What a killed one has left is
like any other container until the next RUN removes it.
"""

from __future__ import annotations

import os

from runtime.containers import Container
from runtime.state import Process

LABEL = "treering.build"
"""The pid and the start of the builder."""


def own_label() -> dict[str, str]:
    """The label that makes a container this process's."""
    me = Process.of(os.getpid())
    assert me is not None
    return {LABEL: f"{me.pid} {me.start}"}


def builder_of(container: Container) -> Process | None:
    """Who made it for a RUN, alive or not; None for any other container."""
    pid, _, began = container.record.settings.labels.get(LABEL, "").partition(" ")
    return Process(int(pid), int(began)) if pid.isdecimal() and began.isdecimal() else None


def is_building(container: Container) -> bool:
    """Whether it is a RUN's, whose builder lives."""
    builder = builder_of(container)
    return builder is not None and builder.alive()
