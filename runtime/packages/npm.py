"""npm's packages: node_modules/NAME/package.json and node_modules/@SCOPE/NAME/package.json, of a project or global.

What is below another one (node_modules/a/node_modules/b) is a package of its own, as it is for npm. The name is what
package.json says, since a directory may have an alias (`npm:` in a dependency).
"""

from __future__ import annotations

import re

import msgspec

from runtime.packages.model import Note, Package, path_text, text

FILE = b"package.json"
LARGEST = 1 << 20
"""Bytes of a package.json; what is larger is none."""
_PLACE = re.compile(rb"(?P<place>(?:.*/)?node_modules)/(?P<name>(?:@[^/]+/)?[^/@.][^/]*)", re.DOTALL)
_DEBIANS_OWN = b"/usr/share/nodejs/"
"""Where Debian's packages put theirs: they are told of as deb."""
_NAME = re.compile(r"(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~_-][a-z0-9._~-]*", re.IGNORECASE)
_LONGEST = 256


class _Manifest(msgspec.Struct):
    name: msgspec.Raw = msgspec.Raw(b"")
    version: msgspec.Raw = msgspec.Raw(b"")


def is_manifest(place: bytes, name: bytes) -> bool:
    """Whether a file, by its name and the directory that it is in, says that a package is installed."""
    return name == FILE and _PLACE.fullmatch(place) is not None


def npm_package(directory: bytes, data: bytes, note: Note) -> Package | None:
    """What the package.json in a directory says; None if it says nothing that can be understood."""
    match = _PLACE.fullmatch(directory)
    if match is None or directory.startswith(_DEBIANS_OWN):
        return None
    try:
        manifest = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"), type=_Manifest)
        name, version = _string(manifest.name), _string(manifest.version)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        note("damaged, or no JSON")
        return None
    if not version:
        return None  # a directory that somebody put there, of which npm does not know either
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        name = text(match["name"])
    return Package("npm", name, version[:_LONGEST], place=path_text(match["place"]))


def package_directory(path: bytes) -> bytes | None:
    """The directory of the innermost package that a file is in."""
    found = _PLACE.match(path)
    return found.group() if found and path[found.end() : found.end() + 1] == b"/" else None


def _string(raw: msgspec.Raw) -> str:
    found = msgspec.json.decode(raw) if bytes(raw) else ""
    return found if isinstance(found, str) else ""
