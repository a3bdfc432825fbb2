"""A plan's steps carried out, one commit each, those left out that were made before.

A step's commit stands on that of the step before, the first one on the commit that FROM names. The branch moves once,
at the end, and that is the whole operation for `treering undo`.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fusefs.client import Service
from runtime.building import cache
from runtime.building.bases import resolve_base
from runtime.building.cachemounts import cache_directory
from runtime.building.contents import Context, is_archive, unpacked
from runtime.building.copying import Chosen, Owner, Placing, chosen, content_digest
from runtime.building.executing import Command, execute, sweep
from runtime.building.finishing import Finished, finish, signed
from runtime.building.private import private_directory, script_mount, secret_mount, sweep_private
from runtime.building.stages import Plan
from runtime.building.steps import CONTEXT, Copy, Directory, File, Origin, Run, RunMount, Stage, Step
from runtime.commits import counted, one_line
from runtime.containers import Containers
from runtime.identity import resolve_user
from runtime.secrets import Finding, Policy
from runtime.settings import Mount
from runtime.source import OPENER
from vcs.batch import Batch
from vcs.blobs import put_data
from vcs.diff import diff
from vcs.errors import BadInput, EngineError
from vcs.history import Author
from vcs.model import Chunked, CommitId, Data, Entry, RootId
from vcs.scratch import Scratch
from vcs.signed import Sign
from vcs.snapshot import Snapshot
from vcs.trees import write_root, write_tree

_TITLE_MAX = 4096
_SHORT = 12


class Reporter(Protocol):
    """Who tells people how far a build is."""

    def begin(self, stage: Stage, step: Step | None, number: int, total: int) -> None:
        """A step begins; None is the FROM."""
        ...

    def output(self, data: bytes) -> None:
        """What a RUN prints."""
        ...

    def end(self, commit: CommitId | None, cached: bool, seconds: float) -> None:
        """That step is done."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How it is built."""

    branch: str | None = None
    use_cache: bool = True
    network: str = "host"
    """Of a RUN that says nothing else."""
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    """What is mounted for --mount=type=secret, by id."""
    policy: Policy = "off"
    """What to do about secrets in what is committed."""
    name: str = "Dockerfile"
    sign: Sign | None = None
    """What signs the build's end."""
    verify: bool = True
    """The store's hooks may refuse it."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made."""

    commit: CommitId
    root: RootId
    cached: int
    made: int
    """How many steps were found, and how many were carried out."""
    secrets: tuple[Finding, ...]
    finished: Finished
    """What came of the branch."""


class Build:
    """One build. Use within the store's writing()."""

    def __init__(
        self, containers: Containers, plan: Plan, context: Context, author: Author, reporter: Reporter, options: Options
    ) -> None:
        self._containers = containers
        self._store = containers.store
        self._plan = plan
        self._context = context
        self._author = author
        self._reporter = reporter
        self._options = options
        self._ends: dict[int, CommitId | None] = {}
        self._secrets: list[Finding] = []
        self._steps: set[CommitId] = set()
        self._counts = {True: 0, False: 0}
        self._is_swept = False

    def run(self) -> Built:
        """Carry it out. EngineError, with the facts `line`, `exit_code` and `commit`, if a RUN fails; BadInput, with
        the line, if something cannot be copied."""
        stages = self._plan.stages
        for stage in stages:
            self._ends[stage.number] = self._stage(stage)
        commit = self._ends[self._plan.target]
        if commit is None:
            raise BadInput("nothing was made: the stage is scratch, and nothing else")
        if self._options.sign is not None and commit in self._steps:
            commit = signed(self._store, commit, self._options.branch, self._options.sign)
        finished = self._finished(commit)
        secrets = (*self._context.secrets, *self._secrets) if "snapshot" in self._context.__dict__ else self._secrets
        root = self._store.commit(commit).root
        made, cached = self._counts[False], self._counts[True]
        return Built(commit, root, cached, made, tuple(secrets), finished)

    def _finished(self, commit: CommitId) -> Finished:
        options = self._options
        if options.branch is None:
            return Finished()
        reason = f"build: {options.name}"
        return finish(self._store, commit, options.branch, reason, self._author, verify=options.verify)

    # -- steps

    def _stage(self, stage: Stage) -> CommitId | None:
        total = len(stage.steps) + 1
        began = time.monotonic()
        self._reporter.begin(stage, None, 1, total)
        commit = self._base(stage.base)
        self._reporter.end(commit, cached=False, seconds=time.monotonic() - began)
        for number, step in enumerate(stage.steps, 2):
            began = time.monotonic()
            self._reporter.begin(stage, step, number, total)
            commit, cached = self._step(stage, step, commit)
            self._counts[cached] += 1
            self._steps.add(commit)
            self._reporter.end(commit, cached, time.monotonic() - began)
        return commit

    def _base(self, origin: Origin) -> CommitId | None:
        if origin.stage is not None:
            return self._ends[origin.stage]
        return None if origin.reference is None else resolve_base(self._store, origin.reference)

    def _step(self, stage: Stage, step: Step, parent: CommitId | None) -> tuple[CommitId, bool]:
        key = cache.step_key(parent, step.instruction.word, step.config, *self._facts(step, parent))
        found = cache.find(self._store, key) if self._options.use_cache else None
        if found is not None:
            return found, True
        before = self._root(parent)
        root = self._worked(step, parent, before)
        # A commit is as old as it is, and not as the build.
        author = dataclasses.replace(self._author, time=max(int(time.time()), self._author.time))
        message = self._message(stage, step, before, root)
        parents = () if parent is None else (parent,)
        commit = self._store.add_commit(root, dict(step.config), message, author, parents)
        cache.keep(self._store, key, commit, author)
        return commit, False

    def _facts(self, step: Step, parent: CommitId | None) -> Iterator[Any]:
        """What a step depends on beside its parent and its config."""
        work = step.work
        if isinstance(work, Run):
            yield [work.args, work.env, self._network(work), work.script.hex() if work.script else None]
            for mount in work.mounts:
                yield repr(mount)
                if mount.kind == "bind":
                    yield self._bound(step, mount)[1].hex()
        elif isinstance(work, Copy):
            yield [work.sources, work.target, work.chown, work.chmod, work.unpack]
            yield [[file.name, file.content.hex()] for file in work.files]
            for _, entry in self._sources(step, work):
                yield self._digest(work.origin, entry).hex()
        elif work is None:
            yield step.instruction.rest

    def _digest(self, origin: Origin, entry: Entry) -> bytes:
        return content_digest(self._store, entry, owners=origin != CONTEXT)

    def _worked(self, step: Step, parent: CommitId | None, before: Snapshot) -> RootId:
        """The root that a step makes."""
        if isinstance(step.work, Run):
            return self._run(step, step.work, parent)
        if step.work is None:
            return before.id
        draft = Scratch(self._store)
        placing = Placing(draft, before.root, time.time_ns())
        try:
            if isinstance(step.work, Directory):
                placing.directory(step.work.path)
            else:
                placing.into(step.work.target, self._items(step, step.work, before))
        except BadInput as error:
            raise step.instruction.error(str(error)) from error
        root = placing.finish()
        with self._store.batch() as batch:
            draft.copy_to(batch)
        return root

    def _root(self, commit: CommitId | None) -> Snapshot:
        """What a step begins with."""
        if commit is not None:
            return self._store.snapshot_of(commit)
        with self._store.batch() as batch:
            root = _empty_root(batch)
        return self._store.snapshot(root)

    def _message(self, stage: Stage, step: Step, before: Snapshot, root: RootId) -> str:
        found = step.instruction
        text = found.source[:_TITLE_MAX]
        for heredoc in found.heredocs:
            text += f"\n{heredoc.content[:_TITLE_MAX]}{heredoc.name}"
        lines = {"Dockerfile": f"{self._options.name}, line {found.line}", "Stage": stage.title}
        if changes := diff(before, self._store.snapshot(root)):
            lines["Changes"] = counted(changes)
        return f"{text}\n\n" + "".join(f"{name}: {value}\n" for name, value in lines.items())

    # -- COPY and ADD

    def _files(self, origin: Origin) -> Snapshot:
        """What --from names, or the context."""
        if origin == CONTEXT:
            return self._context.snapshot
        return self._root(self._base(origin))

    def _sources(self, step: Step, work: Copy) -> list[tuple[bytes, Entry]]:
        if not work.sources:
            return []
        snapshot, found = self._files(work.origin), []
        for source in work.sources:
            try:
                entries = chosen(snapshot, source)
            except (ValueError, BadInput) as error:
                raise step.instruction.error(str(error)) from None
            if not entries:
                where = "the context" if work.origin == CONTEXT else "what --from names"
                more = ", or is left out by .dockerignore" if work.origin == CONTEXT else ""
                raise step.instruction.error(f"{source!r} is not in {where}{more}")
            found += entries
        return found

    def _items(self, step: Step, work: Copy, before: Snapshot) -> list[Chosen]:
        owner = _owner(work.chown, before) if work.chown else None
        new = owner or (0, 0)
        from_context = new if work.origin == CONTEXT else owner
        items: list[Chosen | tuple[RootId, Owner | None]] = []
        with self._store.batch() as batch:
            for name, entry in self._sources(step, work):
                snapshot = self._files(work.origin)
                if work.unpack and is_archive(snapshot, entry):
                    root = RootId(unpacked(snapshot, entry, batch))
                    items.append((root, owner))
                else:
                    items.append(Chosen(name, entry, from_context, work.chmod))
            for file in work.files:
                items.append(Chosen(os.fsencode(file.name), _file_entry(file, batch), new, work.chmod))
        return [
            item if isinstance(item, Chosen)
            else Chosen(b"", self._store.snapshot(item[0]).root, item[1], work.chmod, is_archive=True)
            for item in items
        ]  # fmt: skip

    # -- RUN

    def _network(self, work: Run) -> str:
        return work.network or self._options.network

    def _run(self, step: Step, work: Run, parent: CommitId | None) -> RootId:
        found = step.instruction
        if parent is None:
            raise found.error("there is nothing in scratch that could be run")
        if not self._is_swept:
            sweep(self._containers)
            sweep_private()
            self._is_swept = True
        with ExitStack() as stack:
            private = stack.enter_context(private_directory())
            args, mounts = work.args, [self._mount(step, mount, private, stack) for mount in work.mounts]
            if work.script is not None:
                args, mount = script_mount(work.script, private)
                mounts.append(mount)
            command = Command(
                args, (*work.env, *work.proxies), self._network(work),
                tuple(mount for mount in mounts if mount is not None), private,
            )  # fmt: skip
            try:
                code, root, secrets = execute(
                    self._containers, parent, command, self._author, self._options.policy, self._reporter.output
                )
            except EngineError as error:
                raise self._failed(step, parent, str(error), error.facts.get("exit_code", 125)) from error
        if root is None:
            raise self._failed(step, parent, f"the command ended with exit code {code}", code)
        self._secrets += secrets
        return root

    def _failed(self, step: Step, parent: CommitId, what: str, code: int) -> EngineError:
        found = step.instruction
        return EngineError(
            f"Dockerfile, line {found.line}: {one_line(found.source, 200)}: {what}",
            line=found.line, commit=parent, exit_code=code,
            advice=f"everything before it is commit {parent[:_SHORT]}: `treering run -it {parent[:_SHORT]} sh`",
        )  # fmt: skip

    def _mount(self, step: Step, mount: RunMount, private: Path, stack: ExitStack) -> Mount | None:
        if mount.kind == "tmpfs":
            options = (f"size={mount.size}",) if mount.size else ()
            return Mount("tmpfs", mount.target, options=("exec", *options))
        if mount.kind == "cache":
            top = cache.directories(self._store)
            path = stack.enter_context(cache_directory(top, mount))
            return Mount("bind", mount.target, str(path), mount.read_only)
        if mount.kind == "secret":
            data = self._options.secrets.get(mount.id)
            return None if data is None else secret_mount(mount, data, private, len(list(private.iterdir())))
        path_in, _, root = self._bound(step, mount)
        lease = stack.enter_context(Service.ensure(self._store.path, opener=OPENER))
        return Mount("bind", mount.target, f"{lease.mountpoint}/trees/{root.hex()}{os.fsdecode(path_in)}", True)

    def _bound(self, step: Step, mount: RunMount) -> tuple[bytes, bytes, RootId]:
        """Where a bind mount's source is in its snapshot, the digest of what it is, and that snapshot's root."""
        snapshot = self._files(mount.origin)
        path = snapshot.resolve(os.fsencode(mount.source))
        entry = snapshot.find(path)
        if entry is None:
            raise step.instruction.error(f"{mount.source!r}, which is to be mounted, is not there")
        return path.rstrip(b"/"), self._digest(mount.origin, entry), snapshot.id


def check_secrets(stages: Sequence[Stage], secrets: Mapping[str, bytes]) -> None:
    """BadInput, with the line, if a RUN requires a secret that was not given."""
    for stage in stages:
        for step in stage.steps:
            for mount in step.work.mounts if isinstance(step.work, Run) else ():
                if mount.kind == "secret" and mount.required and mount.id not in secrets:
                    raise step.instruction.error(f"it requires the secret {mount.id!r}: give it with --secret")


def context_sources(stages: Sequence[Stage]) -> list[str]:
    """What of the context is wanted."""
    found: list[str] = []
    for stage in stages:
        for step in stage.steps:
            if isinstance(step.work, Copy) and step.work.origin == CONTEXT:
                found += step.work.sources
            elif isinstance(step.work, Run):
                found += [m.source for m in step.work.mounts if m.kind == "bind" and m.origin == CONTEXT]
    return found


def _empty_root(batch: Batch) -> RootId:
    return write_root(batch, Entry(b"", 0o40755, 0, 0, 0, write_tree(batch, [])))


def _file_entry(file: File, batch: Batch) -> Entry:
    return Entry(os.fsencode(file.name), 0o100644, 0, 0, time.time_ns(), put_data(batch, file.content))


def _owner(text: str, root: Snapshot) -> Owner:
    """--chown. A number without a group is its own group, as with Docker. EngineError if there is no such user."""

    def read(path: bytes) -> bytes | None:
        entry = root.find(root.resolve(path))
        return root.read(entry.content) if entry and isinstance(entry.content, (Data, Chunked)) else None

    if text.isascii() and text.isdigit():
        text = f"{text}:{text}"
    elif text.startswith(":"):
        text = f"0{text}"
    try:
        who = resolve_user(text, read)
    except EngineError as error:
        raise BadInput(f"--chown={text}: {error}") from None
    return who.uid, who.gid


__all__ = ["Build", "Built", "Options", "Reporter", "check_secrets", "context_sources", "resolve_base"]
