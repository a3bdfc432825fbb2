"""Images: a large archive of `docker save` taken in, next to `podman load`; an image pulled and run, next to podman."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.apart import in_namespace
from benchmarks.corpora import made_once
from benchmarks.measure import Run, in_turns, median, run, settle
from benchmarks.peers.commands import Commands, PodmanCommands
from benchmarks.peers.images import Podman
from benchmarks.peers.peer import Peer
from benchmarks.peers.registry import PROGRAM, registry
from benchmarks.peers.treering import Treering, treering
from benchmarks.report import Section
from benchmarks.setting import OURS, Setting

_TIME_LIMIT = 0.6
_MEMORY_LIMIT = 300e6
_PULL_LIMIT = 0.7
_LAYERS = (("--exclude=./usr/lib", "--exclude=./usr/share", "."), ("./usr/lib",), ("./usr/share",))
"""What tar is told for each layer of the image that is pulled."""


class _Importing(Treering):
    def load(self, place: Path, archive: Path) -> Run:
        return treering(place, "import", archive, "--branch", "image")


class _Loading(Podman):
    note = "podman load unpacks the archive's layer into an overlay's directory."

    def load(self, place: Path, archive: Path) -> Run:
        return self.durable(place, self.command(place, "load", "--quiet", "--input", archive))


def images(setting: Setting) -> list[Section]:
    """Two tables."""
    return [_loaded(setting), _pulled(setting)]


def _loaded(setting: Setting) -> Section:
    archive = made_once(setting.place("image.tar"), lambda place: _archive(place, setting.debian(), [(".",)]))
    section = Section("An archive of docker save")
    section.note(
        f"The Debian root as an image of one layer, {archive.stat().st_size / 1e6:,.0f} MB, in the page cache; "
        f"{setting.rounds} rounds, medians, all on the disk when the clock stops. *Again* is the same archive again."
    )
    peers = setting.there(section, [_Importing(), _Loading()])

    def take(peer: Peer, number: int) -> tuple[Run, Run]:
        assert isinstance(peer, _Importing | _Loading)
        place = setting.repository(peer, f"image-{number}")
        run(["sync"])
        run(["sh", "-c", 'cat "$1" >/dev/null', "sh", archive])
        return peer.load(place, archive), peer.load(place, archive)

    taken = setting.trials(section, peers, setting.rounds, take)
    setting.tidy()
    first = {name: median(one.seconds for one, _ in runs) for name, runs in taken.items()}
    for name, runs in taken.items():
        section.put(name, "seconds", first[name], "s")
        section.put(name, "CPU", median(one.cpu_seconds for one, _ in runs), "s")
        section.put(name, "memory", max(one.peak_bytes for one, _ in runs), "MB")
        section.put(name, "again", median(one.seconds for _, one in runs), "s")
    if OURS in taken:
        memory = max(one.peak_bytes for one, _ in taken[OURS])
        section.claim("15", "import of an image, peak memory", memory, _MEMORY_LIMIT, "MB")
        if Podman.name in first:
            ratio = first[OURS] / first[Podman.name]
            section.claim("15", "import of an image, of podman load's time", ratio, _TIME_LIMIT)
    return section


def _pulled(setting: Setting) -> Section:
    section = Section("An image pulled and run")
    missing = [program for program in (PROGRAM, "skopeo") if not shutil.which(program)]
    if missing:
        section.note(f"Left out: {', '.join(missing)} is not installed.")
        return section
    archive = made_once(setting.place("layers.tar"), lambda place: _archive(place, setting.debian(), _LAYERS))
    found = in_namespace(lambda: _pull_in_turns(setting, archive))
    seconds = {name: [pull + start for pull, start, _ in taken] for name, taken in found.items()}
    for name, taken in found.items():
        section.put(name, "pull", median(pull for pull, _, _ in taken), "s")
        section.put(name, "run", median(start for _, start, _ in taken), "s")
        section.put(name, "together", median(seconds[name]), "s")
        section.put(name, "and on the disk", median(map(sum, taken)), "s")
    if Podman.name in found:
        ratio = median(seconds[OURS]) / median(seconds[Podman.name])
        section.claim("15", "pull and run of an image, of podman's time", ratio, _PULL_LIMIT)
    else:
        section.note("podman is left out: it is not installed.")
    section.note(
        f"The Debian root as an image of {len(_LAYERS)} layers, gzip, from a registry on loopback; `run --rm true`. "
        f"Each time into a store that is new; no fork server. {setting.rounds} rounds, in turns, medians. "
        "What treering has pulled is on the disk; podman leaves that to the kernel, hence the last column."
    )
    return section


def _pull_in_turns(setting: Setting, archive: Path) -> dict[str, list[tuple[float, float, float]]]:
    """Seconds of the pull, of the run, and of a sync after both."""
    with (
        tempfile.TemporaryDirectory(prefix="treering-pulls-") as directory,
        registry(setting.place("registry")) as address,
    ):
        image = f"{address}/debian:1"
        run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://{image}"])
        work = {OURS: partial(_pull_ours, setting, image)}
        if shutil.which("podman"):
            work[Podman.name] = partial(_pull_podman, setting, image, Path(directory))
        return in_turns(setting.rounds, work)


def _pull_ours(setting: Setting, image: str, number: int) -> tuple[float, float, float]:
    store = setting.place(f"pulled-{number}")
    tool = Commands(store, None)
    tool.run("init")
    settle()
    try:
        pull = tool.run("pull", image, "--tls-verify=false", "--branch", "image")
        start = tool.run("run", "--rm", "--network", "none", "image", "true")
        return pull, start, run(["sync", "-f", store]).seconds
    finally:
        tool.finish()


def _pull_podman(setting: Setting, image: str, running: Path, number: int) -> tuple[float, float, float]:
    store = setting.place(f"pulled-podman-{number}")
    tool = PodmanCommands(store, running / str(number))
    settle()
    try:
        pull = tool.run("pull", "--quiet", "--tls-verify=false", image)
        start = tool.run("run", "--rm", *tool.new, image, "true")
        return pull, start, run(["sync", "-f", store]).seconds
    finally:
        tool.finish()


def _archive(place: Path, source: Path, layers: Sequence[Sequence[str]]) -> None:
    """An archive of an image, whose layers have what tar takes of the source."""
    files = [_layer(place.with_suffix(f".{number}"), source, words) for number, words in enumerate(layers)]
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for _, digest in files]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "ADD debian /"} for _ in files],
        }
    )
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    members = [f"{digest}.tar" for _, digest in files]
    manifest = _json([{"Config": name, "RepoTags": ["localhost/debian:1"], "Layers": members}])
    with tarfile.open(place, "w") as archive:
        for (layer, _), member in zip(files, members, strict=True):
            archive.add(layer, member)
            layer.unlink()
        for path, data in ((name, config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def _layer(place: Path, source: Path, words: Sequence[str]) -> tuple[Path, str]:
    """A tar of some of the source, and its digest."""
    run(["tar", "--format=posix", "--xattrs", "--xattrs-include=*", "-C", source, "-cf", place, *words])
    with place.open("rb") as file:
        return place, hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
