"""Strike whole commands at each of their calls that change something: one line for each operation and fault.

Each line is written to --log as well; what is in it already is not done again, so a long run can be gone on with.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import pkgutil
import platform
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import runtime
import vcs
from runtime.system import mounts
from tests.support.deadline import hide_control
from tests.support.ending import end_in_order
from tests.torture.broken import VARIANTS
from tests.torture.operations import OPERATIONS as _OF_STORES
from tests.torture.points import Points
from tests.torture.remotes import OPERATIONS as _OF_REGISTRIES
from tests.torture.remotes import beside
from tests.torture.running import OPERATIONS as _OF_CONTAINERS
from tests.torture.stores import Place
from tests.torture.sweep import FAULTS, Tally, struck_at, sweep, undisturbed

OPERATIONS = _OF_STORES | _OF_CONTAINERS | _OF_REGISTRIES


def main() -> int:
    arguments = _parser().parse_args()
    if os.geteuid() != 0 or platform.machine() != "x86_64":
        sys.exit("this needs root on x86-64")
    import_all()
    gc.freeze()  # so that a collection in a fork copies none of that
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="torture-", dir=arguments.directory) as directory:
        place = Place(Path(directory), VARIANTS[arguments.broken])
        mounts.become_subreaper()
        place.spared = frozenset()
        names = arguments.only.split(",") if arguments.only else list(OPERATIONS)
        with beside(place) if {*names} & {*_OF_REGISTRIES} else nullcontext():
            try:
                return _at(place, arguments) if arguments.at is not None else _all(place, names, arguments)
            finally:
                place.leave()
                hide_control()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--only", metavar="OP[,OP]", help=f"of {', '.join(OPERATIONS)}")
    parser.add_argument("--fault", metavar="FAULT[,FAULT]", default=",".join(FAULTS), help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="only N points of each, by chance")
    parser.add_argument(
        "--each", type=int, metavar="N", help="only the first and the last call of each kind, and N more by chance"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at", type=int, metavar="N", help="only the call N, and tell all about it")
    parser.add_argument("--log", type=Path, help="a file of what is done")
    parser.add_argument("--directory", help="where to work; it is removed at the end")
    parser.add_argument("--broken", default="", choices=VARIANTS, help="a variant with a fault, to see it found")
    return parser


def import_all() -> None:
    """Each command is a fork: what it needs is imported once."""
    for package in (vcs, runtime):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", ".reference", ".exposition")):
                importlib.import_module(module.name)


def _all(place: Place, names: list[str], arguments: argparse.Namespace) -> int:
    before = [json.loads(line) for line in arguments.log.read_text().splitlines()] if _is_there(arguments.log) else []
    done = {(one["operation"], one["fault"]) for one in before}
    points = sum(one["points"] for one in before)
    found = sum(one["findings"] for one in before)
    at = Points(arguments.sample, arguments.each, arguments.seed)
    print(f"{'OPERATION':16} {'FAULT':8} {'POINTS':>6} {'FINDINGS':>8} {'SECONDS':>8}", flush=True)
    for name in names:
        todo = [fault for fault in arguments.fault.split(",") if (name, fault) not in done]
        plain = undisturbed(place, OPERATIONS[name]) if todo else None
        for fault in todo:
            assert plain is not None
            began = time.monotonic()
            tally = sweep(place, OPERATIONS[name], fault, plain, _tell, at)
            _line(tally, time.monotonic() - began, arguments.log)
            points, found = points + tally.points, found + len(tally.findings)
    print(f"all: {points} points, {found} findings", flush=True)
    return 1 if found else 0


def _is_there(path: Path | None) -> bool:
    return path is not None and path.exists()


def _tell(text: str) -> None:
    print(text, flush=True)


def _line(tally: Tally, seconds: float, log: Path | None) -> None:
    print(f"{tally.operation:16} {tally.fault:8} {tally.points:6} {len(tally.findings):8} {seconds:8.1f}", flush=True)
    if log is not None:
        told = {"operation": tally.operation, "fault": tally.fault, "points": tally.points}
        with log.open("a") as file:
            file.write(json.dumps({**told, "findings": len(tally.findings)}) + "\n")


def _at(place: Place, arguments: argparse.Namespace) -> int:
    operation = OPERATIONS[arguments.only]
    plain = undisturbed(place, operation)
    done, wrong = struck_at(place, operation, plain, replace(FAULTS[arguments.fault], number=arguments.at))
    print(f"{done.at}\nit ends with {done.code}, and says:\n{done.out}{done.err}")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
