"""What the OCI runtime specification 1.0 requires of a config.json (config.md, config-linux.md), as far as we use it.

problems() names everything that is missing, of the wrong type, or unknown: an engine may ignore what it does not know,
so a misspelt member would otherwise mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

Check = Callable[[str, Any], Iterator[str]]


def problems(config: Any) -> list[str]:
    """Everything that is wrong; nothing if the config is valid."""
    return list(_CONFIG("config", config))


def a(kind: type | tuple[type, ...], pattern: str = "") -> Check:
    """A value of a type; text also of a pattern."""

    def check(place: str, value: Any) -> Iterator[str]:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            yield f"{place}: {value!r} is not of {kind}"
        elif pattern and not (isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL)):
            yield f"{place}: {value!r} is not like {pattern}"

    return check


def number(least: int, most: int) -> Check:
    """A whole number."""

    def check(place: str, value: Any) -> Iterator[str]:
        if type(value) is not int or not least <= value <= most:
            yield f"{place}: {value!r} is no number from {least} to {most}"

    return check


def many(of: Check, least: int = 0, unique: bool = False) -> Check:
    """A list."""

    def check(place: str, value: Any) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{place}: {value!r} is no list"
            return
        if len(value) < least:
            yield f"{place}: has {len(value)} members, not {least}"
        if unique and len({str(item) for item in value}) != len(value):
            yield f"{place}: has a member twice"
        for position, item in enumerate(value):
            yield from of(f"{place}[{position}]", item)

    return check


def members(required: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
    """An object with these members and no others."""
    known = {**required, **(optional or {})}

    def check(place: str, value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{place}: {value!r} is no object"
            return
        yield from (f"{place}.{name}: is missing" for name in required if name not in value)
        for name, item in value.items():
            if name in known:
                yield from known[name](f"{place}.{name}", item)
            else:
                yield f"{place}.{name}: is not in the specification"

    return check


def mapping(of: Check) -> Check:
    """An object whose members' names are free."""

    def check(place: str, value: Any) -> Iterator[str]:
        for name, item in value.items():
            yield from of(f"{place}.{name}", item)

    return check


TEXT, FLAG = a(str), a(bool)
UINT32, INT64 = number(0, (1 << 32) - 1), number(-(1 << 63), (1 << 63) - 1)
UINT64 = number(0, (1 << 64) - 1)
PATH = a(str, "/.*")
CAPABILITIES = many(a(str, "CAP_[A-Z_]+"), unique=True)
NAMESPACE = a(str, "pid|network|mount|ipc|uts|user|cgroup|time")
ID_MAP = members({"containerID": UINT32, "hostID": UINT32, "size": UINT32})
ACTION = a(str, "SCMP_ACT_[A-Z_]+")
OPERATOR = a(str, "SCMP_CMP_(NE|LT|LE|EQ|GE|GT|MASKED_EQ)")


def _environment(place: str, value: Any) -> Iterator[str]:
    yield from a(str, "[^=]+=.*")(place, value)


_PROCESS = members(
    {"cwd": PATH, "args": many(TEXT, least=1)},
    {
        "terminal": FLAG,
        "consoleSize": members({"height": UINT64, "width": UINT64}),
        "user": members({"uid": UINT32, "gid": UINT32}, {"umask": UINT32, "additionalGids": many(UINT32)}),
        "env": many(_environment),
        "capabilities": members(
            {}, dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), CAPABILITIES)
        ),
        "noNewPrivileges": FLAG,
        "oomScoreAdj": number(-1000, 1000),
        "rlimits": many(members({"type": a(str, "RLIMIT_[A-Z]+"), "soft": UINT64, "hard": UINT64}), unique=True),
    },
)
_MOUNT = members({"destination": PATH}, {"type": TEXT, "source": TEXT, "options": many(TEXT, unique=True)})
_DEVICE_RULE = members(
    {"allow": FLAG}, {"type": a(str, "[abc]"), "major": INT64, "minor": INT64, "access": a(str, "[rwm]{1,3}")}
)
_RESOURCES = members(
    {},
    {
        "devices": many(_DEVICE_RULE),
        "memory": members({}, {"limit": INT64, "swap": INT64, "reservation": INT64}),
        "cpu": members({}, {"shares": UINT64, "quota": INT64, "period": UINT64, "cpus": TEXT}),
        "pids": members({"limit": INT64}),
    },
)
_DEVICE = members(
    {"type": a(str, "[cbpu]"), "path": PATH},
    {"major": INT64, "minor": INT64, "fileMode": number(0, 0o7777), "uid": UINT32, "gid": UINT32},
)
_SECCOMP = members(
    {"defaultAction": ACTION},
    {
        "defaultErrnoRet": UINT32,
        "architectures": many(a(str, "SCMP_ARCH_[A-Z0-9_]+"), unique=True),
        "flags": many(a(str, "SECCOMP_FILTER_FLAG_[A-Z_]+")),
        "syscalls": many(
            members(
                {"names": many(TEXT, least=1), "action": ACTION},
                {
                    "errnoRet": UINT32,
                    "args": many(
                        members({"index": UINT32, "value": UINT64, "op": OPERATOR}, {"valueTwo": UINT64}),
                    ),
                },
            )
        ),
    },
)
_LINUX = members(
    {},
    {
        "namespaces": many(members({"type": NAMESPACE}, {"path": PATH}), unique=True),
        "uidMappings": many(ID_MAP),
        "gidMappings": many(ID_MAP),
        "devices": many(_DEVICE),
        "cgroupsPath": TEXT,
        "resources": _RESOURCES,
        "seccomp": _SECCOMP,
        "sysctl": mapping(TEXT),
        "maskedPaths": many(PATH),
        "readonlyPaths": many(PATH),
        "rootfsPropagation": a(str, "r?(shared|private|slave|unbindable)"),
    },
)
_CONFIG = members(
    {"ociVersion": a(str, r"1\.\d+\.\d+"), "root": members({"path": TEXT}, {"readonly": FLAG})},
    {"process": _PROCESS, "hostname": TEXT, "mounts": many(_MOUNT), "linux": _LINUX, "annotations": mapping(TEXT)},
)
