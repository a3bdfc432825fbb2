"""The reflogs of deleted refs, kept for as long as the operations that deleted them: undo brings both back.

Git forgets a ref's reflog with the ref. Here it gets a second name first, a hard link in `STORE/operations.reflogs/`:
to keep one costs no copy. Its lines and their seals stay as they are (vcs.reflogs). The file is named after the
operation and a digest of the ref's name, since a ref's name may be longer than a file's.

As with the operation log, nothing is flushed before the end of a command: what a power cut takes is the memory of what
was done. Who changes anything here holds the lock on refs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Container, Iterable, Iterator
from pathlib import Path

from blake3 import blake3

from vcs.durable import replace_file, sync_directory
from vcs.gitwords import BRANCHES, TAGS
from vcs.reflogs import bring_back, ids_in, is_damaged, lines_of, log_path, restored, shortened, without


class KeptReflogs:
    """Those of one store: in `directory`, of the refs of `repository`."""

    def __init__(self, directory: Path, repository: Path) -> None:
        self._directory = directory
        self._repository = repository
        self._dirty = False

    def keep(self, operation: str, refs: Iterable[str]) -> list[Path]:
        """Keep the reflogs of refs that the operation is about to delete; returns the files. What cannot be kept is no
        error: only its memory is lost. Of a ref that is deleted twice, the first is kept."""
        kept = []
        for ref in refs:
            log, path = log_path(self._repository, ref), self._path(operation, ref)
            with contextlib.suppress(OSError):
                if not ref.startswith((BRANCHES, TAGS)) and log.read_bytes().count(b"\n") <= 1:
                    continue  # a container's that says no more than the operation itself
                self._directory.mkdir(mode=0o700, exist_ok=True)
                os.link(log, path)
                kept.append(path)
                self._dirty = True
        return kept

    def forget(self, files: Iterable[Path]) -> None:
        """The opposite: they are not deleted after all."""
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()

    def flush(self) -> None:
        """Make durable what was kept."""
        if self._dirty:
            self._dirty = False
            with contextlib.suppress(OSError):
                sync_directory(self._directory)
                sync_directory(self._directory.parent)

    def lines(self, operation: str, ref: str) -> list[bytes]:
        """The reflog that an operation deleted with a ref, oldest line first; empty if it was not kept."""
        return lines_of(self._path(operation, ref))

    def bring_back(self, operation: str, ref: str) -> None:
        """Have a ref that was made again have the reflog that an operation deleted with it, if that was kept."""
        bring_back(self._repository, ref, self.lines(operation, ref))

    def young_ids(self, since: float, operations: Container[str]) -> set[str]:
        """The ids in lines that are not older than `since` (seconds since 1970), of these operations."""
        files = (path for operation, path in self._files() if operation in operations)
        return set().union(*(ids_in(lines_of(path), since) for path in files))

    def expire(self, since: float, operations: Container[str]) -> int:
        """Remove lines that are older than `since`, as from the reflogs of refs that there are, and all that belongs
        to none of these operations; returns how many lines went of those that stay."""
        removed = 0
        for operation, path in self._files():
            if operation not in operations:
                path.unlink(missing_ok=True)
                continue
            lines = lines_of(path)
            kept = shortened(lines, since)
            if kept != lines:
                self._write(path, kept)
                removed += len(lines) - len(kept)
        return removed

    def drop(self, operation: str, ref: str, gone: Container[str]) -> None:
        """Remove the lines of a kept reflog that lead to an id in `gone`."""
        path = self._path(operation, ref)
        lines = lines_of(path)
        kept = without(lines, gone)
        if kept != lines:
            self._write(path, kept)

    def damaged_lines(self) -> Iterator[str]:
        """What is wrong with them, for a check."""
        for _, path in self._files():
            for number, line in enumerate(lines_of(path), 1):
                if is_damaged(line):
                    yield f"line {number} of {path.parent.name}/{path.name} is not as it was written"

    def mend(self) -> int:
        """Write damaged lines as they were, if one byte of them has changed, and otherwise leave them out; returns how
        many went."""
        gone = 0
        for _, path in self._files():
            lines = lines_of(path)
            mended = [restored(line) if is_damaged(line) else line for line in lines]
            kept = [line for line in mended if line is not None]
            gone += len(lines) - len(kept)
            if kept != lines:
                self._write(path, kept)
        return gone

    # -- details

    def _path(self, operation: str, ref: str) -> Path:
        return self._directory / f"{operation}-{blake3(os.fsencode(ref)).hexdigest(length=16)}"

    def _files(self) -> list[tuple[str, Path]]:
        """Each file, with the operation that it belongs to."""
        try:
            names: Collection[str] = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        return [(name.partition("-")[0], self._directory / name) for name in sorted(names)]

    def _write(self, path: Path, lines: Iterable[bytes]) -> None:
        replace_file(path, b"".join(line + b"\n" for line in lines))
