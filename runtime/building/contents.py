"""Where what is copied comes from: the context, as far as instructions name it, and archives that ADD unpacks."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from runtime.building.dockerignore import ContextIgnore, Rules
from runtime.building.patterns import fixed_part
from runtime.secrets import Finding, Policy, SecretWatch
from vcs.decompress import decompressed
from vcs.errors import BadInput
from vcs.importcache import import_cache
from vcs.importer import import_directory
from vcs.model import Chunked, Data, Entry
from vcs.snapshot import Snapshot
from vcs.store import Store
from vcs.tar_import import import_tar
from vcs.trees import Sink

_BLOCK = 512
_CHECKSUM = slice(148, 156)


class Context:
    """The directory that COPY and ADD take files from. Read when first asked for, within the store's writing()."""

    def __init__(
        self, store: Store, directory: Path, rules: Rules, sources: Iterable[str], policy: Policy = "off"
    ) -> None:
        self._store = store
        self._directory = directory
        self._rules = rules
        self._sources = tuple(sources)
        self._policy = policy
        self.secrets: tuple[Finding, ...] = ()

    @cached_property
    def snapshot(self) -> Snapshot:
        """What of the context instructions name, as a root in the store. A stat for each file, if nothing changed."""
        store, status = self._store, self._store.path.stat()
        top = os.path.abspath(os.fsencode(self._directory))
        ignore = ContextIgnore(rules=self._rules, wanted=wanted_paths(self._directory, self._sources), top=top)
        with store.writing() as lease, import_cache(store, lease, self._directory) as cache:
            before = cache.previous.root if cache.previous else None
            with store.batch() as batch:
                watch = SecretWatch(store, batch, self._policy)
                result = import_directory(
                    watch, self._directory, one_file_system=False, ignore=ignore, cache=cache,
                    leave_out=frozenset({(status.st_dev, status.st_ino)}),
                )  # fmt: skip
                watch.refuse(before, result.root)
            cache.save(result.root)
            self.secrets = watch.findings(before, result.root)
        return store.snapshot(result.root)


def wanted_paths(directory: Path, sources: Iterable[str]) -> tuple[str, ...]:
    """The paths of a context that sources lead to, as far as they are no patterns, and where links on them lead."""
    wanted = set()
    top = os.path.realpath(directory)
    for source in sources:
        path = fixed_part(posixpath.normpath("/" + source.lstrip("/")).lstrip("/"))
        wanted.add(path)
        names = path.split("/")
        for end in range(1, len(names) + 1):
            real = os.path.realpath(os.path.join(top, *names[:end]))
            if real.startswith(top.rstrip("/") + "/"):
                rest = "/".join([os.path.relpath(real, top), *names[end:]])
                wanted.add(rest)
    return tuple(sorted(wanted))


class FileReader:
    """A file of a snapshot, read from its beginning."""

    def __init__(self, snapshot: Snapshot, content: Data | Chunked) -> None:
        self._snapshot = snapshot
        self._content = content
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; none at the end."""
        data = self._snapshot.read(self._content, self._at, size)
        self._at += len(data)
        return bytes(data)


def is_archive(snapshot: Snapshot, entry: Entry) -> bool:
    """Whether a file is a tar archive, compressed or not: its first block has the checksum that it says."""
    if not isinstance(entry.content, (Data, Chunked)) or not entry.size:
        return False
    stream, block = decompressed(FileReader(snapshot, entry.content)), b""
    try:
        while len(block) < _BLOCK and (data := stream.read(_BLOCK - len(block))):
            block += data
    except BadInput:
        return False
    if len(block) < _BLOCK:
        return False
    try:
        said = int(block[_CHECKSUM].strip(b" \0"), 8)
    except ValueError:
        return False
    return said == sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")


def unpacked(snapshot: Snapshot, entry: Entry, sink: Sink) -> bytes:
    """The root of an archive that is a file in a snapshot. BadInput."""
    assert isinstance(entry.content, (Data, Chunked))
    return import_tar(FileReader(snapshot, entry.content), sink).root
