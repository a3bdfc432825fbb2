"""Dockerfiles as people write them, built by us and by buildah: the same trees, times aside."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from resource import RLIMIT_NOFILE, RLIMIT_NPROC, getrlimit

import pytest

from tests.cli.conftest import Cli, remove_containers
from tests.support.compare import describe
from tests.support.debian_root import make_deb, make_debian_root, make_repository, make_tar, make_wheel

_SECONDS = 240
_LIMIT = 4096
"""Processes, and open files: fewer than a machine allows, and enough."""
# What the builders mount and mount over, and logs and caches in which times are.
_THEIRS = re.compile(
    rb"(etc/(hosts|hostname|resolv\.conf|mtab)|(proc|sys|dev|run)(/.*)?|var/log/.*|var/cache/apt/.*|var/lib/apt/.*"
    rb"|var/cache/ldconfig.*|etc/ld\.so\.cache|.*/__pycache__.*|var/lib/dpkg/lock.*|var/lib/dpkg/.*-old)"
)


@dataclass
class Case:
    """A context and how it is built. `for_buildah`: what its old parser is given instead."""

    dockerfile: str
    files: dict[str, str] = field(default_factory=dict)
    make: Callable[[Path], object] = lambda _: None
    options: tuple[str, ...] = ()
    for_buildah: str | None = None


def _links(top: Path) -> None:
    (top / "tree/deep/er").mkdir(parents=True)
    (top / "tree/deep/er/file").write_text("x\n")
    (top / "tree/deep/program").write_text("#!/bin/sh\n")
    (top / "tree/deep/program").chmod(0o751)
    os.link(top / "tree/deep/er/file", top / "tree/again")
    (top / "tree/link").symlink_to("deep/er")
    (top / "tree/dangling").symlink_to("/nowhere")
    (top / "to-file").symlink_to("tree/deep/program")
    (top / "tree/empty").mkdir(mode=0o700)


def _packages(top: Path) -> None:
    first = make_deb(top, "first", {"usr/share/first/text": "1\n", "etc/first.conf": "a=1\n"})
    second = make_deb(
        top, "second", {"usr/bin/second": "#!/bin/sh\necho 2\n"}, depends="first",
        script="#!/bin/sh\nset -e\necho configured > /var/lib/second.state\n",
    )  # fmt: skip
    make_repository(top, [first, second])


CASES = {
    "shell and exec forms": Case(
        """
        FROM base
        ENV GREETING="hello world" NAME=ana
        ENV OLD style value
        WORKDIR /srv/app
        WORKDIR data
        RUN echo "$GREETING $NAME $OLD" > one && \\
            # a comment in between
            pwd > two
        RUN ["/bin/sh", "-c", "echo exec > three; chmod 4711 three"]
        USER ana
        RUN id > /tmp/id; umask > /tmp/umask; echo "$HOME" > /tmp/home
        USER 7:8
        RUN id -u > /tmp/number
        """
    ),
    "stages": Case(
        """
        FROM base AS build
        RUN mkdir -p /out/bin /out/lib && echo prog > /out/bin/prog && chown 3:4 /out/lib && chmod 2755 /out/lib
        RUN ln /out/bin/prog /out/bin/same && ln -s prog /out/bin/link
        FROM build AS test
        RUN false
        FROM base
        COPY --from=build /out/ /usr/local/
        COPY --from=0 /out/bin/prog /usr/local/bin/renamed
        COPY --from=base /etc/passwd /etc/their-passwd
        RUN cat /usr/local/bin/link > /linked
        """
    ),
    "a target": Case(
        """
        FROM base AS one
        RUN echo 1 > /one
        FROM one AS two
        RUN echo 2 > /two
        FROM two
        RUN false
        """,
        options=("--target", "two"),
    ),
    "arguments": Case(
        """
        ARG BASE=base
        ARG VERSION=1
        FROM ${BASE} AS x
        ARG VERSION
        ARG OTHER=${VERSION:-none}-x
        ARG GIVEN=default
        ENV KEPT=${GIVEN:+yes} LOST=${MISSING:-gone}
        RUN echo "$VERSION $OTHER $GIVEN $KEPT $LOST" > /arguments
        WORKDIR /opt/$VERSION
        COPY file-$VERSION ./
        LABEL version=$VERSION
        """,
        {"file-1": "one\n"},
        options=("--build-arg", "GIVEN=given"),
    ),
    "copies": Case(
        """
        FROM base
        COPY tree /all/
        COPY tree/deep/ /deep/
        COPY to-file /file
        COPY tree/deep/program tree/link /etc/both/
        COPY *.txt /texts/
        COPY [ab].md /marks/
        COPY ["with space", "/spaces/"]
        COPY . /everything
        RUN mkdir -p /merged/deep && echo old > /merged/deep/program && echo kept > /merged/kept
        COPY tree /merged
        COPY a.md /merged/deep/program
        WORKDIR /work
        COPY a.md .
        COPY a.md sub/b
        """,
        {"a.txt": "a", "b.txt": "b", "a.md": "A", "b.md": "B", "c.md": "C", "with space": "s", "x/y/z": "z"},
        _links,
    ),
    "owners and modes": Case(
        """
        FROM base
        COPY --chown=ana:video tree /owned/new/
        COPY --chown=5:6 a.txt /numbers
        COPY --chmod=640 a.txt /mode
        COPY --chown=ana:ana --chmod=750 a.txt b.txt /both/
        """,
        {"a.txt": "a", "b.txt": "b"},
        _links,
    ),
    "ignored": Case(
        """
        FROM base
        COPY . /context
        """,
        {
            ".dockerignore": "# what is not wanted\n**/*.log\n!keep.log\nbuild\n/top\ndocs/*\n!docs/README\nx?z\n",
            "a.log": "1", "keep.log": "2", "sub/a.log": "3", "sub/keep.log": "4", "build/x": "5", "sub/build/x": "6",
            "top/x": "7", "sub/top/x": "8", "docs/a/b": "9", "docs/README": "10", "xyz": "11", "xyyz": "12",
        },
    ),
    "archives": Case(
        """
        FROM base
        ADD plain.tar /plain/
        ADD packed.tar.gz /packed
        ADD packed.tar.xz /xz/
        ADD no.tar.gz /no/
        ADD dir /dir
        COPY plain.tar /copied/
        """,
        {"no.tar.gz": "this is none\n", "dir/inside": "i"},
        lambda top: [
            make_tar(top / "plain.tar", {"a": "a", "sub/b": "b"}, "w"),
            make_tar(top / "packed.tar.gz", {"a": "a", "sub/b": "b"}, "w:gz"),
            make_tar(top / "packed.tar.xz", {"c": "c"}, "w:xz"),
        ],
    ),
    "a shell of one's own": Case(
        """
        FROM base
        SHELL ["/bin/busybox", "sh", "-e", "-c"]
        RUN echo "$0" > /shell; echo more >> /shell
        SHELL ["/usr/bin/python3", "-c"]
        RUN open("/python", "w").write("from python\\\\n")
        """
    ),
    "dpkg": Case(
        """
        FROM base
        COPY *.deb /tmp/
        RUN dpkg -i /tmp/first_1.0_all.deb && dpkg -i /tmp/second_1.0_all.deb && rm -f /tmp/*.deb
        RUN second > /ran
        """,
        make=_packages,
    ),
    "apt": Case(
        """
        FROM base
        COPY . /repository/
        RUN echo 'deb [trusted=yes] file:/repository ./' > /etc/apt/sources.list && \\
            apt-get update && \\
            apt-get install -y --no-install-recommends second && \\
            rm -rf /var/lib/apt/lists/* /repository
        """,
        make=_packages,
    ),
    "pip": Case(
        """
        FROM base
        ENV PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1
        WORKDIR /app
        COPY greeter-1.0-py3-none-any.whl .
        RUN python3 -m pip install --no-index --no-compile --root-user-action=ignore \\
            --break-system-packages ./greeter-1.0-py3-none-any.whl \\
         && rm greeter-1.0-py3-none-any.whl
        RUN python3 -c 'import greeter; greeter.main()' > said
        """,
        make=lambda top: make_wheel(top, "greeter"),
    ),
    "cache, secret and tmpfs mounts": Case(
        """
        FROM base
        RUN --mount=type=cache,target=/var/cache/mine echo kept > /var/cache/mine/file
        RUN --mount=type=cache,target=/var/cache/mine cat /var/cache/mine/file > /from-cache
        RUN --mount=type=secret,id=token wc -c < /run/secrets/token > /length
        RUN --mount=type=tmpfs,target=/scratch echo x > /scratch/x; mount | grep -c /scratch > /mounted
        """,
        options=("--secret", "id=token,src=token"),
        files={"token": "abcdef"},
    ),
    "bind mounts": Case(
        """
        FROM base AS made
        RUN mkdir /made && echo made > /made/file
        FROM base
        RUN --mount=type=bind,from=made,source=/made,target=/mnt cat /mnt/file > /copied
        RUN --mount=type=bind,source=src,target=/src cat /src/a > /context
        """,
        {"src/a": "a\n"},
    ),
    "heredocs": Case(
        """
        FROM base
        ENV WHO=ana
        RUN <<EOF
        echo one > /one
        echo "$WHO" > /who
        EOF
        RUN <<-TABS cat > /tabs
        \tindented
        \tTABS
        COPY <<CONF <<"RAW" /etc/app/
        who=$WHO
        CONF
        who=$WHO
        RAW
        COPY <<X /single
        x
        X
        """,
        {"CONF": "who=ana\n", "RAW": "who=$WHO\n", "X": "x\n"},
        for_buildah="""
        FROM base
        ENV WHO=ana
        RUN echo one > /one; echo "$WHO" > /who
        RUN echo indented > /tabs
        COPY CONF RAW /etc/app/
        COPY X /single
        """,
    ),
    "what goes away": Case(
        """
        FROM base
        RUN mkdir -p /d/sub && echo 1 > /d/a && echo 2 > /d/sub/b && ln /d/a /d/c && echo 3 > /gone
        RUN rm -r /d/sub /gone && mkdir /d/sub && echo new > /d/sub/c
        RUN rm /d/a && mv /d /moved
        """
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Buildah:
    """buildah with a storage of its own."""

    top: Path

    def __call__(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["buildah", "--root", self.top / "storage", "--runroot", self.top / "run", *arguments],
            capture_output=True, text=True, check=False, timeout=_SECONDS, cwd=cwd, stdin=subprocess.DEVNULL,
            env={
                "PATH": os.environ["PATH"], "HOME": str(self.top), "TMPDIR": str(self.top),
                "BUILDAH_ISOLATION": "chroot", "CONTAINERS_CONF": str(self.settings()),
            },
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def settings(self) -> Path:
        """Some versions of buildah raise the limits of processes, which not every root may; others lower them first."""
        path = self.top / "containers.conf"
        kinds = (("nofile", RLIMIT_NOFILE), ("nproc", RLIMIT_NPROC))
        least = {name: min(_LIMIT, *getrlimit(kind)) for name, kind in kinds}
        words = json.dumps([f"{name}={limit}:{limit}" for name, limit in least.items()])
        path.write_text(f"[containers]\ndefault_ulimits = {words}\n")
        return path

    def root(self, image: str) -> Path:
        """Where the files of an image are."""
        return Path(self("mount", self("from", "--pull-never", image)))


@pytest.fixture(scope="module")
def builders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cli, Buildah]]:
    """Both, with the same image and branch `base`."""
    top = tmp_path_factory.mktemp("builders")
    root = make_debian_root(top / "root")
    cli, buildah = Cli(top / "store"), Buildah(top / "buildah")
    buildah.top.mkdir()
    try:
        cli("init")
        cli("import", str(root), "-b", "base")
        container = buildah("from", "scratch")
        archive = top / "root.tar"
        subprocess.run(["tar", "-C", root, "-cf", archive, "--numeric-owner", "."], check=True, timeout=_SECONDS)
        buildah("add", container, str(archive), "/")
        buildah("commit", "--rm", container, "base")
        yield cli, buildah
    finally:
        remove_containers(cli)
        subprocess.run(
            ["buildah", "--root", buildah.top / "storage", "--runroot", buildah.top / "run",
             "rm", "--all"], capture_output=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        shutil.rmtree(buildah.top, ignore_errors=True)


def _text(dockerfile: str) -> str:
    lines = [line.removeprefix("        ") for line in dockerfile.strip("\n").split("\n")]
    return "\n".join(lines).rstrip(" ") + "\n"


def _compared(ours: Path, theirs: Path) -> list[str]:
    """What differs, times and what the builders leave behind aside."""
    left, right = describe(ours), describe(theirs)
    found = []
    for path in sorted(left.keys() | right.keys()):
        if not path or _THEIRS.fullmatch(path):  # of the root itself, buildah keeps nothing
            continue
        one, other = (
            {name: value for name, value in side.get(path, {}).items() if name not in ("mtime", "extents")}
            for side in (left, right)
        )
        if one != other:
            found.append(f"{os.fsdecode(path)}: {one} != {other}")
    return found


@pytest.mark.timeout(_SECONDS)
@pytest.mark.parametrize("name", CASES)
def test_the_tree_is_buildahs(name: str, builders: tuple[Cli, Buildah], tmp_path: Path) -> None:
    case, (cli, buildah) = CASES[name], builders
    context = tmp_path / "context"
    context.mkdir()
    for path, text in case.files.items():
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        (context / path).write_text(text)
    case.make(context)
    ours, theirs = tmp_path / "Dockerfile", tmp_path / "Dockerfile.buildah"
    ours.write_text(_text(case.dockerfile))
    theirs.write_text(_text(case.for_buildah or case.dockerfile))
    options = [word.replace("src=", f"src={context}/") for word in case.options]
    done = cli.process("build", "-f", str(ours), "-t", "built", *options, str(context))
    assert done.returncode == 0, done.stderr.decode()
    # Images of OCI's format have no place for SHELL and ONBUILD.
    buildah(
        "bud",
        "--layers=false",
        "--pull-never",
        "--format",
        "docker",
        "-f",
        str(theirs),
        "-t",
        "built",
        *options,
        str(context),
    )
    cli("export", "built", str(tmp_path / "out"))
    assert _compared(tmp_path / "out", buildah.root("built")) == []


def test_onbuild_is_done_in_the_child(builders: tuple[Cli, Buildah], tmp_path: Path) -> None:
    cli, buildah = builders
    (tmp_path / "app").write_text("app\n")
    (tmp_path / "parent").write_text(_text("""
        FROM base
        ONBUILD ARG LEVEL=3
        ONBUILD COPY app /srv/
        ONBUILD RUN echo "level $LEVEL" > /srv/level
        RUN echo parent > /parent
    """))  # fmt: skip
    (tmp_path / "child").write_text("FROM parent\nRUN cat /srv/app /srv/level > /all\n")
    for name in ("parent", "child"):
        done = cli.process("build", "-f", str(tmp_path / name), "-t", name, str(tmp_path))
        assert done.returncode == 0, done.stderr.decode()
        buildah("bud", "--layers=false", "--pull-never", "--format", "docker", "-f", str(tmp_path / name), "-t", name,
                str(tmp_path))  # fmt: skip
    assert cli.process("cat", "child:/all").stdout == b"app\nlevel 3\n"
    cli("export", "child", str(tmp_path / "out"))
    assert _compared(tmp_path / "out", buildah.root("child")) == []
