"""What a RUN is shown and no commit has: secrets, and scripts that stand in the Dockerfile. In memory while it runs."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.building.steps import RunMount
from runtime.settings import Mount
from runtime.state import Process
from vcs.existing import is_directory

_SHARED_MEMORY = Path("/dev/shm")
_PREFIX = "treering-build-"
_NAME = re.compile(rf"{_PREFIX}(\d+)-(\d+)-\w+")
_SCRIPT = "/run/treering-build-script"


@contextmanager
def private_directory() -> Iterator[Path]:
    """A directory in memory that is nobody else's. Its name says whose it is, for sweep_private()."""
    me = Process.of(os.getpid())
    assert me is not None
    place = _SHARED_MEMORY if is_directory(_SHARED_MEMORY) else None
    path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{me.pid}-{me.start}-", dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def secret_mount(mount: RunMount, data: bytes, private: Path, number: int) -> Mount:
    """A secret, as a file that is mounted; `number` tells it from others."""
    path = private / f"secret-{number}"
    path.touch(mode=0o600)
    path.write_bytes(data)
    os.chown(path, mount.uid, mount.gid)
    path.chmod(mount.mode)
    return Mount("bind", mount.target, str(path), read_only=True)


def script_mount(script: bytes, private: Path) -> tuple[tuple[str, ...], Mount]:
    """A heredoc that names its interpreter."""
    path = private / "script"
    path.write_bytes(script)
    path.chmod(0o755)
    interpreter = script.partition(b"\n")[0].removeprefix(b"#!").decode("utf-8", "replace").split(None, 1)
    return (*interpreter, _SCRIPT), Mount("bind", _SCRIPT, str(path), read_only=True)


def sweep_private() -> None:
    """Remove the directories that builders which were killed, and their guards, have left."""
    if is_directory(_SHARED_MEMORY):
        for entry in os.scandir(_SHARED_MEMORY):
            found = _NAME.fullmatch(entry.name)
            if (
                found
                and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
                and not Process(int(found[1]), int(found[2])).alive()
            ):
                shutil.rmtree(entry.path, ignore_errors=True)
