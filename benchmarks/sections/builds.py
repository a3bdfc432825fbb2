"""A Dockerfile built again though nothing has changed, next to buildah with its layers kept."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.apart import in_namespace
from benchmarks.measure import in_turns, median, run
from benchmarks.peers.commands import Commands
from benchmarks.report import Section
from benchmarks.setting import OURS, Setting

_FILES, _QUICK = 2_000, 50
_ROUNDS, _QUICK_ROUNDS = 9, 3
_LIMIT = 0.2
_AGAIN = "built again, nothing changed"
_DOCKERFILE = """\
FROM main AS build
ENV LANG=C.UTF-8 MODE=release
WORKDIR /src
COPY src/ .
RUN find . -type f | wc -l > /count
RUN mkdir /out && cp /count /out/

FROM main
LABEL kind=benchmark
WORKDIR /app
COPY src/0 ./
COPY --from=build /out/ ./
RUN cat count > again
USER 1000
CMD ["cat", "again"]
"""


def builds(setting: Setting) -> list[Section]:
    """One table."""
    section = Section("A Dockerfile built again", "what")
    count = _QUICK if setting.quick else _FILES
    found = in_namespace(lambda: _measure(setting, count))
    for name, seconds in found.items():
        section.put(_AGAIN, name, median(seconds) * 1e3, "ms")
    if "buildah" in found:
        ratio = median(found[OURS]) / median(found["buildah"])
        section.claim("7", f"{_AGAIN}, of buildah's time", ratio, _LIMIT)
    else:
        section.note("buildah is left out: it is not installed.")
    section.note(
        f"Two stages, eleven instructions, {count:,} files in the context, a Debian root to begin with; "
        "`buildah bud --layers`, with its own storage on an overlay. The whole command, medians, in turns."
    )
    return [section]


def _measure(setting: Setting, count: int) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory(prefix="treering-builds-") as directory:
        context = _context(setting.place("builds-context"), count)
        server = Path(directory, "server")
        server.mkdir(mode=0o700)
        tools = {
            OURS: Commands(setting.place("builds"), server),
            "treering, no server": Commands(setting.place("builds"), None),
        }
        ours = tools[OURS]
        ours.run("init")
        ours.run("import", setting.debian(), "-b", "main", "-m", "base")
        work: dict[str, Callable[[int], float]] = {name: partial(_build, tool, context) for name, tool in tools.items()}
        buildah = _Buildah(setting.place("builds-buildah"), Path(directory)) if shutil.which("buildah") else None
        try:
            if buildah:
                buildah.prepare(setting.debian())
                work["buildah"] = partial(buildah.build, context)
            for first in work.values():
                first(0)
            return in_turns(_QUICK_ROUNDS if setting.quick else _ROUNDS, work)
        finally:
            ours.finish()
            if buildah:
                buildah.finish()


def _build(tool: Commands, context: Path, _: int) -> float:
    return tool.run("build", "-t", "app", context)


def _context(top: Path, count: int) -> Path:
    for number in range(count):
        path = top / "src" / str(number // 100) / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * (number % 50))
    (top / "Dockerfile").write_text(_DOCKERFILE)
    return top


class _Buildah:
    """buildah with a storage of its own."""

    def __init__(self, storage: Path, running: Path) -> None:
        self._options = ["buildah", "--root", str(storage), "--runroot", str(running / "buildah")]

    def run(self, *words: str | Path) -> float:
        return run([*self._options, *words], {"BUILDAH_ISOLATION": "chroot"}).seconds

    def prepare(self, root: Path) -> None:
        container = self._said("from", "scratch")
        mounted = self._said("mount", container)
        subprocess.run(["cp", "-a", f"{root}/.", mounted], check=True, timeout=600)
        self._said("umount", container)
        self._said("commit", "--rm", container, "main")

    def build(self, context: Path, _: int) -> float:
        return self.run("bud", "--layers", "--pull-never", "-t", "app", context)

    def finish(self) -> None:
        subprocess.run([*self._options, "rm", "--all"], capture_output=True, check=False, timeout=600)
        subprocess.run([*self._options, "rmi", "--all", "--force"], capture_output=True, check=False, timeout=600)

    def _said(self, *words: str) -> str:
        done = subprocess.run([*self._options, *words], capture_output=True, text=True, check=True, timeout=600)
        return done.stdout.strip()
