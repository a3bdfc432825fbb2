"""Errors that go from one process to another, as JSON."""

from __future__ import annotations

from typing import Any

from vcs import errors
from vcs.errors import EngineError, TreeringError


def error_fields(error: TreeringError, exit_code: int) -> dict[str, Any]:
    """An error as a message; `rebuild` is the way back."""
    return {"error": str(error), "kind": error.kind, "facts": {"exit_code": exit_code, **error.facts}}


def rebuild(message: dict[str, Any]) -> TreeringError:
    """The error that a message is about, of the same class."""
    kind = getattr(errors, message["kind"], EngineError)
    made: TreeringError = kind(message["error"], **message["facts"])
    return made
