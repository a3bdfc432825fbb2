"""One run of the command line: which store, who the author is, what a revision means."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runtime.cli.output import Output, message
from vcs.errors import BadInput, NotFound

if TYPE_CHECKING:
    from runtime.containers import Container, Containers
    from runtime.states import States
    from runtime.trash import Trash
    from vcs.history import Author
    from vcs.model import CommitId
    from vcs.snapshot import Snapshot
    from vcs.store import Store

_SUFFIX = re.compile(r"[~^@:]")


class Place(NamedTuple):
    """REV:PATH, taken apart. `path` is None where there was no colon."""

    revision: str
    path: bytes | None


class Invocation:
    """What a verb needs to know of its surroundings. Everything is opened when it is first used."""

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self.arguments = arguments
        """The command line, from the verb's options in front on."""
        self.store_option: Path | None = None
        self.at_op: str | None = None
        """The operation after which the store is looked at."""
        self.output = Output()
        self.use_pager = True
        self._stack = ExitStack()
        self._authors: dict[str | None, Author] = {}
        self.uid = os.getuid()
        """The user's, also when he is root of his own namespaces."""
        if "fuse" in os.environ.get("TREERING_TRACE", "").split(","):
            from fusefs.client import Service

            Service.trace = True

    def close(self) -> Trash | None:
        """Close what was opened. Returns what the verb has removed, if anything, to be deleted when nobody waits."""
        self._stack.close()
        return self.containers.trash if "containers" in self.__dict__ else None

    @cached_property
    def store_path(self) -> Path:
        """--store, else TREERING_STORE, else /var/lib/treering for root and $XDG_DATA_HOME/treering for others."""
        if self.store_option is not None:
            return self.store_option.absolute()
        if named := os.environ.get("TREERING_STORE"):
            return Path(named).absolute()
        if os.geteuid() == 0:
            return Path("/var/lib/treering")
        data = os.environ.get("XDG_DATA_HOME")
        return (Path(data) if data else Path.home() / ".local/share") / "treering"

    def enter_namespaces(self, *, to_mount: bool = False) -> None:
        """Go into the store's namespaces, where an ordinary user is root over the ids that are his. Root stays where he
        is. `to_mount`: the service is wanted. Denied, with the fact `missing`, if the machine does not let him."""
        if os.geteuid() == 0:
            return
        from runtime.cli.author import login_name
        from runtime.namespace import door, needs

        if to_mount:
            needs.check_device()
        user = needs.User(self.uid, os.getgid(), login_name(self.uid))
        if door.enter(self.store_path, user):
            from runtime.cli.errors import advice

            lack = needs.no_range(user)
            message(f"warning: {lack}: containers have root alone, and cannot chown. To change that, {advice(lack)}")

    @cached_property
    def store(self) -> Store:
        """The store, opened; with --at-op, as it was then."""
        if self.at_op is not None:
            from vcs.past import as_of

            return self._stack.enter_context(as_of(self.store_path, self.at_op))
        from vcs.store import Store

        store = self._stack.enter_context(Store.open(self.store_path))
        store.operations.begin(self.arguments, self.author)
        return store

    @cached_property
    def containers(self) -> Containers:
        """The store's containers; with --at-op, as they were then."""
        if self.at_op is not None:
            from runtime.pastcontainers import PastContainers
            from vcs.past import PastStore

            assert isinstance(self.store, PastStore)
            return PastContainers(self.store)
        from runtime.containers import Containers
        from runtime.storehooks import HELD

        return Containers(self.store, held=os.environ.get(HELD))

    @cached_property
    def states(self) -> States:
        """What is in the store's containers."""
        from runtime.states import States

        return States(self.containers)

    def author(self, option: str | None = None) -> Author:
        """Who makes the commit: `option` (--author), or see runtime.cli.author. The time is that of the first
        question."""
        from runtime.cli.author import find_author

        if option not in self._authors:
            self._authors[option] = find_author(self.store, option, self.uid)
        return self._authors[option]

    # -- revisions

    def commit(self, revision: str, of: Container | None = None) -> CommitId:
        """The commit that a revision names; a container's name stands for its head where no ref has that name, and
        `web@{1}` for what that was one step ago. A revision that begins with `@{` is the container `of`'s."""
        if not revision:
            raise NotFound("an empty revision names nothing", revision=revision)
        if of is not None and revision.startswith("@{"):
            return self._commit_of(of, revision)
        try:
            return self.store.history.resolve(revision)
        except NotFound:
            found = _SUFFIX.search(revision)
            end = found.start() if found else len(revision)
            container = self._container(revision[:end])
            if container is None:
                raise
            return self._commit_of(container, revision[end:])

    def _container(self, name: str) -> Container | None:
        try:
            return self.containers.find(name)
        except NotFound:
            return None

    def _commit_of(self, container: Container, suffix: str) -> CommitId:
        """What a suffix, such as `~1` or `@{1}`, makes of a container's head."""
        history = self.store.history
        try:
            return history.resolve((container.ref if history.target(container.ref) else container.base) + suffix)
        except NotFound:
            raise NotFound(f"no revision {container.name + suffix!r}", revision=container.name + suffix) from None

    def snapshot(self, revision: str) -> Snapshot:
        """The filesystem that a revision names."""
        return self.store.snapshot_of(self.commit(revision))

    def open_place(self, text: str) -> tuple[Snapshot, bytes]:
        """The filesystem and the absolute path that REV or REV:PATH names; the path is not looked up yet."""
        place = split_place(text)
        if not place.revision:
            raise BadInput(f"{text!r} has no revision in front of the colon: write REV:PATH", place=text)
        path = b"/" + (place.path or b"").lstrip(b"/")
        return self.snapshot(place.revision), path


def split_place(text: str) -> Place:
    """Take REV:PATH apart, at the first colon that is not between braces (`main@{12:30}:/etc`).

    >>> split_place("main:/etc"), split_place("main")
    (Place(revision='main', path=b'/etc'), Place(revision='main', path=None))
    """
    depth = 0
    for position, character in enumerate(text):
        if character == ":" and depth == 0:
            return Place(text[:position], os.fsencode(text[position + 1 :]))
        depth += (character == "{") - (character == "}")
    return Place(text, None)
