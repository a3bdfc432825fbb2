"""Refs as git's library has them: what one names, what its reflog says, and moving one, durably.

A move is git's own transaction (its `.lock` file, and the reflog before the ref), with what libgit2 leaves undone: the
directories a new ref is in are made durable, a line of a reflog carries its seal, HEAD's reflog follows HEAD's branch,
and what processes that were killed have left is in nobody's way.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pygit2
from pygit2.transaction import ReferenceTransaction

from vcs.durable import sync_all
from vcs.errors import AlreadyExists, Conflict, InvalidName
from vcs.existing import is_directory, is_there
from vcs.gitfiles import drop_interrupted, packed_refs, remove_stale
from vcs.gitobjects import stamp_of, translated
from vcs.gitwords import NO_ID, Author, clean, is_in_the_way, kind, moved, one_line, short
from vcs.model import CommitId
from vcs.reflogs import RefChange, have_line, heads_line, seal, without_seal


class _SecondPassed(Exception):
    """Nothing has been changed yet, and what was to be is of the second before."""


@dataclass(frozen=True, slots=True)
class Move:
    """A ref (full name) comes from one id, or from nothing, to another; `reason` is for its reflog. Unless `durable`, a
    power cut may take a new ref away, but leaves nothing half written."""

    ref: str
    current: CommitId | None
    new: CommitId
    reason: str
    author: Author
    durable: bool = True


class GitRefs:
    """The refs of a repository, by full name."""

    def __init__(self, repository: pygit2.Repository) -> None:
        self._repo = repository
        self._path = Path(repository.path)

    def target(self, ref: str) -> CommitId | None:
        """The object a ref names, not peeled; None if there is no such ref."""
        with translated():
            try:
                return CommitId(str(self._repo.references[ref].resolve().target))
            except (KeyError, pygit2.InvalidSpecError):
                return None
            except UnicodeDecodeError as error:  # since Python 3.12, for a KeyError with a name that is not UTF-8
                if error.object == os.fsencode(ref):
                    return None
                raise

    def reflog(self, ref: str) -> list[RefChange]:
        """Where a ref that is there pointed, newest first."""
        with translated():
            return [
                RefChange(
                    index, _id(entry.oid_old), cast(CommitId, _id(entry.oid_new)), entry.committer.name,
                    entry.committer.time, os.fsdecode(without_seal(os.fsencode(entry.message or ""))),
                )
                for index, entry in enumerate(self._repo.references[ref].log())
            ]  # fmt: skip

    def move(self, one: Move) -> None:
        """Make a move. The caller holds the lock on refs. Conflict if another program has moved the ref, AlreadyExists
        if another ref has its place."""
        above = self._above(one.ref)
        # libgit2 makes a file durable in its own directory. That may be new too, and the one above it.
        changing = above[1 : 1 + sum(not is_directory(path) for path in above)]
        if one.current is not None:
            is_packed = not is_there(Path(self._path, one.ref))
            self._retried(lambda: self._take(one, []))
            if is_packed:
                sync_all(changing)  # it got a file, perhaps in directories that are new too
            return
        if any(is_in_the_way(other, one.ref) for other in packed_refs(self._path)):
            self._check_room(one.ref)  # a transaction does not look there
        try:
            self._retried(lambda: self._take(one, [above[0], *changing] if one.durable else []))
        except (pygit2.GitError, OSError):
            drop_interrupted(self._path, [one.ref], is_ours=True)
            self._check_room(one.ref)
            raise

    def _take(self, one: Move, first: list[Path]) -> None:
        """Make a transaction of a move, and another if the second passes meanwhile. Directories that are to be made
        durable `first` are so before the reflog is there, which without git's lock would be that of a ref that was
        lost."""
        line = b""
        while not line:
            with (
                contextlib.suppress(_SecondPassed),
                heads_line(self._path, one.ref) as heads,
                self._repo.transaction() as transaction,
            ):
                transaction.lock_ref(one.ref)
                sync_all(first)
                if (now := self.target(one.ref)) != one.current:  # another program's: it does not know our lock
                    raise Conflict(moved(one.ref, now, one.current), ref=one.ref, expected=one.current, found=now)
                line = self._sealed(transaction, one)
                heads.append(line)
        have_line(self._path, one.ref, line)

    def _sealed(self, transaction: ReferenceTransaction, one: Move) -> bytes:
        """Have a ref moved, with a line in its reflog that carries its seal. Returns the line.

        libgit2 notes the time when a transaction is first told of a move. So the seal is made for the present second,
        and if that has passed meanwhile, another transaction is needed: _SecondPassed.
        """
        name, email = clean(one.author.name), clean(one.author.email)
        message = one_line(one.reason)
        self._repo.set_ident(name, email)
        now = stamp_of(pygit2.Signature(name, email))
        line = f"{one.current or NO_ID} {one.new} ".encode() + now + b"\t" + message.encode()
        transaction.set_target(one.ref, one.new, message=message + seal(line).decode())
        if stamp_of(pygit2.Signature(name, email)) != now:
            raise _SecondPassed
        return line + seal(line) + b"\n"

    def _retried(self, change: Callable[[], None]) -> None:
        """Once more after removing the `.lock` files that killed processes left."""
        try:
            change()
        except (pygit2.GitError, pygit2.AlreadyExistsError, OSError):
            if not remove_stale(self._path):
                raise
            change()

    def _check_room(self, ref: str) -> None:
        """A ref is a file or a directory: with `main` there can be no `main/sub`, and the other way round."""
        for other in self._repo.references:
            if is_in_the_way(other, ref):
                raise AlreadyExists(
                    f"{kind(other)} {short(other)!r} exists, so {short(ref)!r} cannot", name=short(other)
                )

    def _above(self, ref: str) -> list[Path]:
        """The directories that a ref is in, from its own upwards."""
        return [path for path in Path(self._path, ref).parents if self._path in path.parents]


def check_name(ref: str) -> None:
    """InvalidName unless git would have a ref of this full name."""
    if not pygit2.reference_is_valid_name(ref):
        raise InvalidName(f"{short(ref)!r} cannot be a name: see git-check-ref-format(1)", name=short(ref))


def _id(oid: pygit2.Oid) -> CommitId | None:
    return None if str(oid) == NO_ID else CommitId(str(oid))
