"""`make bench`: every section, or those that are named. Tables, figures and a plot are written to a directory."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import report
from benchmarks.corpora.million import ENTRIES
from benchmarks.measure import warm_memory
from benchmarks.peers.peer import Peer
from benchmarks.peers.servers import Server, servers
from benchmarks.sections.builds import builds
from benchmarks.sections.changes import changes
from benchmarks.sections.collection import collection
from benchmarks.sections.commits import commits
from benchmarks.sections.crowd import crowd
from benchmarks.sections.forks import forks
from benchmarks.sections.history import history
from benchmarks.sections.images import images
from benchmarks.sections.imports import imports
from benchmarks.sections.largefile import large_file
from benchmarks.sections.livecommit import live_commit
from benchmarks.sections.merges import merges
from benchmarks.sections.million import million
from benchmarks.sections.overlays import overlays
from benchmarks.sections.ownpart import ownpart
from benchmarks.sections.questions import questions
from benchmarks.sections.restarts import restarts
from benchmarks.sections.servers import serving
from benchmarks.sections.sharing import sharing
from benchmarks.sections.sizes import sizes
from benchmarks.sections.verbs import verbs
from benchmarks.setting import Setting, best, with_containers

SECTIONS: dict[str, Callable[[Setting], list[report.Section]]] = {
    "imports": imports,
    "images": images,
    "sizes": sizes,
    "changes": changes,
    "history": history,
    "million": million,
    "collection": collection,
    "commits": commits,
    "questions": questions,
    "merges": merges,
    "builds": builds,
    "livecommit": live_commit,
    "overlays": overlays,
    "servers": serving,
    "largefile": large_file,
    "sharing": sharing,
    "restarts": restarts,
    "verbs": verbs,
    "ownpart": ownpart,
    "forks": forks,
    "crowd": crowd,
}
CACHE = Path("/var/tmp/treering-benchmarks")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    options = _options()
    if options.list:
        _list()
        return
    if os.geteuid() != 0:
        raise SystemExit("The benchmarks mount, keep owners, and drop the page cache: run them as root.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leaves nothing mounted or running
    options.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=options.work))
    only = frozenset(name.strip() for name in options.peers.split(";") if name.strip())
    setting = Setting(options.cache, work, options.rounds, options.quick, options.entries, options.root, only)
    found: list[report.Section] = []
    try:
        if not options.quick:
            print(f"{warm_memory() / 1e9:.0f} GB of memory taken once, and given back.", file=sys.stderr, flush=True)
        for name in options.sections or SECTIONS:
            started = time.monotonic()
            print(f"{name} ...", file=sys.stderr, flush=True)
            found += SECTIONS[name](setting)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            _write(found, options.results)  # after each: hours of measuring are not lost by what comes later
    finally:
        setting.close()
    print(report.markdown(found))
    print(f"Written to {options.results}: results.md, results.json, plot.svg", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--list", action="store_true", help="list the sections and the tools, and end")
    parser.add_argument("--quick", action="store_true", help="small corpora: shows that it works, and nothing else")
    parser.add_argument("--rounds", type=int, default=3, help="how often what is timed is done (default: 3)")
    parser.add_argument("--peers", default="", help="only these tools, separated by semicolons (default: all)")
    parser.add_argument("--entries", type=int, default=ENTRIES, help=f"of the large tree (default: {ENTRIES:,})")
    parser.add_argument(
        "--root", type=Path, help="a root filesystem instead of a Debian made with mmdebstrap; only read"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"where corpora are kept (default: {CACHE})")
    parser.add_argument("--work", type=Path, default=CACHE, help="a directory on the disk to be measured")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"where to write (default: {RESULTS})")
    options = parser.parse_args()
    unknown = set(options.sections) - SECTIONS.keys()
    if unknown:
        parser.error(f"no section is called {', '.join(sorted(unknown))}")
    return options


def _list() -> None:
    for name, section in SECTIONS.items():
        module = sys.modules[section.__module__]
        print(f"{name:12} {(module.__doc__ or '').splitlines()[0]}")
    print()
    tools: list[Peer | Server] = [*with_containers(), *best(), *servers()]
    for tool in tools:
        print(f"{tool.name:20} {tool.absent() or 'is here'}")


def _write(found: list[report.Section], results: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    (results / "results.md").write_text(report.markdown(found))
    (results / "results.json").write_text(report.as_json(found))
    try:
        from benchmarks.plot import plot
    except ModuleNotFoundError as error:
        print(f"No plot: {error.name} is not installed (pip install '.[bench]').", file=sys.stderr)
        return
    plot(found, results / "plot.svg")


if __name__ == "__main__":
    main()
