"""Processes that write to a running container's root as fast as they can, from inside its cgroup."""

from __future__ import annotations

import mmap
import os
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from runtime.cgroups import Cgroup

SIZE = 3 * 4096


@contextmanager
def inside(container_id: str, init: int, work: Callable[[], None]) -> Iterator[None]:
    """Run `work`, a function that never ends, in a process of the container's cgroup whose root is the container's. It
    is killed with the block, frozen or not, and by the kernel with whoever began it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        _be(container_id, init, work, writer)
    os.close(writer)
    try:
        assert (said := os.read(reader, 1 << 16)) == b"+", said.decode()
        yield
        os.set_blocking(reader, False)
        with suppress(BlockingIOError):
            pytest.fail(f"the writer has ended: {os.read(reader, 1 << 16).decode()}")
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        Cgroup.of(container_id).thaw()
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def _be(container_id: str, init: int, work: Callable[[], None], writer: int) -> None:
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        signal.alarm(300)
        root = os.open(f"/proc/{init}/root", os.O_PATH | os.O_DIRECTORY)
        for directory in Cgroup.of(container_id)._directories():
            if os.path.exists(directory):
                Path(directory, "cgroup.procs").write_text(str(os.getpid()))
        os.fchdir(root)
        os.chroot(".")
        os.write(writer, b"+")
        work()
    except BaseException:
        os.write(writer, traceback.format_exc().encode())
    finally:
        os._exit(1)


def counting(one: Path, other: Path) -> Callable[[], None]:
    """Writes 1, 2, 3... to two files in turn: the second is never ahead, and never more than one behind."""

    def work() -> None:
        files = [os.open(path, os.O_RDWR | os.O_CREAT, 0o644) for path in (one, other)]
        number = 0
        while True:
            number += 1
            for file in files:
                os.pwrite(file, b"%020d" % number, 0)

    return work


def counting_in_memory(one: Path, other: Path) -> Callable[[], None]:
    """The same through shared mappings, whose stores no system call sees."""

    def work() -> None:
        maps = []
        for path in (one, other):
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            os.truncate(file, SIZE)
            maps.append(mmap.mmap(file, SIZE))
            os.close(file)
        number = 0
        while True:
            number += 1
            for memory in maps:
                memory[4096:4116] = b"%020d" % number

    return work


def mapping(top: Path, seed: int) -> Callable[[], None]:
    """Maps files, writes through the mappings, forgets them, and does what else one can do to a mapped file."""

    def work() -> None:
        chance = random.Random(seed)
        held: list[mmap.mmap] = []
        while True:
            path = top / f"m{chance.randrange(6)}"
            with suppress(OSError, ValueError):
                match chance.randrange(9):
                    case 0 | 1:
                        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
                        os.truncate(file, SIZE)
                        held.append(mmap.mmap(file, SIZE))
                        os.close(file)
                    case 2 if held:
                        held.pop(chance.randrange(len(held))).close()
                    case 3 if chance.random() < 0.3:
                        path.unlink()
                    case 4 if chance.random() < 0.3:
                        path.rename(top / f"m{chance.randrange(6)}")
                    case 5 if held:
                        chance.choice(held).flush()
                    case _:
                        for memory in chance.sample(held, min(3, len(held))):
                            memory[chance.randrange(SIZE)] = chance.randrange(256)
            while len(held) > 8:
                held.pop(0).close()

    return work
