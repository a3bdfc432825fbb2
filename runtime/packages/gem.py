"""Ruby's packages: specifications/NAME-VERSION[-PLATFORM].gemspec, below a directory of gems.

The name says all; the file is a program in Ruby, which is not for us to run.
"""

from __future__ import annotations

import os
import re

from runtime.packages.model import Package, path_text

ENDING = b".gemspec"
_PLACES = (b"/specifications", b"/specifications/default")
_DEBIANS_OWN = b"/rubygems-integration/"
"""Below it Debian's packages put theirs: they are told of as deb."""
_NAME = re.compile(r"(?P<name>.+?)-(?P<version>[0-9][0-9A-Za-z.]*)(-(?P<platform>[A-Za-z].*))?\.gemspec")


def is_specification(place: bytes, name: bytes) -> bool:
    """Whether a file, by its name and the directory that it is in, says that a gem is installed."""
    return name.endswith(ENDING) and place.endswith(_PLACES)


def gem_package(place: bytes, name: bytes) -> Package | None:
    """What a specification says by its name; None if it names no version, or belongs to somebody else."""
    match = _NAME.fullmatch(os.fsdecode(name))
    if match is None or _DEBIANS_OWN in place:
        return None
    return Package("gem", match["name"], match["version"], match["platform"] or "", path_text(gem_home(place)))


def gem_home(place: bytes) -> bytes:
    """The directory of gems that a directory of specifications belongs to."""
    return place.removesuffix(b"/default").removesuffix(b"/specifications")
