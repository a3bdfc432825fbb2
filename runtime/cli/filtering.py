"""Which containers `ps` lists: --filter, --last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import click

from runtime.cli.render_containers import STATUSES, Seen
from runtime.state import Exited

ANY_STATE = {"status", "exited"}
"""Filters that say themselves whether a container must run."""


def parse_filters(given: Iterable[str]) -> dict[str, list[str]]:
    """The values of each filter. UsageError if there is none such."""
    found: dict[str, list[str]] = defaultdict(list)
    for text in given:
        key, equals, value = text.partition("=")
        if key not in _TESTS or not equals:
            known = ", ".join(f"{one}=" for one in _TESTS)
            raise click.BadParameter(f"{text!r} is none; there are {known}", param_hint="--filter")
        if key == "status" and value not in STATUSES:
            raise click.BadParameter(f"{value!r} is no status: {', '.join(STATUSES)}", param_hint="--filter")
        if key == "exited" and not value.isdecimal():
            raise click.BadParameter(f"{value!r} is no exit code", param_hint="--filter")
        found[key].append(value)
    return found


def passes(filters: dict[str, list[str]], seen: Seen) -> bool:
    """Whether a container fits all filters: of several with one name, any, but for labels, all."""
    for key, values in filters.items():
        fits = (_TESTS[key](value, seen) for value in values)
        if not (all(fits) if key == "label" else any(fits)):
            return False
    return True


def _has_label(wanted: str, seen: Seen) -> bool:
    key, equals, value = wanted.partition("=")
    labels = seen.container.record.settings.labels
    return key in labels and (not equals or labels[key] == value)


_TESTS: dict[str, Callable[[str, Seen], bool]] = {
    "name": lambda value, seen: value in seen.container.name,
    "status": lambda value, seen: seen.status == value,
    "health": lambda value, seen: (seen.health or "none") == value,
    "label": _has_label,
    "image": lambda value, seen: value in (seen.container.record.image, seen.container.base),
    "id": lambda value, seen: seen.container.id.startswith(value),
    "exited": lambda value, seen: isinstance(seen.state, Exited) and seen.state.code == int(value),
}
