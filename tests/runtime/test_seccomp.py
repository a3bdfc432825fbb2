"""The distribution's seccomp profile, turned into OCI's. That the engines take it is shown in test_engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle import DEFAULT_CAPABILITIES
from runtime.seccomp import load_profile, to_oci
from vcs.errors import EngineError


def allowed(filter_: dict[str, Any]) -> set[str]:
    return {
        name
        for rule in filter_["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
        for name in rule["names"]
    }


def test_the_installed_profile() -> None:
    made = to_oci(load_profile(), DEFAULT_CAPABILITIES, "x86_64", "6.1.0")
    assert made["defaultAction"] == "SCMP_ACT_ERRNO"
    assert made["defaultErrnoRet"] == 38
    assert made["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    names = allowed(made)
    assert {"read", "openat2", "chroot", "arch_prctl"} <= names
    assert not {"bpf", "init_module", "kexec_load", "open_by_handle_at", "perf_event_open"} & names
    known = {"names", "action", "errnoRet", "args"}
    assert all(set(rule) <= known and rule["names"] for rule in made["syscalls"])
    assert {"index", "value", "op"} <= set(next(rule["args"][0] for rule in made["syscalls"] if "args" in rule))


def test_capabilities_open_what_needs_them() -> None:
    profile = load_profile()
    assert "bpf" in allowed(to_oci(profile, ["CAP_SYS_ADMIN"], "x86_64"))
    assert "chroot" not in allowed(to_oci(profile, [], "x86_64"))


def test_other_machines() -> None:
    profile = load_profile()
    arm = to_oci(profile, DEFAULT_CAPABILITIES, "aarch64")
    assert arm["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert "arch_prctl" not in allowed(arm)
    assert "cacheflush" in allowed(arm)
    assert to_oci(profile, (), "ppc64le")["architectures"] == ["SCMP_ARCH_PPC64LE"]
    with pytest.raises(EngineError, match="vax"):
        to_oci(profile, (), "vax")


@pytest.mark.parametrize(
    ("conditions", "applies"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_A"]}}, True),
        ({"includes": {"caps": ["CAP_A", "CAP_B"]}}, False),
        ({"includes": {"arches": ["amd64"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "5.11"}}, False),
        ({"excludes": {"caps": ["CAP_A", "CAP_B"]}}, False),
        ({"excludes": {"caps": ["CAP_B"]}}, True),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"excludes": {"minKernel": "4.8"}}, False),
        ({"includes": None, "excludes": None, "args": None}, True),
    ],
)
def test_conditions(conditions: dict[str, Any], applies: bool) -> None:
    rule = {"name": "read", "action": "SCMP_ACT_ALLOW", **conditions}
    made = to_oci({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}, ["CAP_A"], "x86_64", "5.10-rc1")
    assert made["syscalls"] == ([{"names": ["read"], "action": "SCMP_ACT_ALLOW"}] if applies else [])


def test_no_profile_is_no_container(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="install golang-github-containers-common"):
        load_profile(tmp_path / "none.json")
    for text in ("{", json.dumps([]), json.dumps({})):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(EngineError, match=r"bad\.json"):
            load_profile(tmp_path / "bad.json")
