"""A process that fuzzes one target: `python -m tests.fuzz.one TARGET DIRECTORY --seconds N --runs N --seed N`.

With atheris (libFuzzer for Python) inputs are bred by the branches that they reach; without it, the kept corpus is
mutated blindly. Either way the last line says how many inputs were tried. What must not happen is written to
DIRECTORY/findings/TARGET, one input for each place in the code, and the run goes on; an input that takes too long, or
too much memory, ends it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import logging
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.target import Target, mutated, place_of

SECONDS_FOR_ONE = 10
"""What an input may take, on a machine that does other things too: none of them is longer than a few KiB."""
MEMORY = 2048
"""MiB that the process may have."""
_LENGTH = 8192
"""Bytes of an input: more than the 4,300 digits that Python makes a number of."""


class TooSlow(BaseException):
    """An input took too long."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    try:
        atheris = None if given.plain else importlib.import_module("atheris")
    except ImportError:
        atheris = None
    with atheris.instrument_imports(include=["vcs", "fusefs", "runtime"]) if atheris else contextlib.nullcontext():
        target: Target = importlib.import_module("tests.fuzz.catalogue").TARGETS[given.target]
    findings = given.directory / "findings" / target.name
    findings.mkdir(parents=True, exist_ok=True)
    attempt = _attempt(target, findings)
    if atheris:
        _guided(atheris, target, attempt, given, findings)
    else:
        _plain(target, attempt, given, findings)


def _attempt(target: Target, findings: Path) -> Callable[[bytes], None]:
    seen: set[str] = set()

    def attempt(data: bytes) -> None:
        try:
            target(data)
        except TooSlow:
            raise
        except BaseException as error:
            place = place_of(error)
            if place not in seen:
                seen.add(place)
                keep(findings, "crash", data)
                print(f"finding in {target.name}: {place}: {str(error)[:200]}", file=sys.stderr, flush=True)

    return attempt


def keep(findings: Path, kind: str, data: bytes) -> None:
    """Keep an input, by its digest."""
    (findings / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)


def _guided(atheris: Any, target: Target, attempt: Callable[[bytes], None], given: Any, findings: Path) -> None:
    work = given.directory / "corpus" / target.name
    work.mkdir(parents=True, exist_ok=True)
    seeds = target.corpus()
    for data in seeds:
        (work / hashlib.sha1(data).hexdigest()).write_bytes(data)
    words = given.directory / f"{target.name}.words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words if word))
    length = max(_LENGTH, 2 * max(map(len, seeds), default=0))
    arguments = [
        sys.argv[0], f"-max_total_time={given.seconds}", f"-seed={given.seed}", f"-timeout={SECONDS_FOR_ONE}",
        f"-rss_limit_mb={MEMORY}", f"-max_len={length}", f"-artifact_prefix={findings}/", "-print_final_stats=1",
        "-verbosity=1", "-len_control=20", *([f"-dict={words}"] if target.words else []),
    ]  # fmt: skip
    if given.runs:
        arguments.append(f"-runs={given.runs}")
    atheris.Setup([*arguments, str(work)], attempt, internal_libfuzzer=True)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _plain(target: Target, attempt: Callable[[bytes], None], given: Any, findings: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY << 20, MEMORY << 20))
    chance = random.Random(given.seed)
    corpus = target.corpus()
    ends = time.monotonic() + given.seconds if given.seconds else float("inf")
    count = 0
    while time.monotonic() < ends and (not given.runs or count < given.runs):
        data = corpus[count] if count < len(corpus) else mutated(chance.choice(corpus), corpus, target.words, chance)
        count += 1
        try:
            with deadline(SECONDS_FOR_ONE):
                attempt(data)
        except TooSlow:
            keep(findings, "timeout", data)
            print(f"finding in {target.name}: more than {SECONDS_FOR_ONE} seconds", file=sys.stderr)
            break
    print(f"stat::number_of_executed_units: {count}", file=sys.stderr)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """TooSlow in whatever takes longer, as soon as Python's own code runs again. In the main thread alone."""

    def late(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main()
