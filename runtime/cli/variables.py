"""Environment variables as users give them: -e and --env-file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click


def environment_of(options: Iterable[str], files: Iterable[Path]) -> tuple[str, ...]:
    """NAME=value of every variable, later ones over earlier ones; a name alone takes our own value, if it has one."""
    lines = [line for file in files for line in file_lines(file)]
    found: dict[str, str] = {}
    for text in (*lines, *options):
        name, equals, value = text.partition("=")
        if not name or "\0" in text:
            raise click.BadParameter(f"{text!r} has no name", param_hint="--env")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return tuple(f"{name}={value}" for name, value in found.items())


def file_lines(file: Path) -> list[str]:
    """The lines of a file that are not empty or comments; nothing is unquoted, as with Docker."""
    lines = os.fsdecode(file.read_bytes()).splitlines()
    return [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
