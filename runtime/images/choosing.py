"""Which image of several: by name, and by platform."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from runtime.imageconfig import machine_architecture
from runtime.images import model
from runtime.images.layout import TAG, Layout
from runtime.images.model import Descriptor, Index, Platform
from vcs.errors import BadInput, NotFound

_NAMES = ("io.containerd.image.name", TAG)
"""Annotations that name an image in index.json: Docker's has all of the name where the other has the tag."""
_DEPTH_MAX = 8
_INDEXES_MAX = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """A platform that is asked for, or the machine's."""

    platform: Platform

    def fits(self, found: Platform) -> bool:
        """Whether an image for a platform will do. What is not said fits all."""
        asked = self.platform
        return (
            found.os in ("", asked.os)
            and found.architecture in ("", asked.architecture)
            and (not asked.variant or found.variant in ("", asked.variant))
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user said."""

    name: str | None = None
    """NAME:TAG."""
    platform: Wanted | None = None
    all_platforms: bool = False
    """One image for each platform."""

    def is_called(self, name: str) -> bool:
        """Whether an image of this name is meant: also by its last part, and `latest` need not be said."""
        asked = self.name or ""
        names = (asked, f"{asked}:latest")
        return name in names or any(name.endswith(f"/{one}") for one in names)


def platform_of(text: str) -> Wanted:
    """OS/ARCH[/VARIANT] -> a platform. BadInput.

    >>> str(platform_of("linux/arm/v7").platform)
    'linux/arm/v7'
    """
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise BadInput(f"{text!r} is no platform: write one such as linux/amd64 or linux/arm/v7", platform=text)
    return Wanted(Platform(parts[1], parts[0], parts[2] if len(parts) == 3 else ""))


def branch_for(branch: str, platform: Platform) -> str:
    """The branch of one of several platforms' images.

    >>> branch_for("app", Platform("arm", "linux", "v7"))
    'app-arm-v7'
    """
    return "-".join(filter(None, (branch, platform.architecture, platform.variant)))


def usable(platforms: Iterable[Platform]) -> list[Platform]:
    """Those that containers here can be made of, each once. NotFound if there is none."""
    found = list(dict.fromkeys(platforms))
    fit = [one for one in found if one.os in ("", "linux")]
    if not fit:
        known = ", ".join(sorted(map(str, found))) or "none at all"
        raise NotFound(f"there is no image for linux, but for {known}")
    return fit


def machine() -> Wanted:
    """The platform of this machine."""
    return Wanted(Platform(machine_architecture(), "linux"))


def chosen(layout: Layout, wish: Wish) -> tuple[list[Descriptor], str]:
    """The manifest of a layout that is wished for, or those of all platforms, and what it is called. NotFound or
    BadInput if it is not one."""
    found = layout.index.manifests
    names = sorted({name for one in found if (name := _name(one))})
    if wish.name is not None:
        found = tuple(one for one in found if _is_called(one, wish))
        if not found:
            raise NotFound(f"no image {wish.name!r} in the layout: it has {', '.join(names) or 'none with a name'}")
    elif len(names) > 1:
        raise BadInput(f"the layout has {len(names)} images: choose one with --image: {', '.join(names)}", images=names)
    if not found:
        raise BadInput("the layout has no image")
    there = list(_manifests(layout, found))
    if not wish.all_platforms:
        return [for_platform(there, wish, layout)], _name(found[0])
    known = {one.platform or _told(layout, one): one for one in reversed(there)}
    return [known[platform] for platform in usable(reversed(known))], _name(found[0])


def for_platform(found: Sequence[Descriptor], wish: Wish, layout: Layout | None = None) -> Descriptor:
    """Of some manifests, the one for the platform that is wished for: the machine's if none is, or the only one."""
    if len(found) == 1 and wish.platform is None:
        return found[0]
    wanted = wish.platform or machine()
    known = [(one, one.platform or _told(layout, one)) for one in found]
    fit = [(one, platform) for one, platform in known if wanted.fits(platform)]
    if not fit:
        raise without_default(wish, [platform for _, platform in known])
    return min(fit, key=lambda pair: pair[1].variant != wanted.platform.variant)[0]


def without_default(wish: Wish, there: Sequence[Platform]) -> NotFound:
    """That there is no image for a platform."""
    asked = (wish.platform or machine()).platform
    known = ", ".join(sorted({str(one) for one in there})) or "none at all"
    return NotFound(f"there is no image for {asked}, but for {known}: choose with --platform", platform=str(asked))


def _manifests(layout: Layout, found: Sequence[Descriptor]) -> Iterator[Descriptor]:
    """The manifests that descriptors lead to, through indexes of indexes. Those that merely tell of others are not."""
    stack = [(one, 0) for one in reversed(found)]
    indexes = 0
    while stack:
        one, depth = stack.pop()
        name = f"index {one.digest}"
        if one.media_type in model.MANIFESTS:
            if not (one.platform and one.platform.os == "unknown"):
                yield one
            continue
        if one.media_type not in model.INDEXES:
            raise BadInput(f"the image names a {one.media_type!r}, which is no image", digest=one.digest)
        indexes += 1
        if depth >= _DEPTH_MAX or indexes > _INDEXES_MAX:
            raise BadInput(f"{name} lies too deep in other indexes", digest=one.digest)
        index = model.manifest_or_index(layout.document(one), name)
        if not isinstance(index, Index):
            raise BadInput(f"{name} is a manifest", digest=one.digest)
        stack.extend((below, depth + 1) for below in reversed(index.manifests))


def _told(layout: Layout | None, one: Descriptor) -> Platform:
    """What an image's own config says of its platform."""
    if layout is None:
        return Platform()
    manifest = model.manifest_or_index(layout.document(one), f"manifest {one.digest}")
    if isinstance(manifest, Index):
        return Platform()
    name = f"config {manifest.config.digest}"
    return model.config_of(layout.document(manifest.config), name)[0].platform


def _name(one: Descriptor) -> str:
    return next((one.annotations[key] for key in _NAMES if one.annotations.get(key)), "")


def _is_called(one: Descriptor, wish: Wish) -> bool:
    return any(wish.is_called(one.annotations.get(key, "")) for key in _NAMES)
