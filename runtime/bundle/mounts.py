"""What is mounted over a container's root, and in which order.

First what the kernel provides (/proc, /dev, /sys and below), then our three files in /etc and what the user asked for,
those with shorter paths first. What the user mounts at a place of ours, or above it, is there instead of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime.bundle.spec import NONE, Host, LaunchSpec, Source
from runtime.settings import Mount
from runtime.stubs import Target

ETC_FILES = ("resolv.conf", "hostname", "hosts")


@dataclass(frozen=True, slots=True)
class _Mount:
    destination: str
    type: str
    source: str
    options: tuple[str, ...]
    is_dir: bool = True


_NO = ("nosuid", "noexec", "nodev")
_READ_ONLY = "ro"
_TTY_GROUP = 5
_DEVPTS = _Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"))
_KERNEL_MOUNTS = (
    _Mount("/proc", "proc", "proc", _NO),
    _Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    replace(_DEVPTS, options=(*_DEVPTS.options, f"gid={_TTY_GROUP}")),
    _Mount("/sys", "sysfs", "sysfs", (*_NO, _READ_ONLY)),
    _Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*_NO, "relatime", _READ_ONLY)),
    _Mount("/dev/mqueue", "mqueue", "mqueue", _NO),
    _Mount("/dev/shm", "tmpfs", "shm", (*_NO, "mode=1777", "size=65536k")),
)
# sysfs shows a network and can only be mounted by who owns it: the machine's is bound here, writable to nobody.
_BOUND_SYS = _Mount("/sys", "bind", "/sys", (*_NO, _READ_ONLY, "rbind", "rprivate"))
# The cgroups of the machine came with it, and some of them may be the user's to change. There are none inside.
_NO_CGROUPS = _Mount("/sys/fs/cgroup", "tmpfs", "tmpfs", (*_NO, _READ_ONLY, "size=4k", "mode=755"))

_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_TMPFS = (*_NO, "mode=1777")
"""Docker's defaults, where the user says nothing else."""


def mount_targets(spec: LaunchSpec, cwd: str, sources: Mapping[str, Source]) -> list[Target]:
    """What must exist in the root for the mounts and the working directory; `stubs.place` decides where that is."""
    ours = [Target(mount.destination.encode(), mount.is_dir) for mount in _KERNEL_MOUNTS]
    asked = [_target(mount, sources) for mount in sorted(spec.mounts, key=lambda mount: _depth(mount.target))]
    etc = [Target(mount.destination.encode(), mount.is_dir) for mount in _etc_mounts(Path("/"))]
    return [*ours, *asked, *etc, Target(_bytes(cwd), True)]


def _target(mount: Mount, sources: Mapping[str, Source]) -> Target:
    if mount.kind == "bind":
        return Target(_bytes(mount.target), sources[mount.target].is_dir, asked=True)
    # runc before 1.1.8 gives a tmpfs the mode of the directory that it is mounted on.
    modes = [option.removeprefix("mode=") for option in (*_TMPFS, *mount.options) if option.startswith("mode=")]
    return Target(_bytes(mount.target), True, asked=True, mode=int(modes[-1], 8))


def mounts(spec: LaunchSpec, placed: Mapping[bytes, bytes], host: Host) -> list[dict[str, Any]]:
    """OCI's mounts. `placed` tells where targets really are (`stubs.place`); others are not mounted."""
    asked = _placed((_asked(mount, host) for mount in spec.mounts), placed)
    taken = {mount.destination for mount in asked}
    kernel = _placed(_kernel_mounts(spec, host), placed)
    etc = _placed(_etc_mounts(host.etc), placed)
    ours = [mount for mount in kernel if mount.destination not in taken]
    return [_oci(mount) for mount in (*ours, *sorted([*etc, *asked], key=lambda mount: _depth(mount.destination)))]


def _placed(found: Iterable[_Mount], placed: Mapping[bytes, bytes]) -> list[_Mount]:
    return [
        replace(mount, destination=placed[name].decode("utf-8", "surrogateescape"))
        for mount in found
        if (name := _bytes(mount.destination)) in placed
    ]


def _kernel_mounts(spec: LaunchSpec, host: Host) -> list[_Mount]:
    other: dict[str, _Mount] = {}
    if host.confined:
        other["/sys/fs/cgroup"] = _NO_CGROUPS
    if host.last_ids and host.last_ids[1] < _TTY_GROUP:
        other["/dev/pts"] = _DEVPTS
    if (host.confined or spec.ids is not None) and spec.network != NONE:
        other["/sys"] = replace(
            _BOUND_SYS, source=host.sysfs
        )  # with a network that the engine makes it may have a sysfs of its own
    found = [other.get(mount.destination, mount) for mount in _KERNEL_MOUNTS]
    return [_writable(mount) for mount in found] if spec.security.privileged and not host.confined else found


def _writable(mount: _Mount) -> _Mount:
    return replace(mount, options=tuple(option for option in mount.options if option != _READ_ONLY))


def _etc_mounts(etc: Path) -> list[_Mount]:
    return [_Mount(f"/etc/{name}", "bind", str(etc / name), ("rbind", "rprivate"), False) for name in ETC_FILES]


def _asked(mount: Mount, host: Host) -> _Mount:
    """What the user asked for, in the engine's words."""
    options = list(mount.options)
    if mount.kind == "tmpfs":
        # Left out rather than undone: crun does not let `exec` undo a `noexec` before it.
        named = {option.partition("=")[0] for option in options}
        named |= {f"no{name}" for name in named}
        options = [option for option in _TMPFS if option.partition("=")[0] not in named] + options
        return _Mount(mount.target, "tmpfs", "tmpfs", (*options, *([_READ_ONLY] if mount.read_only else [])))
    if not _PROPAGATION.intersection(options):
        options.append("rprivate")
    source = host.sources[mount.target]
    if mount.read_only:  # crun cannot do it to a file in all its depth, which is none
        options.append("rro" if host.deep_read_only and source.is_dir else _READ_ONLY)
    return _Mount(mount.target, "bind", source.path, ("rbind", *options), source.is_dir)


def _oci(mount: _Mount) -> dict[str, Any]:
    return {
        "destination": mount.destination,
        "type": mount.type,
        "source": mount.source,
        "options": list(mount.options),
    }


def _depth(path: str) -> tuple[int, str]:
    return path.count("/"), path


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
