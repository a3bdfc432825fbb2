"""`make bench`: every section, or those that are named; tables to stdout, and to files if wished."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import report
from benchmarks.commits import commits
from benchmarks.corpus import Setting, debian
from benchmarks.imports import imports
from benchmarks.mounts import mounts

SECTIONS: dict[str, Callable[[Setting], list[report.Section]]] = {
    "imports": imports,
    "commits": commits,
    "mounts": mounts,
}
CACHE = Path("/var/tmp/treering-benchmarks")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--root", type=Path, help=f"a root filesystem (default: a Debian, made once in {CACHE})")
    parser.add_argument("--work", type=Path, default=CACHE, help="a directory on the disk to be measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path, help="write the tables there too")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    unknown = set(options.sections) - SECTIONS.keys()
    if unknown:
        parser.error(f"no section is called {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        raise SystemExit("The benchmarks mount, and drop the page cache: run them as root.")
    root = (options.root or debian(CACHE)).resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=options.work))
    found: list[report.Section] = []
    try:
        for name in options.sections or SECTIONS:
            print(f"{name} ...", file=sys.stderr, flush=True)
            found += SECTIONS[name](Setting(root, work, options.rounds))
    finally:
        shutil.rmtree(work)
    print(report.markdown(found))
    if options.markdown:
        options.markdown.write_text(report.markdown(found))
    if options.json:
        options.json.write_text(report.as_json(found))


if __name__ == "__main__":
    main()
