"""The whole of config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime import imageconfig
from runtime.bundle.mounts import mounts
from runtime.bundle.resources import devices, resources
from runtime.bundle.spec import HOST, NONE, Host, LaunchSpec
from runtime.identity import Identity, oci_user
from runtime.idranges import SIZE
from runtime.state import CGROUP_PREFIX
from vcs.errors import EngineError

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_LAST_GROUP = 2147483647
"""As high as net.ipv4.ping_group_range goes."""


def config(
    spec: LaunchSpec, image: Mapping[str, Any], who: Identity, placed: Mapping[bytes, bytes], host: Host
) -> dict[str, Any]:
    """The whole config.json. `placed` tells where mount targets really are (`stubs.place`); others are not mounted.

    EngineError if this machine or user namespace cannot have what is asked for.
    """
    return {
        "ociVersion": "1.0.2",
        "process": _process(spec, image, who, host),
        "root": {"path": str(host.rootfs), "readonly": spec.read_only},
        "hostname": spec.hostname,
        "mounts": mounts(spec, placed, host),
        "linux": _linux(spec, host),
    }


def _process(spec: LaunchSpec, image: Mapping[str, Any], who: Identity, host: Host) -> dict[str, Any]:
    process: dict[str, Any] = {
        "terminal": spec.tty,
        "user": oci_user(who, _last_ids(spec, host), own=spec.ids is not None),
        "args": imageconfig.command(spec, image),
        "env": imageconfig.environment(spec, image, spec.hostname, who.home),
        "cwd": imageconfig.working_directory(spec, image),
        "capabilities": _capabilities(who, sorted(host.capabilities)),
        "noNewPrivileges": spec.security.no_new_privileges,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": host.open_files[0], "hard": host.open_files[1]}],
    }
    if spec.tty and host.terminal_size:
        process["consoleSize"] = {"width": host.terminal_size[0], "height": host.terminal_size[1]}
    return process


def _last_ids(spec: LaunchSpec, host: Host) -> tuple[int, int] | None:
    """The highest user and group of the container; None where it has all."""
    return host.last_ids if spec.ids is None else (SIZE - 1, SIZE - 1)


def _capabilities(who: Identity, granted: list[str]) -> dict[str, list[str]]:
    """Root has them; another user has none until it executes a setuid program: what execve(2) itself would leave."""
    usable = granted if who.uid == 0 else []
    return {"bounding": granted, "effective": usable, "permitted": usable}


def _linux(spec: LaunchSpec, host: Host) -> dict[str, Any]:
    linux: dict[str, Any] = {"namespaces": _namespaces(spec, host)}
    if not spec.security.privileged:
        linux["maskedPaths"] = list(MASKED_PATHS)
        linux["readonlyPaths"] = list(READONLY_PATHS)
    if host.seccomp is not None:
        linux["seccomp"] = host.seccomp
    limited = resources(spec, host)
    if limited is not None:  # devices cannot be used there anyway, but for those that the engine binds
        linux["cgroupsPath"] = f"/{CGROUP_PREFIX}{spec.id}"
        linux["resources"] = limited
    if host.devices:
        linux["devices"] = devices(host)
    if spec.network == NONE or (host.network_namespace and spec.ids is None):
        linux["sysctl"] = network_sysctls(spec, host)
    if spec.ids is not None:
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": spec.ids, "size": SIZE}]
    return linux


def _namespaces(spec: LaunchSpec, host: Host) -> list[dict[str, str]]:
    found = [{"type": name} for name in ("pid", "ipc", "uts", "mount", "cgroup")]
    if host.network_namespace:
        found.append({"type": "network", "path": host.network_namespace})
    elif spec.network == NONE:
        found.append({"type": "network"})
    elif spec.network != HOST:
        raise EngineError(f"the container is not connected to the network {spec.network!r}", network=spec.network)
    if spec.ids is not None:
        found.append({"type": "user"})
    return found


def network_sysctls(spec: LaunchSpec, host: Host) -> dict[str, str]:
    """In a network of its own a container may listen on any port and ping without privileges, as in Docker. Where that
    was made outside of its user namespace, the engine may not set them: idmapping.show_network does."""
    last = _last_ids(spec, host)
    first, final = 0, _LAST_GROUP if last is None else last[1]
    if spec.ids is not None and host.network_namespace:  # set from outside, in the machine's ids
        first, final = spec.ids, spec.ids + SIZE - 1
    groups = f"{first} {final}"
    return {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": groups}
