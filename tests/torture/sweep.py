"""Strike at each call of a command in turn, and look at what is left.

After each strike, on a store that is then set back:

1. `fsck --read-data` finds nothing but garbage;
2. all that the store said before is there, byte for byte: the command is done, or has not begun (stores.Shape);
3. after an error, the command has said so without a traceback, and a success is the whole of what was to be done;
4. the same command works, without anybody's help, and the store then says what it says after an undisturbed one;
5. `gc --expire now` removes the rest: nothing unreachable is left, and no kind of file that is not there otherwise;
6. where containers run, one that was left running goes on, at the latest after the next command (`ps`), and when all
   are removed no process, mount, cgroup or state of the engine's is left.
"""

from __future__ import annotations

import errno
import json
import re
import signal
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace

from tests.torture import calls
from tests.torture.operations import Operation, prepare, take
from tests.torture.points import Points
from tests.torture.pressure import has_given_up
from tests.torture.processes import Traced
from tests.torture.running import looked_after, removed
from tests.torture.stores import Place, Shape
from tests.torture.tracer import KILL, SHORT, Strike

FAULTS = {
    "kill": Strike(0),
    "kill-one": Strike(0, alone=True),
    "enospc": Strike(0, errno.ENOSPC, calls.ROOM),
    "full": Strike(0, errno.ENOSPC, calls.ROOM, on=True),
    "eio": Strike(0, errno.EIO, calls.DISK),
    "emfile": Strike(0, errno.EMFILE, calls.DESCRIPTORS),
    "eintr": Strike(0, errno.EINTR, calls.SLOW),
    "enomem": Strike(0, errno.ENOMEM, calls.MEMORY),
    "short": Strike(0, SHORT, frozenset(calls.SIZES)),
    "tight": Strike(0, errno.ENOMEM, scarce="memory"),
    "few": Strike(0, errno.EMFILE, scarce="descriptors"),
    "blind": Strike(0, errno.ENOMEM, calls.LOOKS),
    "unread": Strike(0, errno.EIO, calls.READS),
}
"""What happens at the first call of those; and then at the second, and so on."""
_OF_A_CONTAINER = re.compile(r"containers/|^run/engine/#/status\.tmp$")
"""A crun that was killed leaves the last of these in its state of a container, with which it goes."""
_LOG = "run/supervisors.log"
"""What went wrong in a supervisor is there, and stays."""
_BUG = re.compile(r"Traceback|[Uu]nexpected|is a bug|Exception ignored")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be, and how to see it again."""

    operation: str
    fault: str
    number: int
    at: str
    what: str

    def __str__(self) -> str:
        return f"{self.operation} --fault {self.fault} --at {self.number}  {self.at}\n    {self.what}"


@dataclass(slots=True)
class Tally:
    """Of one operation and one kind of fault: strikes that were made, and what was found."""

    operation: str
    fault: str
    points: int = 0
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What the store says before, after the command, and after it was run twice."""

    before: Shape
    after: Shape
    twice: Shape
    code: int
    code_again: int
    kinds: set[str]
    unreachable: int


def undisturbed(place: Place, operation: Operation) -> Undisturbed:
    """Prepare the store, and see what the command does when nothing happens to it."""
    prepare(place, operation)
    return done_twice(place, operation)


def done_twice(place: Place, operation: Operation) -> Undisturbed:
    """See what the command does to a store, and then again."""
    take(place, operation.live)
    before = place.shape()
    command = tuple(operation.command.split())
    first = place.run(*command)
    after = place.shape()
    if first.code not in (0, 1):
        raise AssertionError(f"{operation.name} cannot be done: {first.code} {first.err}")
    unreachable = _left_by_gc(place)
    _begin(place, operation)
    place.run(*command)
    again = _again(place, operation)
    twice = place.shape()
    unreachable = max(unreachable, _left_by_gc(place))
    return Undisturbed(before, after, twice, first.code, again.code, place.kinds(), unreachable)


def _begin(place: Place, operation: Operation) -> None:
    place.set_back()
    take(place, operation.live)


def _again(place: Place, operation: Operation) -> Traced:
    *before, last = operation.again or (operation.command,)
    take(place, tuple(before))
    return place.run(*last.split())


def _left_by_gc(place: Place) -> int:
    """How many objects that nothing needs it leaves, since they are too few in their layer."""
    place.must("gc", "--expire", "now")
    return int(json.loads(place.run("fsck", "--format", "json").out)["unreachable"])


def sweep(
    place: Place,
    operation: Operation,
    fault: str,
    plain: Undisturbed,
    tell: Callable[[str], None],
    points: Points,
) -> Tally:
    """Strike at these points. The store is the one that undisturbed() has prepared."""
    strike = FAULTS[fault]
    tally = Tally(operation.name, fault)
    if strike.scarce and operation.stays:
        return tally  # the limit would be that of all processes that it leaves behind, whatever they need
    _begin(place, operation)
    command = tuple(operation.command.split())
    seen = place.seen(command, strike, operation.stays)
    try:
        for number in points.numbers(seen, f"{operation.name} {fault}"):
            done, wrong = struck_at(place, operation, plain, replace(strike, number=number))
            if not done.at or (strike.scarce and number >= len(seen)):
                break  # it makes fewer calls now and then; and so much is enough
            tally.points += 1
            if wrong:
                tally.findings.append(Finding(operation.name, fault, number, done.at, "\n    ".join(wrong)))
                tell(str(tally.findings[-1]))
    except BaseException:
        tell(f"{operation.name} --fault {fault} ends after {tally.points} points, {len(tally.findings)} findings")
        raise
    place.leave()
    return tally


def struck_at(place: Place, operation: Operation, plain: Undisturbed, strike: Strike) -> tuple[Traced, list[str]]:
    """Set the store back, run the command with a strike, and tell what is wrong then."""
    _begin(place, operation)
    done = place.struck(tuple(operation.command.split()), strike, stays=operation.stays)
    if not done.at:
        return done, []
    try:
        return done, list(_wrong(place, operation, plain, strike, done))
    except AssertionError as error:
        return done, [str(error)]


def _wrong(place: Place, operation: Operation, plain: Undisturbed, strike: Strike, done: Traced) -> Iterator[str]:
    if done.is_late:
        yield "it does not end"
    elif strike.errno != KILL:
        if strike.errno == SHORT and done.code != plain.code:
            yield f"a write that writes less is no error, and it ends with {done.code}: {done.err.strip()[-600:]}"
        is_ended = done.code < 0 and not has_given_up(done)
        is_silent = done.code not in (0, plain.code) and not done.err.strip()
        if is_ended or is_silent or _BUG.search(done.err):
            yield f"it ends with {done.code}, and says: {done.err.strip()[-600:]}"
    elif done.code != -signal.SIGKILL and not (strike.alone or operation.stays):
        yield f"it should be dead, and ended with {done.code}"
    if operation.stays:
        yield from looked_after(place, operation, strike)
    if not operation.steps and not (place.store / "format").exists():
        yield from goes_on(place, operation, plain, {})
        return
    yield from unclean(place, "then")
    shape = place.shape()
    succeeded = done.code == plain.code == 0
    allowed = [plain.after] if succeeded else [public(plain.before), public(plain.after)]
    if (shape if succeeded else public(shape)) not in allowed and not (
        operation.is_stepwise and not succeeded and keeps(shape, plain)
    ):
        yield f"{'a success' if succeeded else 'it'} is neither done nor undone: {difference(shape, plain)}"
    yield from goes_on(place, operation, plain, shape)
    if operation.stays:
        yield from removed(place)
        yield from unclean(place, "after all containers were removed")


def goes_on(place: Place, operation: Operation, plain: Undisturbed, shape: Shape) -> Iterator[str]:
    """What is wrong when the command is run again, and garbage collected then."""
    again = _again(place, operation)
    if _BUG.search(again.err) or again.code not in (plain.code, plain.code_again):
        yield f"again, it ends with {again.code}: {again.err.strip()[-600:]}"
    final = place.shape()
    ends = (public(plain.after), public(plain.twice))
    is_whole = all(final.get(name) in [one.get(name) for one in ends] for name in {*ends[0], *ends[1]})
    if public(final) not in ends and not (operation.is_stepwise and is_whole):
        yield f"again, it does something else: {difference(final, plain)}"
    yield from unclean(place, "after it was run again")
    collected = place.run("gc", "--expire", "now")
    if collected.code:
        yield f"gc ends with {collected.code}: {collected.err.strip()[-600:]}"
    unreachable = yield from unclean(place, "after gc")
    if unreachable > plain.unreachable:  # a little garbage may stay beside what is needed, but not for ever
        place.must("gc", "--repack", "--expire", "now")
        unreachable = yield from unclean(place, "after gc --repack")
    if unreachable > plain.unreachable:
        yield f"gc leaves {unreachable} unreachable, and {plain.unreachable} otherwise"
    after = place.shape()
    if more := {kind for kind in place.kinds() - plain.kinds if not _named(kind, after)} - {_LOG}:
        yield f"gc leaves {sorted(more)}"
    if public(after) != public(final):
        yield f"gc changes what the store says: {difference(after, plain)}"


def _named(kind: str, shape: Shape) -> bool:
    """Whether a file is there for something that the store says."""
    name = kind.removeprefix("history.git/").removeprefix("logs/").removeprefix("refs/")
    containers = any(one.startswith("container ") for one in shape)
    return name in shape or name == "packed-refs" or (containers and _OF_A_CONTAINER.search(kind) is not None)


def unclean(place: Place, when: str) -> Generator[str, None, int]:
    """What fsck finds; returns how many objects are garbage."""
    checked = place.run("fsck", "--read-data", "--format", "json")
    try:
        report = json.loads(checked.out)
    except ValueError:
        yield f"fsck fails {when}: {checked.err.strip()[-400:]}"
        return 0
    for problem in report["problems"]:
        yield f"fsck {when}: {problem['kind']}: {problem['message']}"
    return int(report["unreachable"])


def public(shape: Shape) -> Shape:
    """What people see of it: not the refs that keep containers' generations and the cache of builds."""
    return {name: told for name, told in shape.items() if not name.startswith(("containers/", "removed/", "treering/"))}


def keeps(shape: Shape, plain: Undisturbed, said: Callable[[Shape], Shape] = public) -> bool:
    """Whether each thing of those that are `said` is as it was before or is afterwards."""
    for name in {*said(plain.before), *said(plain.after)}:
        if shape.get(name) not in (plain.before.get(name), plain.after.get(name)):
            return False
    return True


def difference(shape: Shape, plain: Undisturbed) -> str:
    """What is as it was neither before nor afterwards, in words."""
    lines = []
    for name in sorted({*shape, *plain.before, *plain.after}):
        told = [one.get(name, "-") for one in (plain.before, shape, plain.after)]
        if len(set(told)) > 1:
            lines.append(f"{name}: before {told[0]}, now {told[1]}, undisturbed {told[2]}")
    return "; ".join(lines)
