"""Whole commands, killed or failed at some of their calls: a sample of what `make torture` does everywhere. The
harness is seen to notice variants of the program that have a fault."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from ctypes import c_int, c_long, c_size_t, c_void_p
from pathlib import Path

import pytest

from tests.torture.operations import OPERATIONS, prepare
from tests.torture.points import Points
from tests.torture.stores import Place
from tests.torture.tracer import text_at

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: containers")


def torture(directory: Path, *arguments: str) -> tuple[int, str]:
    """A process of its own: the one that traces waits for whatever child there is."""
    with (directory / "told").open("w+") as told:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tests.torture", "--directory", str(directory), *arguments],
            cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)}, stdin=subprocess.DEVNULL, stdout=told,
            stderr=told, timeout=240, check=False,
        )  # fmt: skip
        told.seek(0)
        return done.returncode, told.read()


@pytest.mark.parametrize(
    ("fault", "operations", "points"),
    [
        ("kill", "init,import,commit,merge,rm,undo-rm,gc", "--sample=2"),
        ("full,eio", "import,merge", "--sample=2"),
        ("enomem", "tag", "--sample=2"),
        ("short", "tag", "--each=0"),
        ("tight,few", "tag,gc", "--sample=3"),
        ("kill,kill-one", "commit-live", "--sample=1"),
        ("kill-one", "run-rm", "--sample=2"),
        ("kill", "pull", "--sample=1"),
    ],
)
def test_a_command_is_done_or_not_whatever_happens_to_it(
    tmp_path: Path, fault: str, operations: str, points: str
) -> None:
    code, told = torture(tmp_path, "--fault", fault, "--only", operations, points)
    assert code == 0, told
    assert told.splitlines()[-1].endswith(" 0 findings")


def test_calls_of_each_kind_are_struck() -> None:
    """The first and the last of each, whichever file of a kind it is, and some more by chance."""
    seen = [
        *(f"openat('store/layers/{one:064x}.layer') by treering" for one in range(100)),
        "openat('store/layers/new') by crun",
        *("openat('store/layers/new') by treering", "fsync(3<store/layers/new>) by treering") * 50,
        "fsync(12<store/layers/new>) by treering",
        *(f"openat('/usr/lib/python3.11/{name}.cpython-311.pyc') by python" for name in ("enum", "json/decoder")),
    ]
    assert list(Points(each=0).numbers(seen, "one")) == [0, 99, 100, 101, 102, 199, 201, 202, 203]
    more, again, other = (list(Points(each=2).numbers(seen, salt)) for salt in ("one", "one", "other"))
    assert more == again != other
    assert len(more) == 9 + 3 * 2
    assert {0, 99, 100, 101, 102, 199, 201, 202, 203} < {*more}
    assert list(Points().numbers(seen[:3], "one"))[:3] == [0, 1, 2]
    assert {0, 99} < {*Points(5).numbers(seen[:100], "one")}


_PAGE = mmap.PAGESIZE


@pytest.mark.parametrize("at", [_PAGE - 5, 2 * _PAGE - 24])
def test_a_path_is_seen_whole_wherever_it_lies_in_memory(at: int) -> None:
    """Across two pages, and at the very end of what there is."""
    path = b"/store/operations.moves\0"
    libc = ctypes.CDLL(None)
    libc.mmap.restype, libc.mmap.argtypes = c_void_p, (c_void_p, c_size_t, c_int, c_int, c_int, c_long)
    libc.munmap.argtypes = (c_void_p, c_size_t)
    start = libc.mmap(None, 3 * _PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    libc.munmap(start + 2 * _PAGE, _PAGE)
    try:
        ctypes.memmove(start + at, path, len(path))
        assert text_at(os.getpid(), start + at) == path[:-1].decode()
    finally:
        libc.munmap(start, 2 * _PAGE)


def test_an_undo_is_in_the_log_before_its_moves_are_forgotten(tmp_path: Path) -> None:
    """Else a power cut between the two leaves what was taken back to be taken back again, which cannot be done."""
    place = Place(tmp_path)
    operation = OPERATIONS["undo-rm"]
    try:
        prepare(place, operation)
        place.set_back()
        done = place.struck(tuple(operation.command.split()), see=True)
    finally:
        place.leave()
    calls = [line for line in done.seen if line.startswith(("pwrite64", "fsync", "unlink"))]
    gone = next(number for number, line in enumerate(calls) if "operations.moves'" in line and "unlink" in line)
    of_log = [line for line in calls[:gone] if "operations.log>" in line]
    assert of_log[-1].startswith("fsync"), "\n".join(calls)


@pytest.mark.parametrize(
    ("broken", "fault", "operation", "sample"),
    [
        ("ref-first", "kill", "revert", 10),
        ("in-place", "kill", "rename", 0),
        ("errors-dropped", "full", "tag", 5),
        ("written-once", "short", "rename", 0),
        ("stands-still", "kill", "commit-live", 2),
    ],
)
def test_a_fault_of_the_program_is_found(tmp_path: Path, broken: str, fault: str, operation: str, sample: int) -> None:
    strikes = ("--fault", fault, "--only", operation, "--sample", str(sample))
    code, told = torture(tmp_path, "--broken", broken, *strikes)
    assert code == 1, told
    assert " 0 findings" not in told.splitlines()[-1]
    assert f"{operation} --fault {fault} --at" in told
