"""Do the same things to a container's root and to a plain file system, by chance, and compare; a line for each seed.

A difference is shown with its seed and what it takes to see it again: a file of steps, made as short as can be.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.posix.broken import VARIANTS
from tests.posix.rounds import Plan, Told, run, shrink
from tests.posix.step import Step
from tests.support.ending import end_in_order


def main() -> int:
    arguments = _parser().parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root")
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="posix-", dir=arguments.directory, ignore_cleanup_errors=True) as directory:
        if arguments.replay:
            return _replay(arguments, Path(directory))
        return _all(arguments, Path(directory))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.posix", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="how many")
    parser.add_argument("--seconds", type=float, default=0, help="as many seeds as are begun in this time instead")
    parser.add_argument("--steps", type=int, default=300, help="of a round")
    parser.add_argument("--rounds", type=int, default=4, help="each on the commit of the one before")
    like = "what is compared with; `commits`: only these, of a container with ids of its own"
    parser.add_argument("--like", default="overlay", choices=["overlay", "ext4", "commits"], help=like)
    parser.add_argument("--shrink", type=int, default=60, metavar="N", help="runs to find fewer steps in; 0: none")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="the steps of such a file")
    parser.add_argument("--keep", type=Path, default=Path.cwd(), metavar="DIR", help="where to write such files")
    parser.add_argument("--directory", help="where to work; what is made there is removed")
    parser.add_argument("--broken", default="", choices=["", *VARIANTS], help="a variant with a fault, to see it found")
    return parser


def _all(arguments: argparse.Namespace, directory: Path) -> int:
    began = time.monotonic()
    found = total = commits = 0
    seed = arguments.seed
    while _goes_on(arguments, seed, time.monotonic() - began):
        plan = Plan(seed, arguments.steps, arguments.rounds, arguments.like, arguments.broken)
        start = time.monotonic()
        told = _fresh(plan, directory)
        total, commits = total + len(told.steps), commits + told.commits
        print(
            f"seed {seed}: {len(told.steps)} steps, {told.refused} of them refused, {told.looks} times compared, "
            f"{told.commits} commits, {time.monotonic() - start:.1f} s{': DIFFERS' if told.wrong else ''}",
            flush=True,
        )
        if told.wrong:
            found += 1
            _tell(told, plan, arguments, directory)
        seed += 1
    seeds = seed - arguments.seed
    print(f"all: {seeds} seeds, {total} steps, {commits} commits, {found} with a difference", flush=True)
    return 1 if found else 0


def _goes_on(arguments: argparse.Namespace, seed: int, seconds: float) -> bool:
    return seconds < arguments.seconds if arguments.seconds else seed < arguments.seed + arguments.seeds


def _fresh(plan: Plan, directory: Path, steps: list[Step] | None = None) -> Told:
    place = Path(tempfile.mkdtemp(dir=directory))
    try:
        return run(plan, place, steps)
    finally:
        shutil.rmtree(place, ignore_errors=True)  # a service that has just been ended may still remove files of its own


def _tell(told: Told, plan: Plan, arguments: argparse.Namespace, directory: Path) -> None:
    print("\n".join(told.wrong), flush=True)
    path = arguments.replay or arguments.keep / f"posix-{plan.like}-{plan.seed}.json"
    told.write(path, plan)
    left = arguments.shrink

    def fails(steps: list[Step]) -> bool:
        nonlocal left
        left -= 1
        if left < 0 or not _fresh(plan, directory, steps).wrong:
            return False
        Told(steps).write(path, plan)
        return True

    told.steps = shrink(told.steps, fails)
    print(f"steps of which none can be spared, it seems ({path}):", *told.steps, sep="\n  ", flush=True)


def _replay(arguments: argparse.Namespace, directory: Path) -> int:
    read = json.loads(arguments.replay.read_text())
    plan = Plan(like=read["like"], broken=arguments.broken)
    told = _fresh(plan, directory, list(map(Step.of_json, read["steps"])))
    if told.wrong:
        _tell(told, plan, arguments, directory)
    else:
        print("no difference")
    return 1 if told.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
