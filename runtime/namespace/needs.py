"""What a machine must have before an ordinary user gets namespaces of his own, and the error for each thing it lacks.

Each error is Denied, with the fact `missing`: what to do about it is the command line's to say.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.namespace.mapping import Span, free_span, subordinate
from vcs.errors import Denied
from vcs.existing import is_there

PROGRAMS = ("newuidmap", "newgidmap")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a machine keeps what is needed."""

    subuid: Path = Path("/etc/subuid")
    subgid: Path = Path("/etc/subgid")
    sysctls: Path = Path("/proc/sys")
    device: Path = Path("/dev/fuse")
    programs: tuple[Path, ...] = tuple(map(Path, ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")))


MACHINE = Machine()


@dataclass(frozen=True, slots=True)
class User:
    """Who asks: as the machine knows him, outside of any namespace."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True, slots=True)
class Means:
    """All that it takes to map a user's ids."""

    newuidmap: Path
    newgidmap: Path
    uids: tuple[Span, ...]
    gids: tuple[Span, ...]


def find_means(user: User, machine: Machine = MACHINE) -> Means | None:
    """The programs and the ids; None if the machine gives the user no ids but his own, which takes no programs. Denied
    if it gives some and something else is missing. OSError if that cannot be told: what he has been given decides what
    owners his containers' files have, and must not be another thing today than tomorrow."""
    names = [user.name, str(user.uid)]
    uids = subordinate(_text(machine.subuid), names)
    gids = subordinate(_text(machine.subgid), names)
    if not uids and not gids:
        return None
    for path, spans in ((machine.subuid, uids), (machine.subgid, gids)):
        if not spans:
            raise no_range(user, path, machine)
    newuidmap, newgidmap = (_program(name, machine) for name in PROGRAMS)
    return Means(newuidmap, newgidmap, tuple(uids), tuple(gids))


def no_range(user: User, path: Path = MACHINE.subuid, machine: Machine = MACHINE) -> Denied:
    """The error for one whom `path` gives no ids. OSError."""
    span = free_span(_text(machine.subuid) + _text(machine.subgid))
    return Denied(
        f"{path} gives {user.name} no ids, so that there are no users but one",
        missing="range", user=user.name, span=f"{span.first}-{span.first + span.size - 1}",
    )  # fmt: skip


def check_device(machine: Machine = MACHINE) -> None:
    """Denied if /dev/fuse is not there or not for this user."""
    if not is_there(machine.device):
        raise Denied(f"there is no {machine.device}: commits cannot be mounted", missing="fuse")
    if not os.access(machine.device, os.R_OK | os.W_OK):
        raise Denied(f"{machine.device} is not open to you: commits cannot be mounted", missing="device")


_SYSCTLS = (
    # name below /proc/sys, the value that forbids, and the one that allows
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "15000"),
    ("user/max_mnt_namespaces", "0", "15000"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
)
"""Debian's switch, the kernel's own two limits, and Ubuntu's switch since 23.10."""


def refusal(number: int, what: str, machine: Machine = MACHINE) -> Denied:
    """The error for a kernel that refused `what` with errno `number`: it names the sysctl that forbids it."""
    for name, forbids, allows in _SYSCTLS:
        if _sysctl(machine.sysctls / name) == forbids:
            key = name.replace("/", ".")
            return Denied(
                f"this machine lets no ordinary user have namespaces: {key} is {forbids}",
                missing="sysctl", sysctl=key, value=allows,
            )  # fmt: skip
    if number == errno.ENOSPC:
        return Denied(
            f"{what}: there are as many namespaces as user.max_user_namespaces and user.max_mnt_namespaces allow",
            missing="sysctl", sysctl="user.max_user_namespaces", value="15000",
        )  # fmt: skip
    return Denied(f"{what}: {os.strerror(number)}", missing="namespaces", errno=number)


def _program(name: str, machine: Machine) -> Path:
    for folder in machine.programs:
        path = folder / name
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise Denied(f"there is no {name}, which gives an ordinary user his ids", missing="uidmap", program=name)


def _sysctl(path: Path) -> str | None:
    """None if it cannot be read: there is an error to be told already, which only lacks a reason then."""
    with suppress(OSError):
        return path.read_text(errors="replace").strip()
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
