"""A process that was forked begins anew, as another program of ours.

SQLite keeps what it knows of open databases, their locks among it, in memory that a fork copies. A forked process that
opens a database which its parent had open believes to have locks that it does not have, and waits for ever for those
that it has. Whoever needs the store in such a process starts afresh.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

_PROGRAM = """
import importlib, sys
sys.path.insert(0, sys.argv.pop(1))
sys.exit(importlib.import_module(sys.argv.pop(1)).main(sys.argv[1:]))
"""
"""-P and the path given make it find this very package, not a directory of the same name."""


def become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Go on as a module's `main(arguments)`, with the same standard streams. OSError if that cannot be."""
    package = str(Path(__file__).resolve().parents[2])
    os.execv(sys.executable, [sys.executable, "-P", "-c", _PROGRAM, package, module, *arguments])
