"""What a Dockerfile comes to: stages of steps, in which no variable is left. Values only.

A step is an instruction with all that is known of it before anything runs, and the image config that holds after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from runtime.building.parser import Instruction

Config: TypeAlias = Mapping[str, Any]
"""An OCI image config."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where files come from: a stage of this Dockerfile, or what FROM could name too; the context is neither."""

    stage: int | None = None
    reference: str | None = None


CONTEXT = Origin()


@dataclass(frozen=True, slots=True)
class File:
    """A file that stands in the Dockerfile itself."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY and ADD."""

    sources: tuple[str, ...]
    target: str
    """Absolute; ends in a slash if it is to be a directory."""
    origin: Origin = CONTEXT
    files: tuple[File, ...] = ()
    chown: str | None = None
    chmod: int | None = None
    unpack: bool = False
    """ADD: archives are unpacked."""


@dataclass(frozen=True, slots=True)
class RunMount:
    """A --mount of RUN."""

    kind: Literal["cache", "secret", "tmpfs", "bind"]
    target: str
    id: str = ""
    origin: Origin = CONTEXT
    source: str = ""
    sharing: Literal["shared", "private", "locked"] = "shared"
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    read_only: bool = False
    required: bool = False
    size: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """RUN."""

    args: tuple[str, ...]
    script: bytes | None = None
    """A program of its own, which is run instead of `args`."""
    env: tuple[str, ...] = ()
    """Build arguments: what the key depends on too."""
    proxies: tuple[str, ...] = ()
    """And what it does not depend on."""
    mounts: tuple[RunMount, ...] = ()
    network: str | None = None


@dataclass(frozen=True, slots=True)
class Directory:
    """WORKDIR."""

    path: str


Work: TypeAlias = Copy | Run | Directory | None


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction. `work` is what it does to the root; None if it only changes the config."""

    instruction: Instruction
    config: Config
    work: Work = None
    user: str = ""
    """Who RUN runs as."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A FROM and what follows it."""

    number: int
    name: str
    line: int
    base: Origin
    """Neither stage nor reference: scratch."""
    config: Config
    """After the last step."""
    steps: tuple[Step, ...] = field(default=())

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or str(self.number)
