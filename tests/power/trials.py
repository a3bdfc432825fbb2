"""An operation recorded, then each state of its disk mounted and looked at.

In each state:

1. the file system mounts, and so repairs itself from its journal;
2. `fsck --read-data` finds nothing but garbage;
3. everything that was acknowledged is there, byte for byte: all that the commands before left, and, if the operation's
   own had ended, what that did; otherwise it is done or has not begun (stores.Shape);
4. either the same command works, without anybody's help; or everything that it may have been writing is imported, and
   can be read, so that no garbage poisons it;
5. `fsck --read-data` finds nothing after that, and `gc --expire now` removes the rest.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.power.crashes import Crash, Replay, chosen
from tests.power.disks import FileSystem, in_memory, looped, make, mounted
from tests.power.log import Log
from tests.power.recorder import recorded
from tests.torture.operations import Operation, do_steps, make_files
from tests.torture.stores import Place, Shape
from tests.torture.sweep import Undisturbed, difference, done_twice, goes_on, keeps, public, unclean, done_twice

_OVERLAP = "heads/overlap"
_IMPORTED = ("root", "other", "third", "fourth", "context", "layout", "etc-new")
_MOUNTED, _PREPARED, _ENDED = range(3)
"""Marks: the file system is there; the operation's steps are done; its command is."""


@dataclass(slots=True)
class Tally:
    """Of one operation on one file system: states that were looked at, and what was found."""

    file_system: str
    operation: str
    states: int = 0
    findings: list[str] = field(default_factory=list)


class _Broken(Place):
    """A place whose commands all are a broken variant."""

    def _command(self, arguments: tuple[str, ...]) -> int:
        self._broken()
        return super()._command(arguments)


@dataclass(frozen=True, slots=True)
class _Expected:
    """What is so without a power cut. `overlap`: the digest of the branch that everything was imported to."""

    plain: Undisturbed
    overlap: str


def tried(
    directory: Path, file_system: FileSystem, operation: Operation, count: int, seed: str, broken: Callable[[], None]
) -> Tally:
    """Record the operation, and look at up to `count` different states."""
    tally = Tally(file_system.name, operation.name)
    with in_memory(directory):
        point = directory / "disk-at"
        point.mkdir()
        place = _Broken(directory / "work", broken, point / "store")
        expected = _recorded(directory, file_system, operation, place)
        with Log.opened(directory / "log", file_system.size) as log:
            first = log.marked(_PREPARED if operation.steps else _MOUNTED)
            chance = random.Random(f"{seed} {file_system.name} {operation.name}")
            crashes = chosen(log, first, log.marked(_ENDED), count, chance)
            replay = Replay(log, directory / "base", file_system.size)
            place = Place(directory / "work", store=point / "store")
            for crash in crashes:
                replay.make(crash, directory / "image")
                wrong = list(_looked_at(directory / "image", file_system, operation, place, expected, crash, chance))
                tally.states += 1
                if wrong:
                    tally.findings.append(f"{file_system.name} {operation.name}: {crash.name}\n    " + "\n    ".join(wrong))
    return tally


def _import_everything(place: Place) -> None:
    place.must("import", "everything", "-b", "overlap", "-m", "everything")


def _recorded(directory: Path, file_system: FileSystem, operation: Operation, place: Place) -> _Expected:
    """Do the operation on a disk that is recorded; returns what is so without a power cut."""
    make_files(place.directory)
    with recorded(directory, file_system.size) as recorder:
        make(file_system, recorder.device)
        with mounted(recorder.device, file_system, place.store.parent):
            recorder.mark(_MOUNTED)
            do_steps(place, operation)
            recorder.mark(_PREPARED)
            place.leave()
            if place.store.exists():
                subprocess.run(["cp", "-a", str(place.store), str(place.directory)], check=True)
            done = place.run(*operation.command.split())
            recorder.mark(_ENDED)
            place.leave()
    if done.code not in (0, 1):
        raise AssertionError(f"{operation.name} cannot be done: {done.code} {done.err}")
    return _expected(Place(place.directory), operation)


def _expected(place: Place, operation: Operation) -> _Expected:
    """What the operation does to a copy of the store."""
    plain = done_twice(place, operation)
    everything = place.directory / "everything"
    everything.mkdir()
    for path in list(place.directory.iterdir()):
        if path.name in _IMPORTED:
            subprocess.run(["cp", "-a", str(path), str(everything)], check=True)
    _import_everything(place)
    expected = _Expected(plain, place.shape()[_OVERLAP])
    place.leave()
    return expected


def _looked_at(
    image: Path,
    file_system: FileSystem,
    operation: Operation,
    place: Place,
    expected: _Expected,
    crash: Crash,
    chance: random.Random,
) -> Iterator[str]:
    with looped(image) as device:
        try:
            with mounted(device, file_system, place.store.parent):
                try:
                    yield from _wrong(operation, place, expected, crash, chance.random() < 0.5)
                except AssertionError as error:
                    yield str(error)
                finally:
                    place.leave()
        except OSError as error:
            yield f"the file system: {error}"


def _wrong(operation: Operation, place: Place, expected: _Expected, crash: Crash, is_other: bool) -> Iterator[str]:
    plain = expected.plain
    if not (place.store / "format").exists() and not operation.steps and not crash.is_acknowledged:
        yield from goes_on(place, operation, plain, {})
        return
    yield from unclean(place, "after the power cut")
    shape = place.shape()
    allowed = [public(plain.after)] if crash.is_acknowledged else [public(plain.before), public(plain.after)]
    is_between = operation.is_stepwise and not crash.is_acknowledged and keeps(shape, plain)
    if public(shape) not in allowed and not is_between:
        what = "what was acknowledged is not there" if crash.is_acknowledged else "it is neither done nor undone"
        yield f"{what}: {difference(shape, plain)}"
    yield from _overlapping(place, expected, shape) if is_other else goes_on(place, operation, plain, shape)


def _overlapping(place: Place, expected: _Expected, before: Shape) -> Iterator[str]:
    """What is wrong when everything is imported that the command may have been writing, and garbage collected then."""
    _import_everything(place)
    yield from unclean(place, "after another import")
    place.must("gc", "--repack", "--expire", "now")  # without the first, a little garbage beside what is needed may stay
    left = yield from unclean(place, "after gc")
    if left > expected.plain.unreachable:
        yield f"gc leaves {left} unreachable, and {expected.plain.unreachable} otherwise"
    after = public(place.shape())
    if after.pop(_OVERLAP, "") != expected.overlap:
        yield "what was imported then is not what was there to import"
    if after != public(before):
        yield f"another import and gc change what the store says: {difference(after, expected.plain)}"
