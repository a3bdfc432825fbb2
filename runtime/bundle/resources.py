"""OCI's linux.resources and linux.devices: how much a container may use, and which devices."""

from __future__ import annotations

from typing import Any

from runtime.bundle.spec import Host, LaunchSpec
from runtime.settings import Limits
from vcs.errors import EngineError

PERIOD = 100_000
"""Microseconds in which a container gets its share of processors; the kernel's own default."""

_DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
"""null zero full random urandom tty console ptmx pts/*."""


def resources(spec: LaunchSpec, host: Host) -> dict[str, Any] | None:
    """linux.resources; None in a user namespace, which has no cgroups. EngineError if limits were asked for there."""
    if host.confined:
        check_limits(spec.limits, confined=True)
        return None
    rules = [{"allow": True, "access": "rwm"}] if spec.security.privileged else _device_rules()
    return {"devices": rules, **limits(spec.limits)}


def check_limits(asked: Limits, *, confined: bool) -> None:
    """EngineError if there are limits, and this is a user namespace."""
    if confined and asked != Limits():
        raise EngineError(
            "limits (--memory, --cpus, --pids-limit) need cgroups, which an ordinary user's containers do not have",
            advice="run it as root, or without limits",
        )


def limits(asked: Limits) -> dict[str, Any]:
    """The part of linux.resources that limits come to.

    >>> limits(Limits(cpus=1.5, pids=100))
    {'cpu': {'quota': 150000, 'period': 100000}, 'pids': {'limit': 100}}
    """
    found: dict[str, Any] = {}
    if asked.memory is not None:
        found["memory"] = {"limit": asked.memory}
    if asked.cpus is not None:
        found["cpu"] = {"quota": round(asked.cpus * PERIOD), "period": PERIOD}
    if asked.pids is not None:
        found["pids"] = {"limit": asked.pids}
    return found


def devices(host: Host) -> list[dict[str, Any]]:
    """linux.devices: what is made in /dev beside the usual ones."""
    return [
        {
            "path": device.path,
            "type": device.type,
            "major": device.major,
            "minor": device.minor,
            "fileMode": device.mode,
            "uid": device.uid,
            "gid": device.gid,
        }
        for device in host.devices
    ]


def _device_rules() -> list[dict[str, Any]]:
    """Nothing but making device nodes, and using the harmless ones."""
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [{"allow": True, "type": kind, "access": "m"} for kind in "cb"]
    for major, minor in _DEVICES:
        rule: dict[str, Any] = {"allow": True, "type": "c", "major": major, "access": "rwm"}
        if minor is not None:
            rule["minor"] = minor
        rules.append(rule)
    return rules
