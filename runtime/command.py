"""Whether a root has the command that is to be run: asked before an engine is started, for a clear answer.

The engines look for themselves too, but report some failures too late (a script whose interpreter is missing fails
after they have let go) and each in its own words. What cannot be decided here is left to them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from runtime.stubs import KERNEL_TREES
from runtime.system.rootaccess import Root
from vcs.errors import EngineError

CANNOT_INVOKE = 126
NOT_FOUND = 127


def check_command(root: Root, name: str, environment: Sequence[str], cwd: str, mounted: Sequence[bytes] = ()) -> None:
    """EngineError with the fact `exit_code` (126 or 127) if `name` cannot be executed in this root. What is at or below
    a `mounted` path is not looked for."""
    unseen = (*KERNEL_TREES, *mounted)
    path = os.fsencode(name)
    if b"/" in path:
        candidates = [os.path.join(os.fsencode(cwd), path)]
    else:
        folders = next((item[5:] for item in environment if item.startswith("PATH=")), "")
        candidates = [os.path.join(os.fsencode(folder or cwd), path) for folder in folders.split(":")]
    denied = None
    for candidate in candidates:
        if _is_in(root.resolve(candidate), unseen):
            return
        status = root.stat(candidate)
        if status is None:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o111:
            _check_interpreter(root, candidate, name, unseen)
            return
        denied = "is a directory" if stat.S_ISDIR(status.st_mode) else "permission denied"
    if denied:
        raise EngineError(f"cannot run {name}: {denied}", exit_code=CANNOT_INVOKE, command=name)
    raise EngineError(f"cannot run {name}: not found in the container", exit_code=NOT_FOUND, command=name)


def _is_in(path: bytes, trees: Sequence[bytes]) -> bool:
    return any(path == tree or path.startswith(tree + b"/") for tree in trees)


def _check_interpreter(root: Root, path: bytes, name: str, unseen: Sequence[bytes]) -> None:
    head = root.read(path, 256) or b""
    words = head.partition(b"\n")[0][2:].split() if head.startswith(b"#!") else []
    if not words or not words[0].startswith(b"/") or _is_in(root.resolve(words[0]), unseen):
        return
    if root.stat(words[0]) is None:
        shown = os.fsdecode(words[0])
        raise EngineError(f"cannot run {name}: its interpreter {shown} is missing", exit_code=NOT_FOUND, command=name)
