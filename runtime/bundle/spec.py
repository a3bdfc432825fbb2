"""What a bundle is made of: one start of a container as its user asked for it, and what it takes from the machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from runtime.settings import Limits, Mount, Port, Security

HOST, NONE = "host", "none"
"""The two networks that need nothing to be set up."""


class LaunchSpec(msgspec.Struct, frozen=True):
    """One start of a container, as the user asked for it. None means: as the image says. As of runtime.settings."""

    id: str
    """Names the container to the engine and its cgroup: letters, digits, `_`, `.`, `+`, `-`."""
    hostname: str
    args: tuple[str, ...] = ()
    """Replaces the image's Cmd."""
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    """NAME=value, over the image's."""
    cwd: str | None = None
    user: str | None = None
    tty: bool = False
    interactive: bool = False
    """Pass standard input on; otherwise it is /dev/null."""
    network: str = HOST
    read_only: bool = False
    engine: str | None = None
    """crun, runc or a path; None for the best there is."""
    mounts: tuple[Mount, ...] = ()
    limits: Limits = Limits()
    security: Security = Security()
    hosts: tuple[str, ...] = ()
    """Further lines of /etc/hosts."""
    volatile: bool = False
    ids: int | None = None
    """The first of the ids on the machine that stand for the container's (runtime.idranges); None for the same ones."""
    name: str = ""
    """What others on its network know it by, beside the hostname."""
    ports: tuple[Port, ...] = ()


class Connection(Protocol):
    """A container's place in a network, made before it starts (runtime.network)."""

    @property
    def namespace(self) -> str | None:
        """The path of its network namespace; None for the machine's."""
        ...

    @property
    def hosts(self) -> Sequence[str]:
        """Further lines of /etc/hosts."""
        ...

    @property
    def resolv_conf(self) -> bytes | None:
        """The content of /etc/resolv.conf; None for the machine's."""
        ...


class Source(NamedTuple):
    """What is bound into a container."""

    path: str
    is_dir: bool


class Device(NamedTuple):
    """A device node of the machine."""

    path: str
    type: str
    """`c` or `b`."""
    major: int
    minor: int
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Host:
    """What a config takes from the machine and the process that starts it."""

    etc: Path
    """The directory with our hosts, hostname and resolv.conf."""
    rootfs: Path
    seccomp: dict[str, Any] | None
    """OCI's linux.seccomp, from `seccomp.to_oci`; None for no filter."""
    capabilities: Collection[str]
    """Those that are granted: `capabilities.granted`."""
    open_files: tuple[int, int]
    """RLIMIT_NOFILE, soft and hard, as inherited. Set so that it is passed on as it is, since runc raises its own."""
    terminal_size: tuple[int, int] | None = None
    """Columns and rows."""
    last_ids: tuple[int, int] | None = None
    """In a user namespace, its highest user and group id; None on the machine itself. There, cgroups are not ours."""
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Of each bind mount that was asked for, by its target."""
    devices: Sequence[Device] = ()
    """The machine's devices, which a privileged container has."""
    network_namespace: str | None = None
    """The path of one that was made for the container."""
    sysfs: str = "/sys"
    """What is bound where a container cannot have a sysfs of its own."""
    deep_read_only: bool = True
    """Whether a bind mount can be made read-only with all that is mounted below it (Linux 5.12)."""

    @property
    def confined(self) -> bool:
        """Whether this is a user namespace, whose root is an ordinary user of the machine."""
        return self.last_ids is not None
