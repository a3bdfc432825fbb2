"""What a check finds: problems, and what of them can be restored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vcs.errors import StoreError
from vcs.model import CommitId, LayerId
from vcs.shortage import raise_shortage

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being checked, how many bytes of it are done, and of how many (0: not known)."""

Kind: TypeAlias = Literal[
    "format", "index", "layer", "object", "tree", "history", "ref", "operation", "bisect", "container", "cache",
    "garbage",
]  # fmt: skip
"""What is wrong: the format file; the index (derived, so nothing is lost); a layer's file; an object that is missing or
damaged; objects that contradict one another; a git object, or git's settings; a ref or a reflog; the operation log; the
verdicts of a bisection; a container's record; a cache, which is not used then; an object that is damaged but that
nothing needs."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    kind: Kind
    message: str
    commit: str = ""
    """The newest commit that needs it; empty if none does, or if it is not a matter of commits."""
    path: bytes = b""
    """Where it is in that commit, from `/`."""
    others: int = 0
    """How many further directory entries need it."""
    layer: str = ""
    object: str = ""
    """The digest of the object, or the id of the git object."""


@dataclass(slots=True)
class Report:
    """What a check found. `unreachable` objects are no problem: garbage that nothing refers to."""

    problems: list[Problem] = field(default_factory=list)
    commits: int = 0
    trees: int = 0
    chunks: int = 0
    bytes_read: int = 0
    unreachable: int = 0
    affected: int = 0
    """Commits that cannot be read to the last byte."""
    layers: set[LayerId] = field(default_factory=set)
    """Layers whose files are damaged."""
    lost: dict[bytes, int] = field(default_factory=dict)
    """Objects that something needs and that are missing or damaged, and their kinds (vcs.layers.format). What is only
    below them is not known yet."""
    git_lost: set[str] = field(default_factory=set)
    """Git objects that are missing or damaged."""
    refs: set[str] = field(default_factory=set)
    """Refs that name no commit."""
    unknown: set[str] = field(default_factory=set)
    """The ids that they name: of git objects that are lost, or never were."""

    caches: set[Path] = field(default_factory=set)
    """Caches that are damaged."""

    def add(self, kind: Kind, message: str, **where: Any) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, message, **where))

    def add_unread(self, kind: Kind, name: str, error: StoreError | OSError, **where: Any) -> None:
        """Note that something cannot be read, which says nothing of what it holds. Where there is too little memory, or
        no descriptor, to read it with, a check can say nothing at all: MemoryError, or the OSError itself."""
        raise_shortage(error)
        self.add(kind, f"{name} cannot be read: {getattr(error, 'strerror', None) or error}", **where)


@dataclass(slots=True)
class Faults:
    """What is wrong with a store's objects, before it is known which commits and paths need them."""

    objects: dict[bytes, tuple[Kind, str]] = field(default_factory=dict)
    """By digest: what is wrong with an object that something needs."""
    entries: dict[tuple[bytes, bytes], tuple[Kind, str]] = field(default_factory=dict)
    """By the digest of the node that an entry is in (of the root, for a root's) and its name."""
    commits: list[CommitId] = field(default_factory=list)
    """The commits that could be read, newest first."""

    def __bool__(self) -> bool:
        return bool(self.objects or self.entries)
