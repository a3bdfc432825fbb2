"""Python's packages: *.dist-info and *.egg-info, installed, in a home, in a virtual environment.

Names and versions are those of the directories (the format of recorded projects, packaging.python.org), so nothing of
them is read.
"""

from __future__ import annotations

import os
import re

from runtime.packages.model import Package, path_text

ENDINGS = (b".dist-info", b".egg-info")
_DEBIANS_OWN = b"/usr/lib/python3/dist-packages"
"""Where Debian's packages put theirs, and nobody else does: they are told of as deb."""
_DIST_INFO = re.compile(r"(?P<name>[^~].*?)-(?P<version>[^-]+)\.dist-info")
_EGG_INFO = re.compile(r"(?P<name>[^~][^-]*)-(?P<version>[^-]+)(-py[0-9.]+)?(-.*)?\.egg-info")
_NAME_MARKS = re.compile(r"[-_.]+")


def python_package(place: bytes, name: bytes) -> Package | None:
    """What metadata says by its name; None if it names no version, or belongs to somebody else."""
    if place == _DEBIANS_OWN:
        return None
    words = os.fsdecode(name)
    match = _DIST_INFO.fullmatch(words) or _EGG_INFO.fullmatch(words)
    if match is None:
        return None
    normal = _NAME_MARKS.sub("-", match["name"]).lower()  # PEP 503
    return Package("pypi", normal, match["version"], place=path_text(place))
