"""An operation recorded, then each state of its disk mounted and looked at.

In each state:

1. the file system mounts, and so repairs itself from its journal;
2. `fsck --read-data` finds nothing but garbage;
3. everything that was acknowledged is there, byte for byte: all that the commands before left, and, if the operation's
   own had ended, what that did; otherwise it is done or has not begun (stores.Shape);
4. either the same command works, without anybody's help; or everything that it may have been writing is imported, and
   can be read, so that no garbage poisons it;
5. `fsck --read-data` finds nothing after that, and `gc --expire now` removes the rest.

States of the disk differ more often than the stores that are then found on it. Commands see only these, so a store that
is byte for byte like another one is looked at twice, for both of 4, and not again.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tests.power.crashes import Crash, Replay, chosen
from tests.power.disks import FileSystem, booted_again, in_memory, looped, make, mounted
from tests.power.log import Log
from tests.power.operations import AFTERWARDS, REMOTE
from tests.power.recorder import recorded
from tests.support.ending import is_ending
from tests.torture.operations import Operation, do_steps, make_files
from tests.torture.processes import Traced, reap
from tests.torture.remotes import beside
from tests.torture.stores import Place, Shape
from tests.torture.sweep import Undisturbed, difference, done_twice, goes_on, keeps, public, unclean

_OVERLAP = "heads/overlap"
_IMPORTED = ("root", "other", "third", "fourth", "context", "layout", "etc-new")
_MOUNTED, _PREPARED, _ENDED = range(3)
"""Marks: the file system is there; the operation's steps are done; its command is."""
_LOOKS = 2


@dataclass(slots=True)
class Tally:
    """Of one operation on one file system: states of the disk, different stores on them, states with something wrong,
    and what that was."""

    file_system: str
    operation: str
    states: int = 0
    stores: int = 0
    wrong: int = 0
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Expected:
    """What is so without a power cut. `overlap`: the digest of the branch that everything was imported to."""

    plain: Undisturbed
    overlap: str


class _Tried(Place):
    """A place whose commands all are a broken variant, if that is what it is given; this process is a subreaper."""

    def run(self, *arguments: str) -> Traced:
        if is_ending() and self.spared is None:
            sys.exit(1)  # Python ignores an exception in some places
        done = super().run(*arguments)
        reap(frozenset())
        return done

    def _command(self, arguments: tuple[str, ...], before: Callable[[], object] = lambda: None) -> int:
        self._broken()
        return super()._command(arguments, before)

    @contextmanager
    def ended(self, but: int = 0) -> Iterator[None]:
        """If we are told to end, or a command fails, all that runs is ended first, but this process: otherwise disks
        could not be unmounted."""
        try:
            yield
        except (SystemExit, AssertionError, subprocess.SubprocessError):
            self.spared = frozenset({but})
            self.leave()
            raise


def tried(
    directory: Path, file_system: FileSystem, operation: Operation, count: int, seed: str,
    broken: Callable[[], None] = lambda: None,
) -> Tally:  # fmt: skip
    """Record the operation, and look at up to `count` different states."""
    chance = random.Random(f"{seed} {file_system.name} {operation.name}")
    with in_memory(directory), ExitStack() as stack:
        point = directory / "mounted"
        point.mkdir()
        place = _Tried(directory / "work", broken, point / "store")
        stack.enter_context(beside(place) if operation.name in REMOTE else nullcontext())
        expected = _recorded(directory, file_system, operation, place)
        with Log.opened(directory / "log", file_system.size) as log, booted_again(directory / "boot_id"):
            first = log.marked(_PREPARED if operation.steps else _MOUNTED)
            replay = Replay(log, directory / "base", file_system.size)
            trial = _Trial(file_system, operation, _whole(place, place.store), expected)
            for crash in chosen(log, first, log.marked(_ENDED), count, chance):
                replay.make(crash, directory / "image")
                trial.look(directory / "image", crash)
    return trial.tally


# Recording


def _recorded(directory: Path, file_system: FileSystem, operation: Operation, place: _Tried) -> _Expected:
    """Do the operation on a disk that is recorded; returns what is so without a power cut."""
    make_files(place.directory)
    with recorded(directory, file_system.size) as recorder:
        make(file_system, recorder.device)
        with mounted(recorder.device, file_system, place.store.parent), place.ended(but=recorder.daemon):
            recorder.mark(_MOUNTED)
            do_steps(place, operation)
            if any(place.store.glob("containers/*/gen")):  # what was written in containers nobody else has synced
                subprocess.run(["sync", "-f", str(place.store)], check=True)
            recorder.mark(_PREPARED)
            place.leave()
            if place.store.exists():
                _copy(place)
            done = place.run(*operation.command.split())
            recorder.mark(_ENDED)
            if operation.name in AFTERWARDS:
                place.must(*AFTERWARDS[operation.name].split())
            place.leave()
    if done.code not in (0, 1):
        raise AssertionError(f"{operation.name} cannot be done: {done.code} {done.err}")
    copy = _whole(place, place.directory / "store")
    with copy.ended():
        return _expected(copy, operation)


def _whole(place: Place, store: Path) -> _Tried:
    """The same place without a fault in its commands; the store may be another."""
    whole = _Tried(place.directory, store=store)
    whole.registry = place.registry
    return whole


def _copy(place: Place) -> None:
    """Copy the store to where what is expected is found out; no container of the copy runs."""
    subprocess.run(["cp", "-a", str(place.store), str(place.directory)], check=True)
    for run in (place.directory / "store").glob("containers/*/run.json"):
        run.unlink()


def _expected(place: Place, operation: Operation) -> _Expected:
    """What the operation does to a copy of the store."""
    place.keep()
    plain = done_twice(place, operation)
    everything = place.directory / "everything"
    everything.mkdir()
    for name in _IMPORTED:
        if (place.directory / name).exists():
            subprocess.run(["cp", "-a", str(place.directory / name), str(everything)], check=True)
    _import_everything(place)
    expected = _Expected(plain, place.shape()[_OVERLAP])
    place.leave()
    return expected


def _import_everything(place: Place) -> None:
    place.must("import", "everything", "-b", "overlap", "-m", "everything")


# Looking


class _Trial:
    """Looks at states of one recorded disk."""

    def __init__(self, file_system: FileSystem, operation: Operation, place: _Tried, expected: _Expected) -> None:
        self._file_system = file_system
        self._operation = operation
        self._place = place
        self._expected = expected
        self._seen: dict[tuple[str, bool], list[bool]] = {}
        """Stores, and whether the command was acknowledged; and whether something was wrong, each time we looked."""
        self.tally = Tally(file_system.name, operation.name)

    def look(self, image: Path, crash: Crash) -> None:
        """Look at the disk in that state."""
        wrong: list[str] = []
        with looped(image) as device:
            try:
                with mounted(device, self._file_system, self._place.store.parent), self._place.ended():
                    before = self._seen.setdefault((_digest(self._place.store), crash.is_acknowledged), [])
                    if len(before) < _LOOKS:
                        wrong = self._told(crash, is_other=bool(before))
                        before.append(bool(wrong))
                    self.tally.wrong += any(before)
            except OSError as error:
                if is_ending():
                    raise
                wrong = [f"the file system: {error}"]
                self.tally.wrong += 1
        self.tally.states += 1
        self.tally.stores = len(self._seen)
        if wrong:
            name = f"{self._file_system.name} {self._operation.name}: {crash.name}"
            self.tally.findings.append("\n    ".join((name, *wrong)))

    def _told(self, crash: Crash, *, is_other: bool) -> list[str]:
        try:
            return list(self._wrong(crash.is_acknowledged, is_other))
        except AssertionError as error:
            lines = str(error).strip().splitlines()
            return [" ... ".join(dict.fromkeys((lines[0], lines[-1])))]  # of a traceback, what it is about
        finally:
            self._place.leave()

    def _wrong(self, is_acknowledged: bool, is_other: bool) -> Iterator[str]:
        operation, place, plain = self._operation, self._place, self._expected.plain
        if not is_acknowledged and not operation.steps and not (place.store / "format").exists():
            yield from goes_on(place, operation, plain, {})
            return
        yield from unclean(place, "after the power cut")
        shape = place.shape()
        before, after, now = (self._said(one) for one in (plain.before, plain.after, shape))
        is_between = operation.is_stepwise and not is_acknowledged and keeps(now, plain, self._said)
        if now != after and (is_acknowledged or now != before) and not is_between:
            what = "what was acknowledged is not there" if is_acknowledged else "it is neither done nor undone"
            yield f"{what}: {difference(shape, plain)}"
        if is_other:
            yield from self._overlapping(shape)
        elif self._was_running:
            yield from self._committed_again()
        else:
            yield from goes_on(place, operation, plain, shape)

    @property
    def _was_running(self) -> bool:
        return self._operation.name in AFTERWARDS

    def _said(self, shape: Shape) -> Shape:
        """What must be as it is expected. The copy's container did not run, so it stands elsewhere after a commit."""
        if self._was_running:
            return {name: told for name, told in shape.items() if name.startswith("heads/")}
        return public(shape)

    def _committed_again(self) -> Iterator[str]:
        again = self._place.run(*self._operation.command.split())
        if again.code not in (0, 1):
            yield f"again, it ends with {again.code}: {again.err.strip()[-600:]}"
        if self._said(self._place.shape()) != self._said(self._expected.plain.after):
            yield f"again, it does something else: {difference(self._place.shape(), self._expected.plain)}"
        self._place.must("gc", "--expire", "now")
        yield from unclean(self._place, "after gc")

    def _overlapping(self, before: Shape) -> Iterator[str]:
        """What is wrong when everything is imported that the command may have been writing, and garbage collected."""
        place, plain = self._place, self._expected.plain
        _import_everything(place)
        yield from unclean(place, "after another import")
        place.must("gc", "--expire", "now")
        yield from unclean(place, "after gc")
        after = public(place.shape())
        if after.pop(_OVERLAP, "") != self._expected.overlap:
            yield "what was imported then is not what was there to import"
        if after != public(before):
            yield f"another import and gc change what the store says: {difference(after, plain)}"


def _digest(store: Path) -> str:
    """Tells stores apart that commands can tell apart."""
    found = hashlib.sha256()
    for path in sorted(store.rglob("*")):
        status = path.lstat()
        is_link, is_file = stat.S_ISLNK(status.st_mode), stat.S_ISREG(status.st_mode)
        content = os.fsencode(os.readlink(path)) if is_link else path.read_bytes() if is_file else b""
        told = (path.relative_to(store), status.st_mode, status.st_rdev, status.st_nlink, len(content))
        found.update(repr(told).encode() + content)
    return found.hexdigest()
