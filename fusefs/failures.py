"""Which error is which errno, and what is logged of it: for every driver.

    OSError                its errno
    Missing, Corrupt       EIO, and the object and layer are logged, once each
    Malformed              EINVAL: bytes that no kernel sends
    anything else          EIO, and a traceback is logged

So one request fails, and the file system goes on.
"""

from __future__ import annotations

import errno
import logging

from fusefs.wire.requests import Malformed
from vcs.errors import Damaged

_log = logging.getLogger(__name__)

_LOGGED_MOST = 1000


class Failures:
    """Those of one mount."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def errno_of(self, error: Exception, request: str, *arguments: object) -> int:
        """What the caller is told. `request`, formatted with `arguments`, is what failed, for the log."""
        if isinstance(error, OSError) and error.errno:
            return error.errno
        if isinstance(error, Malformed):
            _log.error(request + ": %s", *arguments, error)
            return errno.EINVAL
        if isinstance(error, Damaged):
            text = str(error)
            if text not in self._logged and len(self._logged) < _LOGGED_MOST:
                self._logged.add(text)
                facts = " ".join(f"{name}={value}" for name, value in error.facts.items())
                _log.error(request + ": %s (%s)", *arguments, text, facts or "no further facts")
            return errno.EIO
        _log.error(request + " failed", *arguments, exc_info=error)
        return errno.EIO
