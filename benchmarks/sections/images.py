"""A large archive of `docker save` taken in: time and memory, next to `podman load`; and the same archive again."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from benchmarks.corpora import made_once
from benchmarks.measure import Run, median, run
from benchmarks.peers.images import Podman
from benchmarks.peers.peer import Peer
from benchmarks.peers.treering import Treering, treering
from benchmarks.report import Section
from benchmarks.setting import OURS, Setting

_TIME_LIMIT = 0.6
_MEMORY_LIMIT = 300e6


class _Importing(Treering):
    def load(self, place: Path, archive: Path) -> Run:
        return treering(place, "import", archive, "--branch", "image")


class _Loading(Podman):
    note = "podman load unpacks the archive's layer into an overlay's directory."

    def load(self, place: Path, archive: Path) -> Run:
        return self.durable(place, self.command(place, "load", "--quiet", "--input", archive))


def images(setting: Setting) -> list[Section]:
    """One table."""
    archive = made_once(setting.place("image.tar"), lambda place: _archive(place, setting.debian()))
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
    return [section]


def _archive(place: Path, source: Path) -> None:
    """An archive of an image with one layer."""
    layer = place.with_suffix(".layer")
    run(["tar", "--format=posix", "--xattrs", "--xattrs-include=*", "-C", source, "-cf", layer, "."])
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "ADD debian /"}],
        }
    )
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = _json([{"Config": name, "RepoTags": ["localhost/debian:1"], "Layers": [f"{digest}.tar"]}])
    with tarfile.open(place, "w") as archive:
        archive.add(layer, f"{digest}.tar")
        for path, data in ((name, config), ("manifest.json", manifest)):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    layer.unlink()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
