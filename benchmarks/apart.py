"""Measuring in a mount namespace that nothing of the machine, or of another section, is changed by."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable
from typing import TypeVar

from benchmarks.measure import FailedError
from runtime.engine import hide_hybrid_cgroup
from runtime.system.mounts import private_mount_namespace

T = TypeVar("T")


def in_namespace(work: Callable[[], T]) -> T:
    """Do it in a process of its own, in a mount namespace of its own in which crun starts containers on machines with
    hybrid cgroups. What comes of it must be what JSON can carry."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            private_mount_namespace()
            hide_hybrid_cgroup()
            with os.fdopen(writer, "w") as told:
                json.dump(work(), told)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    try:
        with os.fdopen(reader) as heard:
            text = heard.read()
    except BaseException:
        os.kill(child, signal.SIGTERM)  # it cleans up, and ends
        os.waitpid(child, 0)
        raise
    if os.waitpid(child, 0)[1]:
        raise FailedError("it could not be measured: see above")
    found: T = json.loads(text)
    return found
