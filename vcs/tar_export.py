"""A snapshot -> a tar archive, as a stream. The same root gives the same bytes.

Members are named as `tar -C root .` names them: `./` for the top, with its attributes, then everything below in the
order of a walk.
"""

from __future__ import annotations

from vcs.exporter import ExportResult, refusal
from vcs.progress import Progress
from vcs.snapshot import Snapshot, split_path
from vcs.tar.writer import TarWriter, Writable
from vcs.tar_members import Members


def export_tar(snapshot: Snapshot, path: bytes, out: Writable, *, progress: Progress | None = None) -> ExportResult:
    """Write what is at and below `path` in the snapshot as a PAX archive; `out` is never sought, nor closed.

    Sockets, which no archive can hold, are among the result's `skipped`. NotFound if there is nothing at `path`;
    NoSpace or Denied where `out` cannot take more; a BrokenPipeError is left to the caller.
    """
    names = split_path(path)
    top = snapshot.lookup(path)
    # A single file keeps its name; a directory is the archive's own `.`.
    cut = len(b"/" + b"/".join(names if top.is_dir else names[:-1]))
    members = Members(snapshot, TarWriter(out), progress)
    here = path
    try:
        for here, entry in snapshot.walk(path):
            members.add(here, b"./" + here[cut:].lstrip(b"/"), entry)
        result = members.close()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise refusal(error, here) from error
    result.entries -= top.is_dir
    return result
