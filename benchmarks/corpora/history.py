"""A Debian root in which packages come, change and go: fifty steps of apt, the same each time and without a network.

The base holds what Debian's main archive has. Upgrades are real ones: first to what the security team and the
backporters released, then to the next Debian release. Package lists and packages are fetched once, by taking all
steps on a copy; from then on they are taken offline.

Package lists, packages and apt's caches lie outside of the root, as Docker's Debian images have it: a history of them
would be a benchmark of apt's caches.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.corpora import made_once
from benchmarks.corpora.debian import SUITE, debian, mirror

NEXT = "trixie"
"""The release that follows SUITE."""


def _sources() -> dict[str, str]:
    """By the name that steps use: lines of sources.list(5)."""
    site = mirror()
    main = f"deb {site} {SUITE} main"
    security = f"{main}\ndeb {site} {SUITE}-updates main\ndeb {site}-security {SUITE}-security main"
    following = f"deb {site} {NEXT} main\ndeb {site}-security {NEXT}-security main"
    return {
        "main": main,
        "security": security,
        "backports": f"{security}\ndeb {site} {SUITE}-backports main",
        "next": f"{security}\n{following}",
    }


_CONFIGURATION = """\
Dir::State::lists "/mnt/lists";
Dir::Cache::archives "/mnt/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourceparts "-";
Dir::Log "/mnt/log";
APT::Keep-Downloaded-Packages "true";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
DPkg::Options { "--force-unsafe-io"; "--force-confdef"; "--force-confold"; };
DPkg::Use-Pty "false";
"""

_IN_A_NAMESPACE = """\
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount --bind "$2" "$1/mnt"
root=$1
shift 2
exec chroot "$root" "$@"
"""

_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_CONFIG": "/mnt/apt.conf",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One call of apt-get. `sources` says which releases it may take packages from."""

    verb: str
    packages: str
    sources: str = "main"

    def __str__(self) -> str:
        return f"{self.verb} {self.packages}".strip()


STEPS = (
    Step("install", "nginx-light"),
    Step("install", "sqlite3"),
    Step("install", "redis-server"),
    Step("install", "curl wget rsync"),
    Step("install", "vim"),
    Step("install", "perl perl-base libperl5.36", "security"),
    Step("install", "php-cli"),
    Step("install", "openssl libssl3", "security"),
    Step("install", "tmux htop strace"),
    Step("install", "postgresql"),
    Step("install", "python3.11 python3.11-minimal libpython3.11-stdlib", "security"),
    Step("purge", "redis-server"),
    Step("autoremove", ""),
    Step("install", "memcached"),
    Step("install", "apache2"),
    Step("install", "nginx-light", "security"),
    Step("install", "nodejs"),
    Step("install", "linux-libc-dev", "security"),
    Step("purge", "php-cli"),
    Step("autoremove", ""),
    Step("install", "gdb", "security"),
    Step("install", "imagemagick"),
    Step("upgrade", "", "security"),
    Step("install", "cmake", "security"),
    Step("install", "openjdk-17-jre-headless"),
    Step("purge", "vim vim-runtime"),
    Step("install", "mercurial", "security"),
    Step("install", "openjdk-17-jre-headless", "security"),
    Step("install", "python3-numpy", "security"),
    Step("install", "ruby", "security"),
    Step("install", "tmux", "backports"),
    Step("install", "cmake", "backports"),
    Step("purge", "nodejs"),
    Step("autoremove", ""),
    Step("install", "graphviz", "security"),
    Step("install", "linux-libc-dev", "backports"),
    Step("purge", "openjdk-17-jre-headless"),
    Step("autoremove", ""),
    Step("install", "libc6 libc-bin libc6-dev", "next"),
    Step("install", "bash grep sed", "next"),
    Step("install", "coreutils tar gzip findutils", "next"),
    Step("install", "git", "next"),
    Step("install", "nginx-light", "next"),
    Step("install", "binutils make", "next"),
    Step("install", "sqlite3 strace htop", "next"),
    Step("install", "perl", "next"),
    Step("install", "gcc g++", "next"),
    Step("install", "python3", "next"),
    Step("dist-upgrade", "", "next"),
    Step("autoremove", ""),
)


def history(place: Path) -> None:
    """Make a directory with the base root and everything that the steps need."""
    apt = place / "apt"
    for name in ("lists/partial", "archives/partial", "log"):
        (apt / name).mkdir(parents=True)
    (apt / "apt.conf").write_text(_CONFIGURATION)
    sources = _sources()
    for name, lines in sources.items():
        (apt / f"{name}.list").write_text(lines + "\n")
    (apt / "all.list").write_text("\n".join(sorted(set("\n".join(sources.values()).splitlines()))) + "\n")
    base = place / "base"
    debian(base, sources["main"])
    refuse = base / "usr/sbin/policy-rc.d"  # no service is started in a chroot
    refuse.write_text("#!/bin/sh\nexit 101\n")
    refuse.chmod(0o755)
    trial = place / "trial"
    copy(base, trial)
    _apt(trial, apt, "all", "update")
    for step in STEPS:
        _apt(trial, apt, step.sources, step.verb, *step.packages.split())
    shutil.rmtree(trial)


def copy(source: Path, target: Path) -> None:
    """A tree with every attribute."""
    subprocess.run(["cp", "-a", source, target], check=True)


def play(place: Path, root: Path, steps: int = len(STEPS)) -> Iterator[Step]:
    """Copy the base to `root` and take the first steps on it; each is yielded when the root is as it left it.

    RuntimeError if apt fails, or if a step changes no package.
    """
    copy(place / "base", root)
    for step in STEPS[:steps]:
        before = (root / "var/lib/dpkg/status").read_bytes()
        _apt(root, place / "apt", step.sources, "--no-download", step.verb, *step.packages.split())
        if before == (root / "var/lib/dpkg/status").read_bytes():
            raise RuntimeError(f"a step of the history changed nothing: {step}")
        yield step


def _apt(root: Path, apt: Path, sources: str, *words: str) -> None:
    """apt-get in a root, in namespaces of its own: nothing stays mounted, no process stays behind."""
    command: list[str | Path] = [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
        "sh", "-ec", _IN_A_NAMESPACE, "sh", root, apt,
        "apt-get", "-q", "-o", f"Dir::Etc::sourcelist=/mnt/{sources}.list", *words,
    ]  # fmt: skip
    if sources == "backports":  # which are taken only by who asks for them
        command += ["-o", f"APT::Default-Release={SUITE}-backports"]
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        last = (done.stdout + done.stderr).decode(errors="replace")[-1500:]
        raise RuntimeError(f"apt-get {' '.join(words)} ended with {done.returncode}: {last}")


def history_once(place: Path) -> Path:
    """`place`, made if it is not there."""
    return made_once(place, history)
