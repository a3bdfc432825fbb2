"""Commits -> an image: which layers it has, its history, its config and its manifest. Pure but for what it reads.

Layers and their lines of history go along first parents, the oldest first. A commit that changed no file has a line
without a layer (`empty_layer`).

    per-commit   a layer for each commit
    flat         one layer for all of it
    since REV    one layer for REV, and then one for each commit after it: images with the same REV share that layer

All that an image says comes from its commits, so the same commits are the same image, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

import msgspec

from runtime.commits import first_line
from runtime.imageconfig import machine_architecture
from runtime.images import model
from runtime.images.compression import Compression
from runtime.images.made import Made, descriptor
from runtime.images.model import Descriptor, Index, Manifest, Platform
from vcs.errors import BadInput
from vcs.gitwords import trailers
from vcs.madelayers import MadeLayer, Sides
from vcs.model import CommitId, RootId, Tree
from vcs.progress import Progress
from vcs.snapshot import CommitInfo
from vcs.store import Store


@dataclass(frozen=True, slots=True)
class PerCommit:
    """A layer for each commit."""


@dataclass(frozen=True, slots=True)
class Flat:
    """One layer."""


@dataclass(frozen=True, slots=True)
class Since:
    """One layer for a commit, and one for each after it."""

    commit: CommitId


_LAYER, _IMAGE = "Layer", "Image"
"""Trailers of commits that were made of an image: of a step with a layer, and of the last one."""
_TIME_MAX = 253402300799
Layers = PerCommit | Flat | Since


@dataclass(frozen=True, slots=True)
class Step:
    """A line of an image's history: from one root to the next, by a commit."""

    old: RootId | None
    commit: CommitInfo
    is_empty: bool
    """It has no layer, since it changed no file."""


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image whose blobs are all there."""

    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    """Of the layers before they were compressed."""
    platform: Platform


@dataclass(frozen=True, slots=True)
class Composed:
    """What is saved: an image; or an index of several, each for a platform of its own."""

    top: Descriptor
    """The image's manifest, or the index."""
    images: tuple[MadeImage, ...]


Working = Callable[[int, int], Progress]
"""Called when a layer is looked for (its number from 1, and of how many); returns what is told while it is made."""


def steps_of(store: Store, commit: CommitId, layers: Layers) -> list[Step]:
    """The lines of a commit's image. BadInput if it does not come from the commit that it is to be since."""
    steps: list[Step] = []
    root: RootId | None = None
    for info in [store.commit(commit)] if isinstance(layers, Flat) else _chain(store, commit, layers):
        # Images begin with steps that make no file, such as LABEL: there is no layer below the first.
        is_empty = info.root == root if root else not _has_files(store, info.root)
        steps.append(Step(root, info, is_empty))
        root = root if is_empty else info.root
    return steps


def _chain(store: Store, commit: CommitId, layers: PerCommit | Since) -> list[CommitInfo]:
    """The commit and its first parents, the oldest first."""
    chain: list[CommitInfo] = []
    todo: CommitId | None = commit
    while todo is not None:
        chain.append(store.commit(todo))
        if isinstance(layers, Since) and todo == layers.commit:
            break
        todo = chain[-1].parents[0] if chain[-1].parents else None
    else:
        if isinstance(layers, Since):
            raise BadInput(
                f"commit {layers.commit[:12]} is not among the first parents of {commit[:12]}", since=layers.commit
            )
    return chain[::-1]


def _has_files(store: Store, root: RootId) -> bool:
    content = store.snapshot(root).root.content
    return isinstance(content, Tree) and content.entries > 0


def compose(store: Store, made: Made, steps: Sequence[Step], compression: Compression, working: Working) -> MadeImage:
    """Make what an image needs and is not there yet. BadInput, with the path, for a name that no layer can hold."""
    full = [step for step in steps if not step.is_empty]
    layers: list[MadeLayer] = []
    for number, step in enumerate(full, 1):
        sides = Sides(step.old, step.commit.root, compression)
        layers.append(made.layer(sides, compression, working(number, len(full))))
    diff_ids = tuple(layer.diff_id for layer in layers)
    tip = steps[-1].commit
    first = store.history.config(steps[0].commit.id)
    config = model.encoded(config_document(store.history.config(tip.id), first, steps, diff_ids))
    named = made.put(config, model.CONFIG)
    descriptors = tuple(descriptor(layer, compression) for layer in layers)
    manifest = model.encoded(Manifest(named, descriptors, annotations=origin(tip)))
    return MadeImage(made.put(manifest, model.MANIFEST), named, descriptors, diff_ids, _platform(config))


def together(made: Made, images: Sequence[MadeImage]) -> Composed:
    """One image, or several as an index. BadInput if two are for the same platform."""
    if len(images) == 1:
        return Composed(images[0].manifest, tuple(images))
    twice = [platform for platform, count in Counter(str(image.platform) for image in images).items() if count > 1]
    if twice:
        raise BadInput(f"an image holds one for each platform, and there are several for {twice[0]}", platform=twice[0])
    manifests = tuple(msgspec.structs.replace(image.manifest, platform=image.platform) for image in images)
    return Composed(made.put(model.encoded(Index(manifests)), model.INDEX), tuple(images))


def _platform(config: bytes) -> Platform:
    return model.config_of(config, "the commit's config")[0].platform


def config_document(
    config: dict[str, Any], first: dict[str, Any], steps: Sequence[Step], diff_ids: Sequence[str]
) -> dict[str, Any]:
    """An image's config, from the last commit's; `first` is that of the first one, whose own history goes before."""
    lines = [*inherited(first, steps[0].commit), *(history_line(step) for step in steps)]
    tip = steps[-1].commit
    defaults = {"architecture": machine_architecture(), "os": "linux"}
    own = {"created": moment(tip), "author": who(tip), "rootfs": {"type": "layers", "diff_ids": [*diff_ids]}}
    return {**defaults, **config, **own, "history": lines}


def inherited(config: dict[str, Any], info: CommitInfo) -> list[dict[str, Any]]:
    """The history of an image that a first commit comes from. Its layers are one now, the commit's own; and if the
    commit is a step of that image, the last line is its own too."""
    lines = config.get("history")
    if not isinstance(lines, list):
        return []
    if _LAYER in dict(trailers(info.message)):
        lines = lines[:-1]
    return [{**line, "empty_layer": True} for line in lines if isinstance(line, dict)]


def history_line(step: Step) -> dict[str, Any]:
    """What a commit is in an image's history: by its command if it tells one, else by its title."""
    info = step.commit
    title = first_line(info.message)
    said = dict(trailers(info.message))
    line: dict[str, Any] = {"created": moment(info), "author": who(info)}
    if "Command" in said:
        line |= {"created_by": said["Command"], "comment": title}
    else:
        line["created_by"] = instruction(info.message) if said.keys() & {_LAYER, _IMAGE} else title
    return {**line, "empty_layer": True} if step.is_empty else line


def instruction(message: str) -> str:
    r"""A title; or what stands below it in full, indented, if it was too long for one.

    >>> instruction("RUN make...\n\n    RUN make all\n    make install\n\nLayer: sha256:1")
    'RUN make all\nmake install'
    """
    paragraphs = message.strip().split("\n\n")
    indent = " " * 4
    full = "\n\n".join(takewhile(lambda paragraph: paragraph.startswith(indent), paragraphs[1:]))
    return "\n".join(line.removeprefix(indent) for line in full.split("\n")) or paragraphs[0]


def origin(info: CommitInfo) -> dict[str, str]:
    """Where an image comes from."""
    return {
        "org.opencontainers.image.created": moment(info),
        "org.opencontainers.image.revision": info.id,
        "org.treering.commit": info.id,
        "org.treering.root": f"blake3:{info.root.hex()}",
    }


def moment(info: CommitInfo) -> str:
    """A commit's time as RFC 3339 has it, which ends with the year 9999."""
    return datetime.fromtimestamp(min(max(info.time, 0), _TIME_MAX), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def who(info: CommitInfo) -> str:
    """A commit's author."""
    return f"{info.author} <{info.email}>"
