"""What people and their tools write: Dockerfiles, patterns, options, env files; and the attributes of overlayfs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from runtime.building.dockerignore import Rules
from runtime.building.parser import parse
from runtime.building.stages import Plan
from runtime.building.variables import split_words, substituted, substituted_raw
from runtime.cli import specs
from runtime.cli.variables import environment_of
from runtime.upper.conventions import TRUSTED, USER, separate
from tests.fuzz.stores import _file
from tests.fuzz.target import Target
from vcs.ignore import Patterns, Selection, patterns_in

_BASE = {"os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "OnBuild": ["RUN x"]}}
_DOCKERFILES = (
    b"# syntax=docker/dockerfile:1\n# escape=`\nARG V=1\nFROM base:$V AS one\nRUN --mount=type=cache,target=/c a `\n  b\n",
    b"FROM scratch\nCOPY --chown=1:2 --chmod=755 a b /c/\nADD <<E /x\ntext $A\nE\nENV A=b C=\"d e\" F='g'\nLABEL a=b\n",
    b"FROM a\nHEALTHCHECK --interval=5s CMD x\nEXPOSE 80/udp\nVOLUME [\"/a\"]\nWORKDIR w\nUSER 1\nSHELL [\"sh\"]\nSTOPSIGNAL 9\n",
    b"FROM a AS b\nONBUILD RUN x\nFROM b\nCOPY --from=0 ${A:-x} /y\nRUN <<-'E' cat\n\tz\n\tE\nCMD [\"a\", \"b\"]\nENTRYPOINT x y\n",
    b"FROM a\nRUN --mount=type=secret,id=s,required --mount=type=tmpfs,target=/t,size=1m --mount=type=bind,from=x,target=/b y\n",
)  # fmt: skip
_PATHS = ("a", "a/b", "src/lib/x.py", "a" * 40, "a" * 200, "/".join("a" * 40))


def dockerfile(data: bytes) -> None:
    plan = Plan(parse(data), lambda *_: _BASE, arguments={"V": "2"})
    assert plan.stages


def dockerignore(data: bytes) -> None:
    rules = Rules(data.decode("utf-8", "surrogateescape").splitlines())
    for path in _PATHS:
        rules.leaves_out(path)


def ignore(data: bytes) -> None:
    patterns = Patterns(patterns_in(data, "file"))
    for path in _PATHS:
        patterns.decide(path, True)
    Selection(patterns).has(b"a/b/c", is_dir=False)


def variables(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for read in (
        split_words,
        lambda text: substituted(text, {"a": "b"}),
        lambda text: substituted_raw(text, {"a": ""}),
    ):
        try:
            read(text)
        except ValueError:
            pass


def attributes(data: bytes) -> None:
    """Pairs of a name and a value, apart by NULs."""
    words = data.split(b"\0")
    xattrs = tuple(sorted(dict(zip(words[::2], words[1::2], strict=False)).items()))
    for prefix in (TRUSTED, USER):
        _, kept = separate(xattrs, prefix)
        assert list(kept) == sorted(kept)


def env_file(data: bytes) -> None:
    with _file("env", data) as path:
        for line in environment_of((), [path]):
            assert "\0" not in line


_OPTIONS: tuple[Callable[[str], Any], ...] = (
    specs.size, specs.memory, specs.cpus, specs.pids, specs.duration, specs.volume, specs.mount, specs.tmpfs, specs.ports,
    specs.host_line, specs.hostname, specs.network, specs.restart, specs.label, specs.autocommit, specs.stop_signal,
    specs.entrypoint, lambda text: specs.security_options((text,)),
)  # fmt: skip


def options(data: bytes) -> None:
    """Each option's word must be one, or a ValueError, which the command line turns into a usage error."""
    text = data.decode("utf-8", "surrogateescape")
    for read in _OPTIONS:
        try:
            read(text)
        except ValueError:
            pass


_SPECS = (
    b"8080:80", b"[::1]:53:53/udp", b"80-90:80-90", b"/srv:/data:ro", b"type=bind,src=/a,dst=/b,ro", b"type=tmpfs,dst=/run",
    b"/run:size=64m,exec", b"512m", b"1h30m", b"on-failure:3", b"every=5m", b"SIGRTMIN+3", b"db:10.0.0.7",
    b"sh -c 'echo'", b"seccomp=unconfined", b"no-new-privileges:true",
)  # fmt: skip

TARGETS = (
    Target(
        "dockerfile", dockerfile, lambda: _DOCKERFILES,
        (b"FROM a\n", b"ONBUILD ", b"<<E\n", b"\\\n", b"${", b":-", b"--mount=", b"--from=", b"[\"a\"", b"ARG A=", b"  ", b"ENV "),
    ),
    Target("dockerignore", dockerignore, lambda: [b"# c\n*.py\n!a/**/b\n[a-z]?\\*\n**/x\n"], (b"**/", b"*a", b"[^", b"!")),
    Target("ignore", ignore, lambda: [b"# c\n*.py\n!a/**/b\n/x/\n[a-z]?\\*\n\\#d\n"], (b"**/", b"*a", b"[!", b"[[:alpha:]]", b"!")),
    Target("variables", variables, lambda: [b"a-$a${b:-'c d'}\\$e \"f$a\"", b"${a:?no}${a+x}"], (b"${a:-", b"}", b"\\")),
    Target(
        "overlay-attributes", attributes,
        lambda: [
            b"trusted.overlay.opaque\0y\0trusted.overlay.redirect\0/a/b\0user.k\0v",
            b"user.overlay.overlay.x\0y\0trusted.overlay.metacopy\0\0user.overlay.whiteout\0y",
        ],
        (b"trusted.overlay.", b"user.overlay.", b"overlay.", b"redirect\0", b"metacopy\0"),
    ),
    Target("env-file", env_file, lambda: [b"A=b\n# c\n  D=e f\nPATH\n"], refusals=(click.BadParameter,)),
    Target("options", options, lambda: _SPECS, (b":", b",", b"=", b"/", b"-", b"1", b"tmpfs-size=")),
)  # fmt: skip
