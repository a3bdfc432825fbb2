"""Floods: many processes at once on one store, that kill one another; and numbers that are too large.

Prints findings as they are met, figures at the end, and ends with 1 if there was a finding.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from tests.flood.broken import VARIANTS
from tests.flood.place import Place
from tests.flood.scale import SCALES
from tests.flood.storm import Storm
from tests.flood.verdict import give_up, judge
from tests.flood.worker import ACTIONS
from tests.support.ending import end_in_order, not_now

STORM = "storm"
_ALONE = "FLOOD_ALONE"


def main() -> int:
    arguments = _parser().parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: containers and mounts")
    _be_alone()
    end_in_order()
    names = arguments.only.split(",") if arguments.only else [STORM, *SCALES]
    if unknown := [name for name in names if name not in (STORM, *SCALES)]:
        sys.exit(f"there is no {unknown[0]!r}, but {', '.join((STORM, *SCALES))}")
    findings = 0
    for name in names:
        directory = Path(tempfile.mkdtemp(prefix=f"flood-{name}-", dir=arguments.directory))
        place = Place(directory, arguments.expire, arguments.broken)
        try:
            if arguments.memory:
                subprocess.run(["mount", "-t", "tmpfs", "flood", str(directory)], check=True)
            told = _storm(place, arguments) if name == STORM else SCALES[name](place, arguments.part)
            for finding in told:
                findings += 1
                print(f"FOUND: {finding}", flush=True)
        finally:
            with not_now():
                give_up(place, keep=arguments.keep and findings > 0)
    print(f"all: {findings} findings")
    return 1 if findings else 0


def _be_alone() -> None:
    """Go on in a mount namespace of one's own: another process's, made meanwhile, would keep what is mounted here."""
    if os.environ.get(_ALONE) != str(os.getpid()):
        os.environ[_ALONE] = str(os.getpid())
        os.execvp("unshare", ["unshare", "--mount", sys.executable, "-P", "-m", "tests.flood", *sys.argv[1:]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.flood", description=__doc__)
    parser.add_argument("--only", metavar="NAME[,NAME]", help=f"of {', '.join((STORM, *SCALES))}")
    parser.add_argument("--seconds", type=float, default=600, help="how long the storm lasts (default 600)")
    parser.add_argument("--least", type=int, default=1, help="commits that it must acknowledge before it ends")
    parser.add_argument("--processes", type=int, default=16, help="of the storm (default 16)")
    parser.add_argument("--seed", type=int, default=0, help="what the processes of the storm draw their acts from")
    parser.add_argument("--actions", metavar="ACT[,ACT]", help=f"only these acts, of {', '.join(ACTIONS)}")
    parser.add_argument(
        "--expire", default="1h",
        help="for gc; with `now`, operations are forgotten at once, and nobody takes anything back (default 1h)",
    )  # fmt: skip
    parser.add_argument("--deadline", type=float, default=300, help="seconds that one command may take (default 300)")
    parser.add_argument("--part", type=float, default=1.0, help="this part of the large numbers (default 1)")
    parser.add_argument("--broken", default="", choices=VARIANTS, help="a variant with a fault, to see it found")
    parser.add_argument("--directory", help="where to work (default: the usual place for temporary files)")
    parser.add_argument("--memory", action="store_true", help="work on a tmpfs, where commands meet more often")
    parser.add_argument("--keep", action="store_true", help="leave the directory if there is a finding")
    return parser


def _storm(place: Place, arguments: argparse.Namespace) -> list[str]:
    actions = arguments.actions.split(",") if arguments.actions else list(ACTIONS)
    storm = Storm(place, arguments.processes, arguments.seed, arguments.deadline, actions)
    storm.rage(arguments.seconds, arguments.least)
    began = time.monotonic()
    place = replace(place, broken="")
    found = [*place.findings(), *judge(place, arguments.deadline)]
    _tell(place, storm, time.monotonic() - began)
    return found


def _tell(place: Place, storm: Storm, judged: float) -> None:
    """The figures of a storm."""
    ends: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    peaks: defaultdict[str, int] = defaultdict(int)
    killed: Counter[str] = Counter()
    for one in place.counted():
        if "killed" in one:
            killed[str(one["killed"])] += 1
            continue
        verb = str(one["verb"])
        ends[verb][str(one["kind"])] += 1
        seconds[verb].append(float(str(one["seconds"])))
        peaks[verb] = max(peaks[verb], int(str(one["peak"])))
    print(f"{'COMMAND':12} {'MEDIAN s':>8} {'MOST s':>8} {'MOST MB':>8}  ENDS")
    for verb, counter in sorted(ends.items()):
        times = seconds[verb]
        figures = f"{statistics.median(times):8.2f} {max(times):8.2f} {peaks[verb] / 1e6:8.0f}"
        print(f"{verb:12} {figures}  {', '.join(f'{kind} {count}' for kind, count in counter.most_common())}")
    acknowledged = Counter(one.action for one in place.acknowledged())
    print(f"acknowledged: {acknowledged.total()} ({', '.join(f'{k} {n}' for k, n in acknowledged.most_common())})")
    print(f"killed: {killed.total()} ({', '.join(f'{k} {n}' for k, n in killed.most_common())})")
    print(f"workers: {storm.started}; judged in {judged:.0f} s")
    for role, peak in sorted(storm.peaks.items()):
        print(f"most memory of a {role}: {peak / 1e6:.0f} MB")


if __name__ == "__main__":
    sys.exit(main())
