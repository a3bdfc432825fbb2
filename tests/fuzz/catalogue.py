"""All targets."""

from __future__ import annotations

from tests.fuzz import archives, images, machine, packages, stores, words
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target for module in (archives, images, stores, words, packages, machine) for target in module.TARGETS
}
