"""The default system call filter: Docker's profile format turned into OCI's `linux.seccomp`.

The profile is the distribution's (/usr/share/containers/seccomp.json). Its conditions (capabilities, architectures,
kernel version) are decided here, for one container on this machine, and exist nowhere else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vcs.errors import EngineError

PROFILES = (Path("/usr/share/containers/seccomp.json"), Path("/etc/containers/seccomp.json"))
"""Where distributions install it (containers-common, in Debian golang-github-containers-common)."""

UNCONFINED = "unconfined"
"""In the place of a profile: no filter at all."""

_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "i686": ("x86", "SCMP_ARCH_X86"),
}
"""uname's machine -> the names in a profile: Go's in conditions, libseccomp's in archMap."""


def load_profile(path: Path | None = None) -> dict[str, Any]:
    """Read a profile. EngineError if there is none or it cannot be read: a container never starts without a filter."""
    candidates = (path,) if path else PROFILES
    for candidate in candidates:
        try:
            profile = json.loads(candidate.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise EngineError(f"cannot read the seccomp profile {candidate}: {error}", path=str(candidate)) from error
        if not isinstance(profile, dict) or "defaultAction" not in profile:
            raise EngineError(f"{candidate} is not a seccomp profile", path=str(candidate))
        return profile
    raise EngineError(
        f"there is no seccomp profile at {candidates[0]}; install golang-github-containers-common (Debian, Ubuntu) or "
        "containers-common (Fedora, Arch, openSUSE)",
        path=str(candidates[0]),
    )


def to_oci(
    profile: dict[str, Any], capabilities: Collection[str], machine: str | None = None, release: str | None = None
) -> dict[str, Any]:
    """OCI's `linux.seccomp` for a container with these capabilities on this machine.

    `machine` and `release` are uname's, of this machine by default. EngineError for an architecture we do not know.
    """
    uname = os.uname()
    machine = machine or uname.machine
    if machine not in _ARCHITECTURES:
        raise EngineError(f"no seccomp architecture is known for {machine}", machine=machine)
    name, native = _ARCHITECTURES[machine]
    kernel = kernel_version(release or uname.release)
    result = {"defaultAction": profile["defaultAction"]}
    if profile.get("defaultErrnoRet") is not None:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    result["architectures"] = _architectures(profile, native)
    result["syscalls"] = [
        _rule(item) for item in profile.get("syscalls", ()) if _applies(item, set(capabilities), name, kernel)
    ]
    return result


def _architectures(profile: dict[str, Any], native: str) -> list[str]:
    for item in profile.get("archMap") or ():
        if item["architecture"] == native:
            return [native, *(item.get("subArchitectures") or ())]
    return [native]


def _applies(item: dict[str, Any], capabilities: set[str], architecture: str, kernel: tuple[int, int]) -> bool:
    wanted = item.get("includes") or {}
    unwanted = item.get("excludes") or {}
    if wanted.get("arches") and architecture not in wanted["arches"]:
        return False
    if not capabilities.issuperset(wanted.get("caps") or ()):
        return False
    if wanted.get("minKernel") and kernel < kernel_version(wanted["minKernel"]):
        return False
    if architecture in (unwanted.get("arches") or ()) or not capabilities.isdisjoint(unwanted.get("caps") or ()):
        return False
    return not (unwanted.get("minKernel") and kernel >= kernel_version(unwanted["minKernel"]))


def _rule(item: dict[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": item.get("names") or [item["name"]], "action": item["action"]}
    if item.get("errnoRet") is not None:
        rule["errnoRet"] = item["errnoRet"]
    if item.get("args"):
        rule["args"] = item["args"]
    return rule


def kernel_version(text: str) -> tuple[int, int]:
    """Major and minor of a kernel release such as 6.1.0-9-amd64."""
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return int(major), int(minor) if minor.isdigit() else 0
