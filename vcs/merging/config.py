"""The image config of a merged commit: three ways, key by key. Pure.

Members of objects are merged by their keys, variables (`Env`) by their names. Any other list is one value: half of one
command line and half of another would be neither's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from vcs.merging.values import Favour, MergeConflict

_MISSING = object()


def merge_configs(
    base: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any], favour: Favour
) -> tuple[dict[str, Any], list[MergeConflict]]:
    """The merged config, and the keys that both sides gave different values."""
    conflicts: list[MergeConflict] = []
    merged = _merged("", base, ours, theirs, favour, conflicts)
    return merged, conflicts


def _merged(key: str, base: Any, ours: Any, theirs: Any, favour: Favour, conflicts: list[MergeConflict]) -> Any:
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return dict(_members(key, base, ours, theirs, favour, conflicts))
    if key.rpartition(".")[2] == "Env" and isinstance(ours, list) and isinstance(theirs, list):
        was, our, their = (_variables(value) for value in (base, ours, theirs))
        return [f"{name}={value}" for name, value in _members(key, was, our, their, favour, conflicts)]
    conflicts.append(MergeConflict("config", key.encode(), _said(base, ours), _said(base, theirs)))
    return theirs if favour == "theirs" else ours


def _members(
    key: str, base: Any, ours: Mapping[str, Any], theirs: Mapping[str, Any], favour: Favour,
    conflicts: list[MergeConflict],
) -> Iterator[tuple[str, Any]]:  # fmt: skip
    before = base if isinstance(base, Mapping) else {}
    for name in {**ours, **theirs}:
        was, our, their = (side.get(name, _MISSING) for side in (before, ours, theirs))
        value = _merged(f"{key}.{name}".lstrip("."), was, our, their, favour, conflicts)
        if value is not _MISSING:
            yield name, value


def _variables(value: Any) -> dict[str, str]:
    lines = value if isinstance(value, list) else []
    return {name: text for name, _, text in (str(line).partition("=") for line in lines)}


def _said(before: Any, value: Any) -> str:
    if value is _MISSING:
        return "removed it"
    return ("added " if before is _MISSING else "made it ") + json.dumps(value, ensure_ascii=False)
