"""How a container is run: what its user asked for when it was made. Kept in its record; None where the image decides.

Everything has a default that means "nothing was asked for", so a record holds what an older program wrote.
"""

from __future__ import annotations

from typing import Literal

import msgspec

RestartPolicy = Literal["no", "on-failure", "always", "unless-stopped"]


class Mount(msgspec.Struct, frozen=True):
    """Something mounted into a container beside its root."""

    kind: Literal["bind", "tmpfs"]
    target: str
    """Absolute, in the container."""
    source: str = ""
    """Absolute, on the machine; of a bind mount."""
    read_only: bool = False
    options: tuple[str, ...] = ()
    """Further ones, in mount(8)'s words: `size=64m`, `mode=1777`, `rshared`, `noexec`."""


class Port(msgspec.Struct, frozen=True):
    """A port of the container that the machine listens on."""

    container: int
    host: int
    """0 asks for any free one."""
    address: str = ""
    """Where the machine listens; empty for everywhere."""
    protocol: Literal["tcp", "udp"] = "tcp"


class Limits(msgspec.Struct, frozen=True):
    """What a container may use at most; None for as much as there is."""

    memory: int | None = None
    """Bytes."""
    cpus: float | None = None
    """Processors: 1.5 is one and a half."""
    pids: int | None = None


class Restart(msgspec.Struct, frozen=True):
    """Whether a container that ended is started again."""

    policy: RestartPolicy = "no"
    attempts: int = 0
    """How often at most, of `on-failure`; 0 for always."""


class Health(msgspec.Struct, frozen=True):
    """A command that tells whether a container does its work. Times in seconds."""

    test: tuple[str, ...]
    """As in an image config: ("CMD", program, argument...), ("CMD-SHELL", line) or ("NONE",)."""
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    """Failures do not count so long after the start."""
    retries: int = 3
    """So many failures in a row make it unhealthy."""


class Log(msgspec.Struct, frozen=True):
    """What is kept of a container's output."""

    keep: bool = True
    size: int = 16 << 20
    """Bytes of one file, after which the next begins."""
    files: int = 4


class Security(msgspec.Struct, frozen=True):
    """What sets a container's processes apart from the machine's, beyond the defaults."""

    cap_add: tuple[str, ...] = ()
    """CAP_NET_ADMIN or ALL."""
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    no_new_privileges: bool = False
    seccomp: str | None = None
    """A profile's path, or `unconfined`; None for the default profile."""
    userns: Literal["host", "auto"] = "host"
    """`auto`: ids of the container's own, which are nobody's on the machine."""


class Settings(msgspec.Struct, frozen=True):
    """How a container's process is started; None where the image config decides."""

    args: tuple[str, ...] = ()
    """Replaces the image's Cmd."""
    env: tuple[str, ...] = ()
    cwd: str | None = None
    user: str | None = None
    hostname: str | None = None
    network: str = "host"
    """`host`, `none`, `bridge`, or the name of a network."""
    tty: bool = False
    interactive: bool = False
    read_only: bool = False
    engine: str | None = None
    """crun, runc or a path; None for the best there is."""
    profile: bool = True
    """Whether its start is noted, and the start profile used."""
    entrypoint: tuple[str, ...] | None = None
    """Replaces the image's Entrypoint; () for none at all."""
    labels: dict[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    ports: tuple[Port, ...] = ()
    hosts: tuple[str, ...] = ()
    """Further lines of /etc/hosts: `ADDRESS NAME`."""
    limits: Limits = Limits()
    restart: Restart = Restart()
    security: Security = Security()
    health: Health | None = None
    """None for the image's."""
    log: Log = Log()
    remove: bool = False
    """Remove it when it has ended (--rm)."""
    volatile: bool = False
    """What it writes need not survive a power cut: nothing is flushed."""
    stop_signal: str | None = None
    stop_timeout: float | None = None
    """Seconds."""
    autocommit: str | None = None
    """`exec`, `exit`, or `every=SECONDS`."""
