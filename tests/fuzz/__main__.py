"""The long run: `python -m tests.fuzz [TARGET...] --seconds N | --runs N [--seed N] [--jobs N] [--directory DIR]`.

Each target is fuzzed in a process of its own, some at a time, for so many seconds or inputs; then a table says how many
inputs each took. Exits with 1 if there is a finding. Inputs that did what must not happen are in DIR/findings, and what
was bred to reach deeper is in DIR/corpus, from which the next run goes on.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.catalogue import TARGETS

_TOP = Path(__file__).resolve().parent.parent.parent
_COUNT = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_LAST = re.compile(r"^#(\d+)\s", re.MULTILINE)
_GRACE = 120
"""Seconds that a process may need to begin and to end."""


@dataclass(frozen=True)
class Outcome:
    """What came of one target."""

    name: str
    runs: int
    seconds: float
    findings: tuple[str, ...]


def fuzz(name: str, given: argparse.Namespace) -> Outcome:
    """Fuzz one target in a process of its own."""
    command = [
        sys.executable, "-P", "-m", "tests.fuzz.one", name, str(given.directory),
        "--seconds", str(given.seconds), "--runs", str(given.runs), "--seed", str(given.seed),
    ]  # fmt: skip
    if given.plain:
        command.append("--plain")
    findings = given.directory / "findings" / name
    before = set(findings.glob("*"))
    began = time.monotonic()
    log = given.directory / f"{name}.log"
    with log.open("wb") as out, tempfile.TemporaryDirectory(prefix="treering-fuzz-") as place:
        try:
            code = subprocess.run(
                command, cwd=_TOP, env={**os.environ, "PYTHONPATH": str(_TOP), "TMPDIR": place}, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, timeout=given.seconds + _GRACE if given.seconds else None, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = -1
    said = log.read_text(errors="replace")
    counts = _COUNT.findall(said) or _LAST.findall(said)
    found = [f"{path}" for path in sorted(set(findings.glob("*")) - before)]
    if code and not found:
        found.append(f"the process ended with {code}: {log}")
    return Outcome(name, int(counts[-1]) if counts else 0, time.monotonic() - began, tuple(found))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them, if none is named")
    parser.add_argument("--seconds", type=int, default=0, help="for each target")
    parser.add_argument("--runs", type=int, default=0, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time")
    parser.add_argument("--directory", type=Path, default=_TOP / "build" / "fuzz", help="where findings go")
    parser.add_argument("--plain", action="store_true", help="without coverage, even where atheris is installed")
    parser.add_argument("--list", action="store_true", help="name the targets, and do nothing")
    given = parser.parse_args()
    if unknown := sorted(set(given.targets) - TARGETS.keys()):
        parser.error(f"no target {unknown[0]!r}: --list names them")
    if given.list:
        print("\n".join(TARGETS))
        return 0
    if not (given.seconds or given.runs):
        parser.error("say how long: --seconds N or --runs N")
    given.directory = given.directory.resolve()
    given.directory.mkdir(parents=True, exist_ok=True)
    outcomes = []
    with ThreadPoolExecutor(given.jobs) as pool:
        for done in pool.map(lambda name: fuzz(name, given), given.targets or TARGETS):
            outcomes.append(done)
            print(
                f"{done.name:20} {done.runs:12,} runs {done.seconds:7.0f} s  {len(done.findings)} findings", flush=True
            )
            for finding in done.findings:
                print(f"    {finding}", flush=True)
    findings = sum(len(done.findings) for done in outcomes)
    print(f"{len(outcomes)} targets, {sum(done.runs for done in outcomes):,} runs, {findings} findings")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
