"""Many containers from one, and one of them made a branch.

A fork is a new container on a commit of another's state; the commit is on no branch, and all forks share it. It has the
other's settings, but for what only one container can have, and what would take it away before anybody has looked at it:

    ports      published on any free port of the machine: the other's own are taken
    remove     no: a fork stays when it ends, to be compared
    restart    no, if it is given a command of its own, which then runs once
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from runtime.containers import Container, Containers
from runtime.settings import Restart, Settings
from runtime.states import States, must_not_merge
from runtime.storehooks import HookRun
from vcs.errors import Conflict
from vcs.history import BRANCHES, Author
from vcs.model import CommitId

_FIELD = re.compile(r"\{\{(i|n|name)\}\}|\{(i|n|name)\}")


@dataclass(frozen=True, slots=True)
class Plan:
    """Which forks to make. In the words of `args` and the values of `env`, `{i}` is the fork's number from 1 on, `{n}`
    how many there are, `{name}` its name; `{{i}}` is `{i}` itself."""

    count: int
    stem: str
    """They are called STEM-1, STEM-2..."""
    args: tuple[str, ...] = ()
    """What they run instead of what the other container runs."""
    env: tuple[str, ...] = ()
    """NAME=value: in addition, or instead."""

    def settings(self, source: Settings) -> Callable[[int, str], Settings]:
        """Each fork's settings, by its number and name."""

        def of(number: int, name: str) -> Settings:
            fields = {"i": str(number), "n": str(self.count), "name": name}
            args = tuple(_filled(word, fields) for word in self.args)
            return msgspec.structs.replace(
                source,
                args=args or source.args,
                env=_merged(source.env, tuple(_filled(line, fields) for line in self.env)),
                ports=tuple(msgspec.structs.replace(port, host=0) for port in source.ports),
                remove=False,
                restart=Restart() if args else source.restart,
            )

        return of


def fork(
    containers: Containers, container: Container, plan: Plan, author: Author, *, verify: bool = True
) -> list[Container]:
    """Make new containers from one's state as it is now, whether it runs or not. Durable when it returns. `verify`: the
    store's hooks may refuse it."""
    with containers.store.writing():
        result = States(containers).commit(container, f"Fork of {container.name}", author, verify=verify)
        settings = plan.settings(container.record.settings)
        return containers.create_many(container.name, result.commit, plan.stem, plan.count, settings, author)


@dataclass(frozen=True, slots=True)
class Promoted:
    """Where a branch is now, and was."""

    commit: CommitId
    before: CommitId | None
    hooks: tuple[HookRun, ...] = ()
    """What came of the store's hooks."""


def promote(
    containers: Containers,
    container: Container,
    branch: str,
    message: str,
    author: Author,
    *,
    force: bool = False,
    verify: bool = True,
) -> Promoted:
    """Commit a container's state, and move a branch to it. `verify`: the store's hooks may refuse it.

    Conflict, with nothing changed, if the branch has commits that the container does not stand on; unless `force`.
    """
    states, history = States(containers), containers.store.history
    with containers.store.writing():
        must_not_merge(containers.reload(container))
        before = history.target(BRANCHES + branch)
        if not force:
            try:
                result = states.commit(container, message, author, branch=branch, verify=verify)
                return Promoted(result.commit, before, result.hooks)
            except Conflict as conflict:
                if "branch" not in conflict.facts:
                    raise
                raise Conflict(str(conflict), **conflict.facts, promoted=container.name) from None
        result = states.commit(container, message, author, verify=verify)
        if result.commit != before:
            history.move(BRANCHES + branch, result.commit, before, f"promote: {container.name}, forced", author)
        return Promoted(result.commit, before, result.hooks)


def _filled(text: str, fields: Mapping[str, str]) -> str:
    """The text with its fields filled in.

    >>> _filled("{i} of {n}: awk {print} {{i}}", {"i": "1", "n": "9"})
    '1 of 9: awk {print} {i}'
    """
    return _FIELD.sub(lambda found: fields[found[2]] if found[2] else found[0][1:-1], text)


def _merged(env: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """Variables, later ones over earlier ones."""
    return tuple({line.partition("=")[0]: line for line in (*env, *more)}.values())
