"""Real mounts for tests: a source served by a process of its own, and real stores with real commits."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusefs import mounting
from fusefs.filesystem import FileSystem
from fusefs.readahead import ReadAhead
from fusefs.session import Session
from tests.support.values import Spec, root
from vcs.history import Author
from vcs.model import CommitId
from vcs.snapshot import Source
from vcs.store import Store

needs_fuse = pytest.mark.skipif(
    os.geteuid() != 0 or not mounting.DEVICE.exists(), reason="needs root and /dev/fuse: mounts for real"
)
OVERLAY_OPTIONS = "index=off,uuid=null,redirect_dir=on,metacopy=on,xino=off"
_DEADLINE = 30.0


def until(condition: Callable[[], bool], seconds: float = _DEADLINE) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@contextlib.contextmanager
def serving(source: Source, point: Path, trace: bool = False) -> Iterator[Path]:
    """A source, mounted at a new directory; what the driver logs is in `<point>.log`, with `trace` every message.

    In a process of its own, since a page fault or a descriptor's close would wait for us with Python's lock held.
    """
    point.mkdir()
    told, ready = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(told)
            logging.basicConfig(filename=f"{point}.log", level=logging.INFO, force=True)
            logging.getLogger("fusefs.trace").setLevel(logging.DEBUG if trace else logging.INFO)
            device = mounting.open_device()
            mounting.set_readahead(mounting.mount(device, point, "test"))
            filesystem = FileSystem(source)
            session = Session(device, filesystem, ReadAhead(device, filesystem))
            session.negotiate()
            os.write(ready, b"+")
            session.serve()
            status = 0
        except BaseException:
            logging.exception("the session ended")
        finally:
            os._exit(status)
    os.close(ready)
    try:
        assert select.select([told], [], [], _DEADLINE)[0]
        assert os.read(told, 1) == b"+", Path(f"{point}.log").read_text()
        yield point
    finally:
        os.close(told)
        _end(child, point)


def _end(child: int, point: Path) -> None:
    try:
        if not mounting.unmount(point):
            mounting.detach(point)
            raise AssertionError("something is still inside the mount")
        until(lambda: os.waitpid(child, os.WNOHANG)[0] == child)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise


@contextlib.contextmanager
def overlay(lower: Path, at: Path) -> Iterator[Path]:
    """An overlay with the options of containers over a lower; its merged directory."""
    for name in ("upper", "work", "merged"):
        (at / name).mkdir(parents=True)
    options = f"{OVERLAY_OPTIONS},lowerdir={lower},upperdir={at}/upper,workdir={at}/work"
    merged = at / "merged"
    libc = mounting._libc()
    assert not libc.mount(b"overlay", os.fsencode(merged), b"overlay", 0, options.encode()), mounting._last_error()
    try:
        yield merged
    finally:
        assert mounting.unmount(merged)
        shutil.rmtree(at)


def commit(store: Store, spec: Spec, branch: str = "main") -> CommitId:
    """Commit a filesystem to a branch of a real store."""
    author = Author("Ada Tester", "ada@example.org", 1_700_000_000)
    with store.batch() as batch:
        made = root(batch, spec)
    ref = f"refs/heads/{branch}"
    before = store.history.target(ref)
    new = store.add_commit(made, {}, "test", author, (before,) if before else ())
    store.history.move(ref, new, before, "test", author)
    return new
