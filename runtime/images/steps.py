"""The history of an image -> the commits that it becomes: a message, an author and a config for each step. Pure.

Each line of the history is a commit, also one that made no layer (`ENV`, `CMD`): so `log` shows the Dockerfile's steps.
What a commit says comes from the lines up to it alone. So images that begin with the same steps share their commits,
and the same image gives the same commits wherever it is read.

    title, body     the line, as the Dockerfile had it; what is longer than a title stands below it in full
    Layer:          the digest of its layer, uncompressed
    Image:          at the last: the image's id, the digest of its config
    config.json     what the lines that configure made of it so far; at the last, all of the image's config
    author, time    those of the line; a time never goes back, since git's commits do not
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from runtime.imagechange import image_change
from runtime.images.image import Image
from runtime.images.model import History
from vcs.errors import BadInput
from vcs.gitwords import Author

_TITLE_MAX = 72
_BODY_MAX = 16 << 10
_TIME_MAX = 1 << 33
_NOBODY = "image"
"""The author of what says none."""
_SHELL = r"(?:/bin/(?:ba|da)?sh|/bin/ash|/busybox/sh) -[a-z]*c "
_NOP = re.compile(rf"(?:{_SHELL})?#\(nop\)\s*", re.DOTALL)
_RUN = re.compile(rf"(?:RUN\s+)?(?:\|(?P<count>\d+) (?P<args>.*?)\s?)?{_SHELL}(?P<rest>.*)", re.DOTALL)
_BUILDKIT = "# buildkit"
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), 127))
_PERSON = re.compile(r"\s*(.*?)\s*<([^<>]*)>\s*", re.DOTALL)
_SECOND_PARTS = re.compile(r"\.\d+")


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes a commit."""

    layer: int | None
    """The number of the layer that it adds; None if it changes no file."""
    message: str
    author: Author
    config: dict[str, Any] = field(hash=False)


def steps_of(image: Image) -> tuple[Step, ...]:
    """The commits of an image, the first first; one at least."""
    lines = tuple(image.config.history or ())
    if sum(not line.empty_layer for line in lines) != len(image.layers):
        lines = tuple(History() for _ in image.layers)  # it does not tell of these layers
    lines = lines or (History(empty_layer=True),)
    return tuple(_steps(image, lines))


def flat_step(image: Image) -> Step:
    """All of an image as one commit."""
    last = steps_of(image)[-1]
    title = f"Image {image.name}" if image.name else "Image"
    return Step(
        len(image.layers) - 1 if image.layers else None,
        _message(title, {"Image": image.id}),
        last.author,
        image.document,
    )


def _steps(image: Image, lines: Sequence[History]) -> Iterator[Step]:
    config: dict[str, Any] = {
        name: image.document[name] for name in ("architecture", "os", "variant") if name in image.document
    }
    time = 0
    layer = 0
    for number, line in enumerate(lines, 1):
        is_last = number == len(lines)
        text = instruction(line) or ("Image" if line.empty_layer else f"Layer {layer + 1}")
        config = image.document if is_last else _changed(config, text)
        time = max(time, _time(line.created or (image.config.created if is_last else None)))
        trailers = {} if line.empty_layer else {"Layer": image.layers[layer].diff_id}
        if is_last:
            trailers["Image"] = image.id
        author = _author(line.author or (image.config.author if is_last else None), time)
        yield Step(None if line.empty_layer else layer, _message(text, trailers), author, config)
        layer += not line.empty_layer


def instruction(line: History) -> str:
    r"""A line of a history as the Dockerfile had it; its comment, if it tells nothing.

    >>> instruction(History(created_by='/bin/sh -c #(nop)  CMD ["bash"]'))
    'CMD ["bash"]'
    >>> instruction(History(created_by="RUN /bin/sh -c apt-get update # buildkit"))
    'RUN apt-get update'
    >>> instruction(History(created_by="|1 VERSION=2 /bin/sh -c make $VERSION"))
    'RUN make $VERSION'
    """
    text = (line.created_by or "").translate(_CONTROLS).strip()
    if not text:
        return (line.comment or "").translate(_CONTROLS).strip()[:_BODY_MAX]
    if found := _NOP.match(text):
        text = text[found.end() :]
    elif found := _RUN.fullmatch(text):
        text = f"RUN {found['rest']}"
    text = text.rstrip().removesuffix(_BUILDKIT).strip()
    return text if len(text) <= _BODY_MAX else text[:_BODY_MAX] + " ..."


def _message(text: str, trailers: dict[str, str]) -> str:
    words = " ".join(text.split()) or "Layer"
    title = words if len(words) <= _TITLE_MAX else words[: _TITLE_MAX - 3].rstrip() + "..."
    paragraphs = [title]
    if title != text:
        paragraphs.append("\n".join(f"    {line}".rstrip() for line in text.split("\n")))
    if trailers:
        paragraphs.append("\n".join(f"{name}: {value}" for name, value in trailers.items()))
    return "\n\n".join(paragraphs) + "\n"


def _changed(config: dict[str, Any], text: str) -> dict[str, Any]:
    """A config as a line of a Dockerfile leaves it; the same if it is none that configures, or is not understood."""
    try:
        return image_change([text])(config)
    except BadInput:
        return config


def _author(text: str | None, time: int) -> Author:
    words = " ".join((text or "").translate(_CONTROLS).split())[:200]
    if found := _PERSON.fullmatch(words):
        return Author(found[1] or _NOBODY, found[2] or _NOBODY, time)
    return Author(words or _NOBODY, _NOBODY, time)


def _time(text: str | None) -> int:
    """Seconds since 1970 of a time as RFC 3339 has it; 0 for none that makes sense."""
    try:
        found = datetime.fromisoformat(_SECOND_PARTS.sub("", text or "").upper())
        seconds = int(found.timestamp()) if found.tzinfo else 0
    except (ValueError, OverflowError, OSError):
        return 0
    return seconds if 0 <= seconds < _TIME_MAX else 0
