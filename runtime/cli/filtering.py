"""Which containers `ps` lists: --filter, --last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from runtime.cli.render_containers import STATUSES, status_of
from runtime.state import Exited, State

if TYPE_CHECKING:
    from runtime.containers import Container

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


def passes(filters: dict[str, list[str]], container: Container, state: State, paused: bool) -> bool:
    """Whether a container fits all filters: of several with one name, any, but for labels, all."""
    for key, values in filters.items():
        fits = (_TESTS[key](value, container, state, paused) for value in values)
        if not (all(fits) if key == "label" else any(fits)):
            return False
    return True


def _label(value: str, container: Container, state: State, paused: bool) -> bool:
    key, equals, wanted = value.partition("=")
    labels = container.record.settings.labels
    return key in labels and (not equals or labels[key] == wanted)


_TESTS: dict[str, Callable[[str, Container, State, bool], bool]] = {
    "name": lambda value, container, _state, _paused: value in container.name,
    "status": lambda value, _container, state, paused: status_of(state, paused) == value,
    "label": _label,
    "image": lambda value, container, _state, _paused: value in (container.record.image, container.base),
    "id": lambda value, container, _state, _paused: container.id.startswith(value),
    "exited": lambda value, _container, state, _paused: isinstance(state, Exited) and state.code == int(value),
}
