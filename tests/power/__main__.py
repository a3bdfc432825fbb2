"""Cut the power while commands run: one line for each operation and file system, with how many states of the disk were
mounted, how many different stores were on them, and in how many of the states something was wrong.

Each line is written to --log as well; what is in it already is not done again, so a long run can be gone on with.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from runtime.system import mounts
from tests.power.broken import VARIANTS
from tests.power.disks import FILE_SYSTEMS, missing
from tests.power.operations import OPERATIONS
from tests.power.recorder import PROGRAM
from tests.power.trials import Tally, tried
from tests.support.ending import end_in_order, is_ending
from tests.torture.__main__ import import_all
from tests.torture.processes import end_descendants

_OF_ONE = 250
"""States of one recording; then the operation is recorded anew."""
_TOLD = 3
"""Findings of one recording that are printed; the log has all."""


@dataclass(frozen=True, slots=True)
class Job:
    """One recording, and how many of its states are looked at."""

    file_system: str
    operation: str
    states: int
    seed: str


def main() -> int:
    arguments = _parser().parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root")
    for lacking in filter(None, (missing(PROGRAM), *map(missing, arguments.filesystems))):
        sys.exit(f"this machine lacks {lacking}")
    import_all()
    gc.freeze()  # each command is a fork
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="power-", dir=arguments.directory) as directory:
        return _run(arguments, Path(directory))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.power", description=__doc__)
    add = parser.add_argument
    add(
        "--operations",
        type=_some(OPERATIONS),
        default=list(OPERATIONS),
        metavar="OP[,OP]",
        help=f"of {', '.join(OPERATIONS)}",
    )
    add("--filesystems", type=_some(FILE_SYSTEMS), default=list(FILE_SYSTEMS), metavar="FS[,FS]",
        help=f"of {', '.join(FILE_SYSTEMS)}")  # fmt: skip
    add("--states", type=int, default=100, metavar="N", help="how many of each operation and file system (%(default)s)")
    add("--seed", default="0")
    add("--log", type=Path, help="a file of what is done")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="how many disks at the same time (%(default)s)")
    add("--directory", help="where to work; it is removed at the end")
    add("--broken", default="", choices=VARIANTS, help="a variant with a fault, to see it found")
    return parser


def _some(known: dict[str, Any]) -> Callable[[str], list[str]]:
    """Names with commas between them, all of which are known."""

    def names(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return text.split(",")

    return names


def _run(arguments: argparse.Namespace, directory: Path) -> int:
    log: Path | None = arguments.log
    before = [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    done = {(one["file_system"], one["operation"], one["seed"]) for one in before}
    jobs = [job for job in _jobs(arguments) if (job.file_system, job.operation, job.seed) not in done]
    print(f"{'FILE SYSTEM':12} {'OPERATION':16} {'STATES':>7} {'STORES':>7} {'WRONG':>6} {'SECONDS':>8}", flush=True)
    # Each with mounts of its own: whatever becomes of it, nothing stays mounted, and each boots again by itself.
    with ProcessPoolExecutor(arguments.jobs, get_context("fork"), _be_alone) as pool, _ended_with_us(pool):
        running = {pool.submit(_tried, directory, job, arguments.broken): job for job in jobs}
        for one in as_completed(running):
            tally, seconds = one.result()
            _tell(tally, seconds)
            told = {"seed": running[one].seed, **asdict(tally)}
            before.append(told)
            if log is not None:
                with log.open("a") as file:
                    file.write(json.dumps(told) + "\n")
    return _total(before)


def _be_alone() -> None:
    mounts.private_mount_namespace()
    mounts.become_subreaper()


@contextmanager
def _ended_with_us(pool: Executor) -> Iterator[None]:
    """If we are told to end, so are the processes that look at disks, and waited for. A directory that is removed while
    another namespace has a disk's image mounted there stays in the kernel for ever, and with it the loop device."""
    try:
        yield
    except BaseException:
        children = active_children()
        for child in children:
            child.terminate()
        pool.shutdown(cancel_futures=True)
        for child in children:
            child.join()
        raise


def _jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    for begin in range(0, arguments.states, _OF_ONE):
        for operation in arguments.operations:
            for file_system in arguments.filesystems:
                states = min(_OF_ONE, arguments.states - begin)
                yield Job(file_system, operation, states, f"{arguments.seed}.{begin // _OF_ONE}")


def _tried(directory: Path, job: Job, broken: str) -> tuple[Tally, float]:
    began = time.monotonic()
    at = directory / str(os.getpid())
    file_system, operation = FILE_SYSTEMS[job.file_system], OPERATIONS[job.operation]
    try:
        tally = tried(at, file_system, operation, job.states, job.seed, VARIANTS[broken])
    finally:
        end_descendants()
        if is_ending():
            os._exit(1)  # the pool would give this process its next job
    return tally, time.monotonic() - began


def _tell(tally: Tally, seconds: float) -> None:
    told = f"{tally.states:7} {tally.stores:7} {tally.wrong:6} {seconds:8.1f}"
    print(f"{tally.file_system:12} {tally.operation:16} {told}", *tally.findings[:_TOLD], sep="\n", flush=True)
    if more := tally.findings[_TOLD:]:
        print(f"and {len(more)} more stores with something wrong", flush=True)


def _total(everything: list[dict[str, object]]) -> int:
    states: dict[object, int] = defaultdict(int)
    for one in everything:
        states[one["file_system"]] += int(str(one["states"]))
    wrong = sum(int(str(one["wrong"])) for one in everything)
    told = ", ".join(f"{name} {count}" for name, count in states.items())
    print(f"all: {sum(states.values())} states ({told}), {wrong} wrong", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
