"""What a commit holds, as a bill of materials: CycloneDX in JSON (ECMA-424), each package with its package URL.

The same commit gives the same document: components are sorted, the time is the commit's, and there is no serial number
unless one is asked for.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal, get_args

from packageurl import PackageURL

from runtime import __version__
from runtime.packages import Inventory, Package
from runtime.packages.databases import find
from vcs.model import Chunked, Data
from vcs.snapshot import CommitInfo, Snapshot

SpecVersion = Literal["1.5", "1.6"]
SPEC_VERSIONS: tuple[SpecVersion, ...] = get_args(SpecVersion)

_LARGEST = 64 << 10
"""Bytes of os-release that are read."""
_LAST = 253_402_300_799
"""The last second of the year 9999; a commit may say anything."""
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAMESPACES = {"deb": "debian", "apk": "alpine"}
"""Whose a kind's packages are where the root does not say of which distribution it is."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """What os-release(5) says: `debian`, `12`. Empty where it says nothing."""

    name: str = ""
    version: str = ""


def bill_of_materials(
    name: str,
    commit: CommitInfo,
    root: Snapshot,
    inventory: Inventory,
    spec_version: SpecVersion = "1.6",
    serial_number: str | None = None,
) -> dict[str, Any]:
    """The document. `name`: what the commit is called; `root`: its files; `serial_number`: such as `urn:uuid:...`."""
    distribution = distribution_of(root)
    document: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{spec_version}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": spec_version,
        **({"serialNumber": serial_number} if serial_number else {}),
        "version": 1,
        "metadata": {
            "timestamp": _time_text(commit.time),
            "tools": {"components": [{"type": "application", "name": "treering", "version": __version__}]},
            "component": {"type": "container", "bom-ref": commit.id, "name": name, "version": commit.id},
            "properties": [
                {"name": "treering:root", "value": commit.root.hex()},
                *({"name": "treering:not-understood", "value": note} for note in inventory.notes),
            ],
        },
    }
    components = [_component(package, distribution) for package in sorted(inventory.packages)]
    if distribution.name:
        components.insert(0, _system(distribution))
    _tell_apart(components)
    return document | {"components": components}


def distribution_of(root: Snapshot) -> Distribution:
    """Of which distribution a root is."""
    for path in (b"/etc/os-release", b"/usr/lib/os-release"):
        entry = find(root, path)
        if entry is not None and isinstance(entry.content, (Data, Chunked)):
            text = root.read(entry.content, size=min(_LARGEST, entry.content.size)).decode(errors="replace")
            values = dict(_assignments(text))
            return Distribution(values.get("ID", ""), values.get("VERSION_ID", ""))
    return Distribution()


def package_url(package: Package, distribution: Distribution) -> str | None:
    """A package's URL (purl-spec); None if its name cannot be in one."""
    namespace, name, version = "", package.name, package.version
    qualifiers = {}
    if package.kind in ("deb", "apk", "rpm"):
        namespace = distribution.name or _NAMESPACES.get(package.kind, "")
        system = "-".join(filter(None, (distribution.name, distribution.version)))
        qualifiers = {"arch": package.architecture, "distro": system}
    if package.kind == "rpm":
        epoch, colon, rest = version.partition(":")
        if colon:
            version, qualifiers["epoch"] = rest, epoch
    elif package.kind == "npm":
        namespace, _, name = name.rpartition("/")
    elif package.kind == "gem":
        qualifiers = {"platform": package.architecture}
    try:
        return PackageURL(package.kind, namespace, name, version, qualifiers).to_string()
    except (ValueError, TypeError):  # TypeError: a name of spaces alone
        return None


def _component(package: Package, distribution: Distribution) -> dict[str, Any]:
    url = package_url(package, distribution)
    group, _, name = package.name.rpartition("/") if package.kind == "npm" else ("", "", package.name)
    properties = {
        "treering:kind": package.kind,
        "treering:place": package.place,
        "treering:installed-size": "" if package.size is None else str(package.size),
    }
    return {
        "type": "library",
        "bom-ref": url or f"{package.kind} {package.name} {package.version}",
        **({"group": group} if group else {}),
        "name": name,
        "version": package.version,
        **({"purl": url} if url else {}),
        "properties": [{"name": name, "value": value} for name, value in properties.items() if value],
    }


def _system(distribution: Distribution) -> dict[str, Any]:
    version = {"version": distribution.version} if distribution.version else {}
    return {"type": "operating-system", "bom-ref": "operating-system", "name": distribution.name, **version}


def _tell_apart(components: list[dict[str, Any]]) -> None:
    """Number the references that would occur twice: of a package in several places, say."""
    seen: set[str] = set()
    for component in components:
        reference = component["bom-ref"]
        numbers = count(2)
        while component["bom-ref"] in seen:
            component["bom-ref"] = f"{reference} ({next(numbers)})"
        seen.add(component["bom-ref"])


def _time_text(seconds: int) -> str:
    return datetime.fromtimestamp(max(0, min(seconds, _LAST)), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _assignments(text: str) -> list[tuple[str, str]]:
    """The assignments of a file like os-release whose values are one plain word."""
    found = []
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        if equals and len(words) == 1 and _WORD.fullmatch(words[0]):
            found.append((key.strip(), words[0]))
    return found
