"""One seed: steps by chance, done everywhere, and compared at every turn.

- What each step returns, or the error it ends with, is the same in the container as in what it is compared with.
- From time to time, so is the whole tree: names, types, modes, owners, sizes, bytes, extended attributes, devices,
  targets, which names are one file, and times, where they were not made by the clock.
- A commit, exported, is what the container showed: the same with all times. So is a container made of it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.posix.look import Tree, differences, now_told_as_now, without_trusted
from tests.posix.sides import Container, Ext4, Failed, Overlay, make_base
from tests.posix.step import COMMIT, NEXT, NOT_LIKE_EXT4, Chooser, Step, is_refused

_SHOWN = 12
LOOK_EVERY = 40


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    seed: int = 0
    steps: int = 200
    rounds: int = 3
    like: str = "overlay"
    """Compared with: overlay, ext4 or nothing but its commits. The last has ids of its own (--userns auto)."""
    broken: str = ""
    """A variant of the program with a fault: tests/posix/broken.py."""


@dataclass
class Told:
    """What was done."""

    steps: list[Step] = field(default_factory=list)
    refused: int = 0
    across: int = 0
    """Steps that any overlay of two file systems refuses with EXDEV, and that programs do otherwise then:
    copy_file_range(2) of a file that was never written to. Where ext4 is compared with, also the move of a directory
    whose path is longer than overlayfs keeps."""
    looks: int = 0
    commits: int = 0
    wrong: list[str] = field(default_factory=list)

    def write(self, path: Path, plan: Plan) -> None:
        """So that it can be done again."""
        path.write_text(json.dumps({"like": plan.like, "steps": [step.as_json() for step in self.steps]}) + "\n")


class Difference(Exception):
    """Something is not what it should be; the arguments are lines that say what."""


def run(plan: Plan, directory: Path, again: list[Step] | None = None) -> Told:
    """Do what a plan says, or the steps of another run once more, in a directory that is empty and will be so again."""
    told = Told()
    base = make_base(directory / "base", linked=plan.like != "ext4", small_ids=plan.like == "commits")
    began = time.time_ns() - 10**9
    container = reference = None
    try:
        container = Container(directory, base, plan.broken, ids=plan.like == "commits")
        container.begin()
        if plan.like != "commits":
            reference = (Overlay if plan.like == "overlay" else Ext4)(directory, base)
        pair = _Pair(container, reference, began, told)
        pair.look()
        for step in again if again is not None else _chosen(plan, reference or container):
            pair.do(step)
        pair.look()
        container.check()
    except (Difference, Failed) as found:
        told.wrong += [f"after {len(told.steps)} steps, at {told.steps[-1] if told.steps else 'the beginning'}:"]
        told.wrong += [str(line) for line in found.args]
    finally:
        for side in (reference, container):
            if side is not None:
                side.end()
    return told


def _chosen(plan: Plan, shown: Overlay | Container) -> Iterator[Step]:
    chance = random.Random(plan.seed)
    chooser = Chooser(chance, NOT_LIKE_EXT4 if plan.like == "ext4" else frozenset())
    for number in range(plan.rounds):
        commits = {chance.randrange(plan.steps) for _ in range(2)}
        for position in range(plan.steps):
            if position % 4 == 0:
                names = shown.names()
            yield chooser.choose(names)
            if position in commits:
                yield Step(COMMIT, (), (chance.randrange(2),))
        if number < plan.rounds - 1:
            yield Step(NEXT, (), (chance.randrange(2),))
    yield Step(COMMIT, (), (1,))


class _Pair:
    """A container and what it is compared with."""

    def __init__(self, container: Container, reference: Overlay | None, began: int, told: Told) -> None:
        self._container = container
        self._reference = reference
        self._began = began
        self._told = told

    def do(self, step: Step) -> None:
        self._told.steps.append(step)
        if step.what == COMMIT:
            self._committed(bool(step.numbers[0]))
        elif step.what == NEXT:
            self._next(bool(step.numbers[0]))
        else:
            ours = self._container.do(step)
            if self._reference is None:
                self._told.refused += is_refused(ours)
                return
            if ours == "EXDEV" and isinstance(self._reference, Ext4) and step.what == "rename":
                self._told.across += 1  # the way to a moved directory is too long for overlayfs to keep
                return
            if step.what == "copy_range" and ours == "EXDEV":
                self._told.across += 1
                self._reference.do(Step("write", step.paths[1:], (0, 0, 0, 0)))  # it was opened, which copies it up
                return
            theirs = self._reference.do(step)
            self._told.refused += is_refused(theirs)
            if ours != theirs:
                raise Difference(f"{shortened(ours)} in the container, {shortened(theirs)} in {self._name}")
            if len(self._told.steps) % LOOK_EVERY == 0:
                self.look()

    @property
    def _name(self) -> str:
        return f"plain {type(self._reference).__name__.lower()}"

    def look(self) -> Tree:
        """Both trees are the same, but for times that the clock made."""
        now = time.time_ns() + 10**9
        ours = self._container.look()
        self._told.looks += 1
        if self._reference is None:
            return ours
        theirs = self._reference.look()
        told = [now_told_as_now(tree, self._began, now) for tree in (ours, theirs)]
        if isinstance(self._reference, Ext4):
            _forgive_copied_up(*told)
        _same(f"in the container, and in {self._name}", *told)
        return ours

    def _committed(self, pause: bool) -> Tree:
        seen = self.look()
        self._told.commits += 1
        self._same_in("its commit", seen, self._container.commit(pause))
        return seen

    def _next(self, same: bool) -> None:
        seen = self.look()
        self._container.stop()
        self._told.commits += 1
        self._same_in("its commit", seen, self._container.commit())
        if same:
            self._container.again()
        else:
            self._container.begin()
        self._same_in("the next one of its commit", seen, self._container.look())
        if self._reference is not None:
            self._reference.next()
            self.look()

    def _same_in(self, where: str, seen: Tree, found: Tree) -> None:
        if self._reference is None:
            seen, found = without_trusted(seen), without_trusted(found)
        _same(f"in the container, and in {where}", seen, found)


def _forgive_copied_up(ours: Tree, theirs: Tree) -> None:
    """With metacopy=on, opening a file to write gives it another mtime, even if nothing is written, if its attributes
    had been changed before and its data has not: overlayfs copies the data up then. An overlay is compared strictly."""
    for path, said in ours.items():
        if said["type"] == "file" and said["mtime"] == "now" and path in theirs:
            theirs[path] = {**theirs[path], "mtime": "now"}


def _same(words: str, ours: Tree, theirs: Tree) -> None:
    found = differences(ours, theirs)
    if found:
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        raise Difference(words + ":", *found[:_SHOWN], *more)


def shortened(outcome: object) -> str:
    text = repr(outcome)
    return text if len(text) < 300 else f"{text[:200]}...{text[-80:]}"


def shrink(steps: list[Step], fails: Callable[[list[Step]], bool]) -> list[Step]:
    """Steps of which none can be left out for the same to happen, or nearly (Zeller's ddmin, greedy)."""
    size = len(steps) // 2
    while size:
        place = len(steps)
        while place > 0:
            shorter = steps[: max(0, place - size)] + steps[place:]
            if shorter != steps and fails(shorter):
                steps = shorter
            place -= size
        size //= 2
    return steps
