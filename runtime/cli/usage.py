"""du, and a store in numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from runtime.building.cache import BUILDS
from runtime.cli.invocation import Invocation, split_place
from runtime.cli.options import revision_argument, verb
from runtime.cli.output import count_text, size_text
from runtime.cli.quoting import quoted
from vcs.errors import BadInput, NotFound

if TYPE_CHECKING:
    from runtime.containers import Container
    from vcs.model import CommitId
    from vcs.usage import Claim, Sizes, Statistics, Usage

_CONTAINER = re.compile(r"(refs/(?:containers|removed)/[^/]+)/\d+")
_KINDS = {
    "refs/heads/": "branch", "refs/tags/": "tag", "refs/containers/": "container", "refs/removed/": "removed",
    "refs/stashes/": "stash", BUILDS: "cache",
}  # fmt: skip
_SORTS = ("name", "logical", "entries", "stored", "unique", "shared")
_SHORT_ID = 12
_BUILDS = "builds"
_OBJECTS = {"CHUNK": "chunk", "TREE": "tree", "LIST": "chunk list", "ROOT": "root"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line, before it is measured."""

    kind: str
    name: str
    claim: Claim
    logical: int
    entries: int
    upper: int | None = None
    """Bytes on the disk that a container has written since its last commit, in all its generations."""


@verb("du", data=True, namespaces="enter", past=True)
@revision_argument("names", nargs=-1, metavar="[NAME | REV | REV:PATH]...")
@click.option("--sort", type=click.Choice(_SORTS), help="Order by this, the largest (or first) on top.")
def du(invocation: Invocation, names: tuple[str, ...], sort: str | None) -> None:
    """Show what branches, tags, containers, commits and directories take.

    Without an argument, every branch, tag and container has a line, and so have, as one, the steps that builds find
    again. What the columns say:

    \b
    LOGICAL  bytes in the files of its newest commit, holes and each name of
             a hard-linked file counted
    ENTRIES  names in that commit
    STORED   compressed bytes of everything that it keeps
    UNIQUE   what nothing else keeps: what deleting it gives back, after gc
    SHARED   what is kept by something else too
    UPPER    what a container has written and not committed, on the disk

    A branch, tag or container keeps its commits, all their ancestors, and what its reflog remembers. Any other REV is
    one commit: unique to it is what no other commit has. REV:PATH is a directory or a file of a commit. The total
    counts what is shared once. Not counted are tables and git's own files: see `treering stats --store`.

    \b
    Example:
      treering du
      treering du --sort unique
      treering du main web main~3 main:/usr
    """
    from runtime.cli.collect import default_expiry
    from runtime.cli.progress import Progress
    from vcs.usage import Usage

    usage = Usage(invocation.store, default_expiry(), _group)
    rows = [_named(invocation, usage, name) for name in names] if names else _all(invocation, usage)
    with Progress("Measuring") as progress:
        measured, total = usage.measure([row.claim for row in rows], progress.update)
    lines = list(zip(rows, measured, strict=True))
    if sort:
        lines.sort(key=lambda line: _fields(*line)[sort], reverse=sort != "name")
    whole = (sum(row.logical for row in rows), sum(row.entries for row in rows))
    _write(invocation, lines, total, whole)


def _group(ref: str) -> str:
    """The refs of a container's generations are one name, and those of all cached steps of builds."""
    if ref.startswith(BUILDS):
        return BUILDS + _BUILDS
    match = _CONTAINER.fullmatch(ref)
    return match[1] if match else ref


# -- which rows


def _all(invocation: Invocation, usage: Usage) -> list[Row]:
    """A row for each branch, tag, container, and state that `rm` left; in this order. What was made since the usage
    was looked at has none."""
    containers = {container.id: container for container in invocation.containers.all()}
    known = set(usage.names)
    rows = []
    for prefix, kind in _KINDS.items():
        for name, commit in sorted(_tips(invocation, prefix).items()):
            if prefix + name not in known:
                continue
            if kind == "container" and name in containers:
                rows.append(_container_row(invocation, usage, containers[name]))
            else:
                rows.append(_ref_row(invocation, usage, kind, prefix + name, commit))
    return rows


def _tips(invocation: Invocation, prefix: str) -> dict[str, CommitId]:
    """The newest commit of each name below a prefix."""
    history = invocation.store.history
    refs = history.refs(prefix)
    if prefix == BUILDS and refs:
        return {_BUILDS: max(refs.values(), key=lambda commit: (history.info(commit).time, commit))}
    return {_group(prefix + ref).removeprefix(prefix): commit for ref, commit in refs.items()}


def _named(invocation: Invocation, usage: Usage, text: str) -> Row:
    """What an argument means: a branch or a tag before any other revision, and that before a container."""
    place = split_place(text)
    if place.path is not None:
        if not place.revision:
            raise BadInput(f"{text!r} has no revision in front of the colon: write REV:PATH", place=text)
        return _path_row(invocation, usage, text, invocation.commit(place.revision), place.path)
    history = invocation.store.history
    for prefix in ("refs/heads/", "refs/tags/"):
        if text in (refs := history.refs(prefix)):
            return _ref_row(invocation, usage, _KINDS[prefix], prefix + text, refs[text])
    try:
        commit = history.resolve(text)
    except NotFound:
        try:
            return _container_row(invocation, usage, invocation.containers.find(text))
        except NotFound:
            commit = invocation.commit(text)
    return Row("commit", text, usage.of_commit(commit), *_logical(invocation, commit))


def _ref_row(invocation: Invocation, usage: Usage, kind: str, ref: str, commit: CommitId) -> Row:
    prefix = next(prefix for prefix, known in _KINDS.items() if known == kind)
    name = ref.removeprefix(prefix)
    shown = name[:_SHORT_ID] if kind in ("container", "removed") else name
    return Row(kind, shown, usage.of_name(ref), *_logical(invocation, commit))


def _container_row(invocation: Invocation, usage: Usage, container: Container) -> Row:
    from vcs.usage import allocated

    head = invocation.states.head(container)
    generations = container.record.generations
    upper = sum(allocated(container.paths.upper(generation.number)) for generation in generations)
    claim = usage.of_name(_group(container.ref))
    return Row("container", container.name, claim, *_logical(invocation, head), upper)


def _path_row(invocation: Invocation, usage: Usage, text: str, commit: CommitId, path: bytes) -> Row:
    from vcs.model import Tree

    entry = invocation.store.snapshot_of(commit).lookup(path)
    content = entry.content
    sums = (content.size, content.entries) if isinstance(content, Tree) else (entry.size, 1)
    return Row("path", text, usage.of_path(commit, path), *sums)


def _logical(invocation: Invocation, commit: CommitId) -> tuple[int, int]:
    from vcs.usage import content_of

    content = content_of(invocation.store.snapshot_of(commit).root)
    return content.size, content.entries


# -- how they look


def _fields(row: Row, sizes: Sizes) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "name": row.name,
        "logical": row.logical,
        "entries": row.entries,
        "stored": sizes.stored,
        "unique": sizes.unique,
        "shared": sizes.shared,
        "upper": row.upper,
    }


def _write(invocation: Invocation, lines: Sequence[tuple[Row, Sizes]], total: Sizes, whole: tuple[int, int]) -> None:
    output = invocation.output
    uppers = [row.upper for row, _ in lines if row.upper is not None]
    summary = {
        "logical": whole[0],
        "entries": whole[1],
        "stored": total.stored,
        "unique": total.unique,
        "shared": total.shared,
        "upper": sum(uppers) if uppers else None,
    }
    if output.format == "json":
        output.value({"rows": [_fields(*line) for line in lines], "total": summary})
        return

    def table(lines: Iterable[tuple[Row, Sizes]]) -> None:
        titles = ["KIND", "LOGICAL", "ENTRIES", "STORED", "UNIQUE", "SHARED", *(["UPPER"] if uppers else []), "NAME"]
        found = [_cells(_fields(*line), bool(uppers)) for line in lines]
        total = _cells({"kind": "total", "name": "", **summary}, bool(uppers))
        output.columns(titles, [*found, total], numbers=titles[1:-1])

    output.rows(lines, lambda line: _fields(*line), table)


def _cells(fields: dict[str, Any], with_upper: bool) -> list[str]:
    sizes = [size_text(fields[column]) for column in ("stored", "unique", "shared")]
    upper = [] if fields["upper"] is None else [size_text(fields["upper"])]
    name = quoted(fields["name"].encode("utf-8", "surrogateescape"))
    return [
        fields["kind"], size_text(fields["logical"]), f"{fields['entries']:,}", *sizes,
        *(upper or [""] if with_upper else []), name,
    ]  # fmt: skip


def show_statistics(invocation: Invocation) -> None:
    """What `stats --store` prints."""
    from runtime.cli.collect import default_expiry
    from runtime.cli.progress import Progress
    from vcs.usage import statistics

    with Progress("Measuring") as progress:
        found = statistics(invocation.store, default_expiry(), progress.update)
    containers = len(invocation.containers.all())
    if not invocation.output.is_table:
        invocation.output.value(_statistics_fields(found, containers))
        return
    for title, text in _statistics_lines(found, containers):
        invocation.output.line(f"{title and title + ':':<13}{text}")


def _statistics_lines(found: Statistics, containers: int) -> Iterable[tuple[str, str]]:
    from vcs.sharing import Kind

    kinds = found.kinds
    yield "History", ", ".join(
        [count_text(found.commits, "commit"), count_text(found.branches, "branch", "branches"),
         count_text(found.tags, "tag"), count_text(containers, "container")]
    )  # fmt: skip
    if found.remembered:
        yield "", f"{count_text(found.remembered, 'more commit')} in reflogs"
    yield "Files", f"{size_text(found.logical)} in all commits"
    yield (
        "Layers",
        f"{found.layers:,}, {size_text(found.layer_bytes)}"
        + (
            f" (the smallest {size_text(found.smallest)}, the largest {size_text(found.largest)})"
            if found.layers
            else ""
        ),
    )
    for kind, name in _OBJECTS.items():
        size = kinds[Kind[kind]]
        yield (
            "Needed" if kind == "CHUNK" else "",
            (f"{count_text(size.objects, name)}, {size_text(size.raw)}, stored as {size_text(size.stored)}"),
        )
    yield "Garbage", f"{size_text(found.garbage)}, {_share(found.garbage, found.blocks)} of what is stored"
    yield "Compression", f"{found.compression:.2f}"
    yield "Sharing", f"{found.deduplication:.2f}"
    sizes = ((found.index_bytes, "the index"), (found.git_bytes, "git"), (found.cache_bytes, "caches"))
    yield "On the disk", ", ".join(f"{size_text(size)} in {what}" for size, what in sizes)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def _statistics_fields(found: Statistics, containers: int) -> dict[str, Any]:
    return {
        "layers": {
            "count": found.layers, "bytes": found.layer_bytes, "smallest": found.smallest, "largest": found.largest,
        },
        "objects": {kind.name.lower() + "s": asdict(size) for kind, size in found.kinds.items()},
        "needed": asdict(found.needed),
        "total": asdict(found.total),
        "garbage": found.garbage,
        "compression_ratio": found.compression,
        "dedupe_ratio": found.deduplication,
        "logical": found.logical,
        "commits": found.commits,
        "commits_in_reflogs": found.remembered,
        "branches": found.branches,
        "tags": found.tags,
        "containers": containers,
        "index_bytes": found.index_bytes,
        "git_bytes": found.git_bytes,
        "cache_bytes": found.cache_bytes,
    }  # fmt: skip


VERBS: dict[str, click.Command] = {"du": du}
