"""Moves of refs and of containers' bases that are made together or not at all: see runtime.branches.forgetting.

They are written down in one file, `containers/.moves.json`, and then made; then the file goes. Whoever finds the file
makes those that are missing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from runtime.container import Container
from vcs.durable import replace_file, sync_directory
from vcs.errors import Corrupt, NotFound, UnknownFormat
from vcs.gitwords import Author
from vcs.model import CommitId
from vcs.store import translated

if TYPE_CHECKING:
    from runtime.containers import Containers
    from vcs.history import History

_VERSION = 1


class Move(msgspec.Struct, frozen=True):
    """A ref that goes from one object to another: a commit, or an annotated tag's own."""

    ref: str
    old: CommitId
    new: CommitId


class Rebase(msgspec.Struct, frozen=True):
    """A container's generation whose base is another commit of the same root now."""

    container: str
    generation: int
    old: CommitId
    new: CommitId


class Moves(msgspec.Struct, frozen=True):
    """All of them, as the file has them."""

    refs: list[Move]
    bases: list[Rebase]
    reason: str
    author: Author
    version: int = _VERSION


def finish_moves(containers: Containers) -> None:
    """Make the moves that a killed process has written down and not made."""
    with translated("the history cannot be rewritten"), containers.frozen(), containers.store.history.locked():
        make(containers)


def write_down(containers: Containers, moves: Moves) -> None:
    """Before the first is made."""
    replace_file(containers.moves, msgspec.json.format(msgspec.json.encode(moves), indent=2) + b"\n")


def make(containers: Containers) -> None:
    """Make the moves that are written down and not made, if any. The caller holds the locks."""
    path = containers.moves
    try:
        moves = msgspec.json.decode(path.read_bytes(), type=Moves)
    except FileNotFoundError:
        return
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{path} cannot be read: {error}", path=str(path)) from error
    if moves.version != _VERSION:
        message = f"{path} has version {moves.version}, this program knows {_VERSION}"
        raise UnknownFormat(message, path=str(path), found=moves.version)
    for move in moves.refs:
        _move(containers.store.history, move, moves)
    known = {container.id: container for container in containers.all()}
    for rebase in moves.bases:
        if rebase.container in known:
            known[rebase.container] = _rebased(containers, known[rebase.container], rebase)
    path.unlink()
    sync_directory(path.parent)


def _move(history: History, move: Move, moves: Moves) -> None:
    """Not if the ref was moved by hand since, or if gc has removed what nothing referred to: the old is whole too."""
    if history.target(move.ref) == move.old:
        with suppress(NotFound):
            history.move(move.ref, move.new, move.old, moves.reason, moves.author)


def _rebased(containers: Containers, container: Container, rebase: Rebase) -> Container:
    try:
        containers.store.commit(rebase.new)
    except NotFound:
        return container
    generations = tuple(
        msgspec.structs.replace(generation, base=rebase.new)
        if (generation.number, generation.base) == (rebase.generation, rebase.old)
        else generation
        for generation in container.record.generations
    )
    return containers.replace(container, msgspec.structs.replace(container.record, generations=generations))
