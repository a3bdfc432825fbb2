"""The process behind `treering mount DIRECTORY --driver libfuse`: a mount of its own, served until it is unmounted.

The service's one mount for all needs the right to mount. This one is made by fusermount at the very directory, for the
user who asks, and is served by the portable driver (fusefs/libfuse.py). What is read through it stays: each root is
noted in a lease before anything of it is read, and gc removes nothing that a root in a lease needs.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fusefs import detached
from fusefs.rundir import RunDirectory, open_log
from runtime.source import StoreWithContainers
from vcs.errors import Denied, NoSpace, TreeringError
from vcs.model import RootId
from vcs.store import Store

_log = logging.getLogger(__name__)


def start(store: Path, point: Path) -> None:
    """Show a store at an empty directory, in a process of its own. NotAStore, Denied, StoreError."""
    places = RunDirectory(store)
    log = open_log(places.log)
    try:
        detached.start("runtime.ownmount", ["--store", str(places.store), "--at", os.fspath(point)], log)
    finally:
        os.close(log)


def serve(path: Path, point: Path, ready: Callable[[], None]) -> None:
    """Mount and serve until unmounted; `ready` is called in between. Denied, StoreError, NotAStore, UnknownFormat."""
    try:
        from fusefs import libfuse
    except OSError as error:
        raise Denied(f"the library libfuse.so.2 cannot be loaded: {error}", driver="libfuse") from None
    from fusefs.filesystem import FileSystem
    from fusefs.scattered import PlainCopies

    with StoreWithContainers.open(path, read_ahead=True) as store, _kept(store) as keep:
        filesystem = FileSystem(store, os.geteuid(), os.getegid(), time.time_ns(), copies=PlainCopies(store.path))
        said = _Said()

        def mounted() -> None:
            said.close()
            _log.info("serving %s at %s as process %d, through libfuse", path, point, os.getpid())
            ready()

        if not libfuse.serve(filesystem, point, f"treering:{path}", keep=keep, ready=mounted):
            raise Denied(f"{point} cannot be mounted: {said.close() or 'libfuse does not say why'}", driver="libfuse")
    _log.info("%s is unmounted", point)


@contextlib.contextmanager
def _kept(store: Store) -> Iterator[Callable[[RootId], bool]]:
    """Have gc leave alone all that is read. Where no lease can be written, nothing can be removed either."""
    with contextlib.ExitStack() as stack:
        try:
            lease = stack.enter_context(store.writing())
        except (Denied, NoSpace) as error:
            _log.warning("no lease: %s", error)
            yield store.__contains__
            return
        noted: set[RootId] = set()

        def keep(root: RootId) -> bool:
            if root not in noted:
                lease.root(root)  # before the look: docs/concurrency.md
                noted.add(root)
            return root in store

        yield keep


class _Said:
    """What libfuse and fusermount write to the standard error output while they mount; they have no other way to say
    what is wrong. It goes to the log too."""

    def __init__(self) -> None:
        self._file = os.memfd_create("said")
        self._before = os.dup(2)
        os.dup2(self._file, 2)

    def close(self) -> str:
        """What was said, in a line; from now on the output goes where it went before."""
        os.dup2(self._before, 2)
        os.close(self._before)
        said = os.pread(self._file, 4096, 0)
        os.close(self._file)
        os.write(2, said)
        return "; ".join(line.strip() for line in said.decode(errors="replace").splitlines() if line.strip())


def main(arguments: Sequence[str]) -> int:
    """Run as a program: 0 when it was unmounted, 1 if it could not begin."""
    parser = argparse.ArgumentParser(prog="runtime.ownmount", description="Show a store's commits at a directory.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--at", type=Path, required=True)
    parser.add_argument("--ready", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    told = False

    def ready() -> None:
        nonlocal told
        told = True
        detached.tell(given.ready, {"ok": True})

    try:
        serve(given.store, given.at, ready)
    except (TreeringError, OSError) as error:
        _log.error("%s", error)
        if not told:
            detached.tell(given.ready, detached.failure(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
