"""Errors that go from one process to another, as JSON."""

from __future__ import annotations

import errno
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from vcs import errors
from vcs.errors import EngineError, TreeringError
from vcs.shortage import SHORTAGES

_LOG = "supervisors.log"
"""In STORE/run: what went wrong in supervisors that nobody expects."""
_SHORT = (*SHORTAGES, errno.ENOSPC, errno.EDQUOT)


def unexpected(error: BaseException, run: Path) -> EngineError:
    """What to say of an exception that ends a supervisor. Where it came from is in a log in STORE/run, unless the
    machine had too little of something just then, and nothing is wrong with us."""
    is_short = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORT)
    if not is_short:
        from fusefs.rundir import open_log

        with suppress(OSError), open(open_log(run / _LOG), "a") as file:
            traceback.print_exception(error, file=file)
    said = error if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return EngineError(f"the supervisor failed: {said}", advice="a container that ran goes on: see `treering ps`")


def error_fields(error: TreeringError, exit_code: int) -> dict[str, Any]:
    """An error as a message; `rebuild` is the way back."""
    return {"error": str(error), "kind": error.kind, "facts": {"exit_code": exit_code, **error.facts}}


def rebuild(message: dict[str, Any]) -> TreeringError:
    """The error that a message is about, of the same class."""
    kind = getattr(errors, message["kind"], EngineError)
    made: TreeringError = kind(message["error"], **message["facts"])
    return made
