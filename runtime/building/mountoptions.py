"""The --mount flags of RUN, read. What is not supported is a ValueError, which says so by name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Any

from runtime.building.parser import Instruction
from runtime.building.steps import CONTEXT, Origin, RunMount

_COMMON = {"type", "target", "dst", "destination"}
_KNOWN = {
    "cache": {"id", "sharing", "mode", "uid", "gid", "readonly", "ro"},
    "secret": {"id", "required", "mode", "uid", "gid"},
    "tmpfs": {"size"},
    "bind": {"from", "source", "src", "readonly", "ro"},
}
_NAMES = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly"}
_SHARING = ("shared", "private", "locked")
_ID = re.compile(r"[A-Za-z0-9_./:-]{1,200}")


def run_mounts(found: Instruction, expand: Callable[[str], str], origin: Callable[[str], Origin]) -> Iterator[RunMount]:
    """The mounts of a RUN."""
    seen: set[str] = set()
    for name, value in found.flags:
        if name == "mount":
            mount = _mount(value or "", expand, origin)
            if mount.target in seen:
                raise ValueError(f"two mounts are asked for at {mount.target}")
            seen.add(mount.target)
            yield mount


def _mount(text: str, expand: Callable[[str], str], origin: Callable[[str], Origin]) -> RunMount:
    options: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        options[name.lower()] = value if equals else "true"
    kind = options.get("type", "bind")
    if kind not in _KNOWN:
        raise ValueError(f"--mount=type={kind} is not supported: {', '.join(_KNOWN)} are")
    if unknown := sorted(options.keys() - _COMMON - _KNOWN[kind]):
        raise ValueError(f"{unknown[0]!r} of --mount=type={kind} is not supported")
    named = {_NAMES.get(name, name): value for name, value in options.items()}
    for name in ("target", "source", "id"):
        if name in named:
            named[name] = expand(named[name])
    fields: dict[str, Any] = {"kind": kind, "target": _target(kind, named)}
    fields["id"] = _id(kind, named, fields["target"])
    if "sharing" in named and named["sharing"] not in _SHARING:
        raise ValueError(f"sharing={named['sharing']} is not supported: {', '.join(_SHARING)} are")
    fields["sharing"] = named.get("sharing", "shared")
    fields["mode"] = _number(named, "mode", 8, 0o400 if kind == "secret" else 0o755)
    fields["uid"], fields["gid"] = _number(named, "uid", 10, 0), _number(named, "gid", 10, 0)
    fields["read_only"] = kind in ("bind", "secret") or _truth(named, "readonly")
    fields["required"] = _truth(named, "required")
    fields["origin"] = origin(named["from"]) if named.get("from") else CONTEXT
    fields["source"] = posixpath.normpath("/" + named.get("source", "").lstrip("/"))
    fields["size"] = _size(named)
    return RunMount(**fields)


def _target(kind: str, named: dict[str, str]) -> str:
    target = named.get("target", "")
    if not target and kind == "secret":
        target = f"/run/secrets/{posixpath.basename(named.get('id', ''))}"
    if not target.startswith("/"):
        raise ValueError(f"--mount=type={kind} wants target=/PATH")
    path = "/" + posixpath.normpath(target).lstrip("/")
    if path == "/":
        raise ValueError("nothing can be mounted at /")
    return path


def _id(kind: str, named: dict[str, str], target: str) -> str:
    found = named.get("id", "") or (target if kind == "cache" else posixpath.basename(target))
    if kind in ("cache", "secret") and not _ID.fullmatch(found):
        raise ValueError(f"{found[:40]!r} cannot be the id of a {kind}")
    return found


def _number(named: dict[str, str], name: str, base: int, default: int) -> int:
    if name not in named:
        return default
    if not re.fullmatch(r"[0-7]{1,5}" if base == 8 else r"[0-9]{1,9}", named[name]):
        raise ValueError(f"{name}={named[name]} is no number that can be")
    return int(named[name], base)


def _truth(named: dict[str, str], name: str) -> bool:
    value = named.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise ValueError(f"{name}={value} is neither true nor false")
    return value in ("true", "1")


def _size(named: dict[str, str]) -> str:
    size = named.get("size", "")
    if size and not re.fullmatch(r"[0-9]+[kmgKMG]?[bB]?", size):
        raise ValueError(f"size={size} is no size: write 64m")
    return size.rstrip("bB")
